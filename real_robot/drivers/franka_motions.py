"""The motions that franky is asked for: following targets, going home, and the end of either."""

from __future__ import annotations

from typing import Any

import numpy as np

from real_robot.drivers.franka_library import affine_of
from real_robot.drivers.franka_settings import FrankaSettings
from real_robot.poses import Pose
from real_robot.types import Array

__all__ = ["Line", "braking", "following", "homing", "reference"]

Line = tuple[Pose, float, Pose, float]
"""Of the tool: from a pose at a time to a pose at a time."""
_BRAKE = np.array([50.0, 50, 50, 50, 30, 25, 15])
"""Nms/rad of a stop: the damping of libfranka's example joint_impedance_control."""


def following(franky: Any, settings: FrankaSettings, at: Pose) -> Any:
    """The impedance that follows references, of which the first is `at`, of the controller's end effector."""
    low, high, _ = settings.joint_limits
    motion = franky.CartesianImpedanceTrackingMotion(
        translational_stiffness=settings.translational_stiffness,
        rotational_stiffness=settings.rotational_stiffness,
        lower_joint_limits=low,
        upper_joint_limits=high,
    )
    motion.set_reference(franky.CartesianReference(target=affine_of(franky, at)))
    return motion


def reference(franky: Any, line: Line, now: float, to_tool: Pose) -> Any:
    """Where on its line the tool is to be at `now`, and how fast; to_tool: seen from the controller's end effector."""
    begin, t0, end, t1 = line
    share, to_effector = min(1.0, (now - t0) / (t1 - t0)), to_tool.inverse()
    target = affine_of(franky, begin.towards(end, share) @ to_effector)
    if share >= 1.0:
        return franky.CartesianReference(target=target)
    away = (end @ to_effector).position - (begin @ to_effector).position
    turn = begin.rotation @ Pose([0, 0, 0], begin.rotation.T @ end.rotation).rotvec
    return franky.CartesianReference(target=target, target_twist=franky.Twist(away / (t1 - t0), turn / (t1 - t0)))


def homing(franky: Any, goal: Array, speed: float, acceleration: float) -> Any:
    """To joints (7,) rad, by joint positions; speed, acceleration: as shares of what the arm can do."""
    return franky.JointMotion(
        goal, relative_dynamics_factor=franky.RelativeDynamicsFactor(speed, acceleration, acceleration)
    )


def braking(franky: Any, homing: bool, within: float) -> Any:
    """To rest, in `within` seconds at most; a stop has to send the kind of signal that the motion under way does."""
    if homing:
        return franky.JointStopMotion()
    # franky's own damping of 14 Nms/rad and ramp of 0.2 s let the arm run on twice as far
    return franky.TorqueStopMotion(damping=_BRAKE, ramp_duration=0.02, max_duration=within)
