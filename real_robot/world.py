"""Between the arm's frame and units and those of the training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from real_robot.contract import RobotFeatures
from real_robot.poses import Pose, log_map
from real_robot.types import Array, Target

__all__ = ["OSC_LIMITS", "World"]

OSC_LIMITS = (0.05, 0.5)
"""Metres and radians that a relative action of 1 asks for: those of the OSC_POSE controller of the data sets."""


@dataclass(frozen=True, eq=False)
class World:
    """base: pose of the base in the world frame. gripper: (closed, open) in metres."""

    base: Pose
    gripper: tuple[float, float]

    @classmethod
    def of(cls, features: RobotFeatures) -> World:
        """That of a robot."""
        return cls(Pose.from_rotvec(features.base_position, [0, 0, features.base_yaw]), features.gripper)

    def fingers(self, opening: float) -> float:
        """Opening in metres -> -1 open, +1 closed, as actions have it."""
        closed, opened = self.gripper
        return float(np.clip(1 - 2 * (opening - closed) / (opened - closed), -1, 1))

    def action(self, target: Target) -> Array:
        """(7,) absolute: position and rotation vector in the world, gripper."""
        pose = self.base @ target.pose
        return np.array([*pose.position, *pose.rotvec, self.fingers(target.gripper)])

    def target(self, action: ArrayLike) -> Target:
        """The target of an absolute action (7,)."""
        a = np.asarray(action, np.float64)
        closed, opened = self.gripper
        pose = self.base.inverse() @ Pose.from_rotvec(a[:3], a[3:6])
        return Target(pose, float(closed + (1 - np.clip(a[6], -1, 1)) / 2 * (opened - closed)))

    def relative(self, target: Target, measured: Pose, limits: tuple[float, float] = OSC_LIMITS) -> Array:
        """(7,) the OSC_POSE delta in the world, cut to [-1, 1], that asks for `target` from where the arm is."""
        goal, here = self.base @ target.pose, self.base @ measured
        move = (goal.position - here.position) / limits[0]
        turn = log_map(goal.rotation @ here.rotation.T) / limits[1]
        return np.array([*np.clip([*move, *turn], -1, 1), self.fingers(target.gripper)])
