"""From a configuration to devices: `robot.driver` and `cameras.<name>.driver` name what is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.config import did_you_mean
from real_robot.camera_process import CameraProcess
from real_robot.clock import Clock, MonotonicClock
from real_robot.contract import Camera, Robot
from real_robot.poses import Pose
from real_robot.safety import SafetyGate, SafetyLimits
from real_robot.teleop.parts import Parts

__all__ = [
    "BuildError",
    "build_cameras",
    "build_gate",
    "build_parts",
    "build_robot",
    "calibration_files",
    "clock_of",
    "driver_of",
    "plain",
]


class BuildError(ValueError):
    """A configuration that names no device; the message says which key and what there is."""


def plain(node: Any) -> dict[str, Any]:
    """A node of the configuration as plain values."""
    tree: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return dict(tree or {})


def _ur(node: Mapping[str, Any]) -> Robot:
    from real_robot.drivers.ur import URRobot
    from real_robot.drivers.ur_settings import URSettings

    return URRobot(URSettings.from_config(node))


def _franka(node: Mapping[str, Any]) -> Robot:
    from real_robot.drivers.franka import FrankaRobot
    from real_robot.drivers.franka_settings import FrankaSettings

    return FrankaRobot(FrankaSettings(**node))


def _ros2(node: Mapping[str, Any]) -> Robot:
    from real_robot.drivers.ros2 import Ros2Robot, Ros2Settings

    return Ros2Robot(Ros2Settings(**node))


def _sim(node: Mapping[str, Any]) -> Robot:
    from real_robot.sim.setting import make_robot

    return make_robot(node)


_ROBOTS: dict[str, Callable[[Mapping[str, Any]], Robot]] = {"ur": _ur, "franka": _franka, "ros2": _ros2, "sim": _sim}


def driver_of(node: Any) -> str:
    """The key `driver` of the node `robot`. BuildError for one that does not exist."""
    name = plain(node).get("driver")
    if name not in _ROBOTS:
        raise BuildError(
            f"robot.driver: expected one of {', '.join(_ROBOTS)}, got {name!r}{did_you_mean(str(name), _ROBOTS)}"
        )
    return str(name)


def build_robot(node: Any) -> Robot:
    """The arm of the node `robot`, not connected. BuildError for a driver that does not exist."""
    name, values = driver_of(node), plain(node)
    del values["driver"]
    return _ROBOTS[name](values)


def build_gate(limits: SafetyLimits, robot: Robot) -> SafetyGate:
    """The gate of a robot. BuildError for a driver that does not tell its tool."""
    tool, base = getattr(robot, "tool", None), getattr(robot, "maker_base", None)
    if not isinstance(tool, Pose):
        raise BuildError(
            f"{type(robot).__name__} has no `tool` (the tool seen from the maker's flange, a Pose), which the safety "
            "gate needs for its inverse kinematics"
        )
    return SafetyGate.for_robot(limits, robot.features, tool, base)


def _opencv(name: str, node: dict[str, Any]) -> Callable[[], Camera]:
    from real_robot.drivers.opencv import OpenCVCamera, OpenCVSettings

    if node.get("intrinsics") is not None:
        node["intrinsics"] = tuple(tuple(row) for row in node["intrinsics"])
    return partial(OpenCVCamera, OpenCVSettings(**{"name": name, **node}))


def _realsense(name: str, node: dict[str, Any]) -> Callable[[], Camera]:
    from real_robot.drivers.realsense import RealSenseCamera, RealSenseSettings

    return partial(RealSenseCamera, RealSenseSettings(**{"name": name, **node}))


def _simulated(name: str, node: dict[str, Any], robot: Any) -> Camera:
    from real_robot.sim.camera import SimCamera, SimCameraSettings

    return SimCamera(robot.world, SimCameraSettings(**{"name": name, **node}))


_CAMERAS = {"opencv": _opencv, "realsense": _realsense}


def build_cameras(node: Any, robot: Robot | None = None) -> dict[str, Any]:
    """{name: camera in a process of its own} of the node `cameras`; the key `calibration` is left to the caller.

    robot: the simulated arm whose scene cameras of driver "sim" look at; they are in its process.
    """
    cameras: dict[str, Any] = {}
    for name, values in plain(node).items():
        values = dict(values)
        values.pop("calibration", None)
        driver = values.pop("driver", None)
        known = [*_CAMERAS, *(["sim"] if hasattr(robot, "world") else [])]
        if driver not in known:
            raise BuildError(
                f"cameras.{name}.driver: expected one of {', '.join(known)}, got {driver!r}"
                f"{did_you_mean(str(driver), known)}"
            )
        try:
            if driver == "sim":
                cameras[name] = _simulated(name, values, robot)
                continue
            stale = _stale(name, values.pop("stale", 0.5))
            cameras[name] = CameraProcess(_CAMERAS[driver](name, values), stale=stale)
        except TypeError as error:
            raise BuildError(f"cameras.{name}: {error}") from error
    return cameras


def _stale(camera: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BuildError(f"cameras.{camera}.stale: expected seconds above 0 without a picture, got {value!r}")
    return float(value)


def clock_of(robot: Robot) -> Clock:
    """The clock of a run with this arm: a simulated one brings its own."""
    clock = getattr(robot, "clock", None)
    return MonotonicClock() if clock is None else clock


def build_parts(config: DictConfig) -> Parts:
    """Arm, gate, cameras and clock of the nodes robot, safety and cameras."""
    limits = SafetyLimits.from_config(plain(config.safety))
    robot = build_robot(config.robot)
    cameras = build_cameras(config.get("cameras"), robot)
    return Parts(robot, partial(build_gate, limits), cameras, clock_of(robot))


def calibration_files(node: Any) -> dict[str, Path]:
    """{camera: its calibration file} of the node `cameras`. BuildError for one without."""
    files = {}
    for name, values in plain(node).items():
        if not values.get("calibration"):
            raise BuildError(
                f"cameras.{name}.calibration: is not set; python -m real_robot.calibration makes that file"
            )
        files[name] = Path(values["calibration"])
    return files
