"""`Sensor`: where observations come from, each with its own delay, read at the same times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from real_robot.loop.history import StateHistory
from real_robot.poses import Pose
from real_robot.types import CameraFrame, RobotState
from real_robot.world import World

__all__ = ["CameraSensor", "FrameSource", "RobotSensor", "Sensor", "proprioception"]

Arrays = dict[str, NDArray[Any]]


class Sensor(ABC):
    """Gives some of the policy's observations for past times."""

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Observations it gives."""

    @property
    @abstractmethod
    def newest(self) -> float:
        """Time of the newest measurement (of the slowest device, if there are several). DeviceError when it is lost."""

    @abstractmethod
    def at(self, stamp: float) -> Arrays:
        """{key: array} as it was at `stamp`, in the world frame of the training data. DeviceError when it is lost."""


def proprioception(state: RobotState, world: World) -> Arrays:
    """The gripper as the training data have it: robot0_eef_pos (3), robot0_eef_quat_site (4) xyzw in the world, and
    robot0_gripper_qpos (2), the fingers' positions, +- half the opening in metres."""
    pose = world.base @ state.pose
    return {
        "robot0_eef_pos": pose.position.astype(np.float32),
        "robot0_eef_quat_site": pose.quat.astype(np.float32),
        "robot0_gripper_qpos": np.array([state.gripper / 2, -state.gripper / 2], np.float32),
    }


class RobotSensor(Sensor):
    """`proprioception` at any time."""

    keys = ("robot0_eef_pos", "robot0_eef_quat_site", "robot0_gripper_qpos")

    def __init__(self, history: StateHistory, world: World) -> None:
        self._history, self._world = history, world

    @property
    def newest(self) -> float:
        return self._history.newest.stamp

    def at(self, stamp: float) -> Arrays:
        return proprioception(self._history.at(stamp), self._world)


class FrameSource(Protocol):
    """As `CameraProcess`: pictures of the past by time of capture."""

    def latest(self) -> CameraFrame:
        """The newest picture, at once."""

    def history(self, stamps: Sequence[float]) -> list[CameraFrame]:
        """For each time the picture captured nearest to it."""


class CameraSensor(Sensor):
    """Pictures of one or more cameras as observations.

    observe: {camera: frame}, {camera on the gripper: pose of the tool in the base frame when it was captured} ->
    observations; `real_robot.calibration.live.Scene.observe`. on_gripper: the cameras that need the latter. listener:
    hears name, number and time of capture of every picture that is seen for the first time.
    """

    def __init__(
        self,
        keys: Sequence[str],
        cameras: Mapping[str, FrameSource],
        observe: Callable[[Mapping[str, CameraFrame], Mapping[str, Pose]], Arrays],
        history: StateHistory,
        on_gripper: Sequence[str] = (),
        listener: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self._keys, self._cameras, self._observe = tuple(keys), dict(cameras), observe
        self._history, self._on_gripper, self.listener = history, tuple(on_gripper), listener
        self._numbers = dict.fromkeys(cameras, -1)

    @property
    def keys(self) -> tuple[str, ...]:
        return self._keys

    @property
    def newest(self) -> float:
        frames = {name: camera.latest() for name, camera in self._cameras.items()}
        for name, frame in frames.items():
            if frame.number != self._numbers[name]:
                self._numbers[name] = frame.number
                if self.listener is not None:
                    self.listener(name, frame.number, frame.stamp)
        return min(frame.stamp for frame in frames.values())

    def at(self, stamp: float) -> Arrays:
        frames = {name: camera.history([stamp])[0] for name, camera in self._cameras.items()}
        tools = {name: self._history.at(frames[name].stamp).pose for name in self._on_gripper}
        return self._observe(frames, tools)
