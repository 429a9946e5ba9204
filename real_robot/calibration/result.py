"""`CameraCalibration` and `BaseCalibration`: what calibration found, as JSON files, with all its errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from real_robot.calibration.board import CalibrationError
from real_robot.calibration.hand_eye import MOUNTS
from real_robot.calibration.lens import Lens
from real_robot.poses import Pose, exp_map

__all__ = [
    "BaseCalibration", "BaseInWorld", "CameraCalibration", "load_base", "load_calibration", "save_base",
    "save_calibration",
]  # fmt: skip

_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True)
class BaseInWorld:
    """Where the base stands in the world frame of the training data: yaw about the vertical, radians, and position,
    metres. Without tilt: `check_symmetry_axis` refuses an arm that has one."""

    yaw: float = 0.0
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.position) != 3 or not all(math.isfinite(v) for v in (self.yaw, *self.position)):
            raise CalibrationError(
                f"base: expected a yaw in radians and a position (x, y, z) in metres, got yaw={self.yaw}, "
                f"position={self.position}"
            )
        if abs(self.yaw) > 2 * math.pi:
            raise CalibrationError(f"base.yaw: expected radians, got {self.yaw}")

    @property
    def pose(self) -> Pose:
        """Of the base in the world."""
        return Pose(self.position, exp_map([0.0, 0.0, self.yaw]))


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """A camera's lens and place. mount "hand": pose is in the tool's frame; "base": in the base's frame. The camera's
    axes are OpenCV's: x right, y down, z into the scene.

    errors: reprojection_px, rotation_rad and translation_m (one standard error by leaving out each picture), pictures,
    and what else is known. axis: what `check_symmetry_axis` found, or None if it was not checked.
    """

    camera: str
    mount: str
    pose: Pose
    lens: Lens
    base: BaseInWorld = field(default_factory=BaseInWorld)
    errors: Mapping[str, Any] = field(default_factory=dict)
    axis: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.mount not in MOUNTS:
            raise CalibrationError(f"camera {self.camera!r}: mount is {' or '.join(MOUNTS)}, got {self.mount!r}")


@dataclass(frozen=True, eq=False)
class BaseCalibration:
    """Where the base stands, and what `check_symmetry_axis` found of it; for arms without cameras."""

    base: BaseInWorld
    axis: Mapping[str, Any]


def save_calibration(found: CameraCalibration, path: Path) -> None:
    """Write the file, whole or not at all."""
    tree = {
        "camera": found.camera,
        "mount": found.mount,
        "pose": {"position": found.pose.position.tolist(), "quat_xyzw": found.pose.quat.tolist()},
        "lens": found.lens.to_json(),
        "base": asdict(found.base),
        "errors": dict(found.errors),
        "axis": None if found.axis is None else dict(found.axis),
    }
    _write(tree, path)


def load_calibration(path: Path) -> CameraCalibration:
    """Read such a file. CalibrationError that names the file and the key that does not fit."""
    return _read(path, "a camera", _camera_of)


def save_base(found: BaseCalibration, path: Path) -> None:
    """Write the file, whole or not at all."""
    _write({"base": asdict(found.base), "axis": dict(found.axis)}, path)


def load_base(path: Path) -> BaseCalibration:
    """Read such a file. CalibrationError that names the file and the key that does not fit."""
    return _read(path, "a base", lambda tree: BaseCalibration(_base_of(tree["base"]), dict(tree["axis"])))


def _camera_of(tree: Mapping[str, Any]) -> CameraCalibration:
    lens = tree["lens"]
    return CameraCalibration(
        str(tree["camera"]),
        str(tree["mount"]),
        Pose.from_quat(tree["pose"]["position"], tree["pose"]["quat_xyzw"]),
        Lens(
            np.asarray(lens["matrix"], np.float64),
            int(lens["width"]),
            int(lens["height"]),
            np.asarray(lens["distortion"], np.float64),
            {str(k): float(v) for k, v in lens["errors"].items()},
        ),
        _base_of(tree["base"]),
        dict(tree["errors"]),
        None if tree["axis"] is None else dict(tree["axis"]),
    )


def _base_of(tree: Mapping[str, Any]) -> BaseInWorld:
    return BaseInWorld(float(tree["yaw"]), tuple(float(v) for v in tree["position"]))  # type: ignore[arg-type]


def _write(tree: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps({"version": _VERSION, **tree}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def _read(path: Path, what: str, make: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["version"] != _VERSION:
            raise CalibrationError(f"version {tree['version']!r}, expected {_VERSION}; calibrate again")
        return make(tree)
    except KeyError as error:
        raise CalibrationError(f"{path}: {error} is missing; calibrate again") from error
    except (OSError, ValueError, TypeError, AttributeError, CalibrationError) as error:
        raise CalibrationError(f"{path}: not a calibration of {what}: {error}") from error
