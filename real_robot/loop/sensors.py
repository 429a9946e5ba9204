"""`Sensor`: where observations come from, each with its own delay, read at the same times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.loop.history import StateHistory
from real_robot.types import RobotState
from real_robot.world import World

__all__ = ["RobotSensor", "Sensor", "proprioception"]

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
