"""What comes in, looked at before anything is done with it: targets and measured states of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from real_robot.poses import Pose
from real_robot.safety.limits import SafetyLimits
from real_robot.types import Array, RobotMode, RobotState, Target

__all__ = ["SafetyFault", "Wanted", "admit_state", "admit_target"]

_EYE = np.eye(3)


@dataclass(frozen=True)
class SafetyFault:
    """name: state, stale_state, clock, mode, force, joint_limit, tracking or look_ahead; detail: what was seen."""

    name: str
    detail: str


class Wanted(NamedTuple):
    """A target of which every number was looked at: position (3,), rotation (3, 3), gripper metres."""

    position: Array
    rotation: Array
    gripper: float


def _pose(pose: object) -> tuple[Array, Array] | None:
    """Position and rotation of what should be a Pose, whatever was done to it; None if it is none."""
    if not isinstance(pose, Pose):
        return None
    position, rotation = _numbers(pose.position, (3,), 1e3), _numbers(pose.rotation, (3, 3), 1.001)
    if position is None or rotation is None:
        return None
    x, y, z = rotation.tolist()
    volume = (
        x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0])
    )
    if volume < 0.9 or np.abs(rotation @ rotation.T - _EYE).max() > 1e-3:
        return None
    return position, rotation


def _numbers(value: object, shape: tuple[int, ...], most: float = 1e9) -> Array | None:
    """`value` as numbers of that shape, each at most `most` from 0, or None."""
    try:
        array = np.array(value)
    except ValueError:  # lists of different lengths
        return None
    if array.shape != shape or array.dtype.kind not in "fiu":  # complex numbers, texts and objects are none
        return None
    array = array.astype(np.float64)
    flat = array.ravel().tolist()
    # a comparison with NaN is false
    return array if all(-most <= number <= most for number in flat) else None


def admit_target(target: object) -> Wanted | None:
    """The target as plain finite numbers, or None for anything else."""
    if not isinstance(target, Target):
        return None
    pose, gripper = _pose(target.pose), _numbers(target.gripper, ())
    if pose is None or gripper is None:
        return None
    position, rotation = pose
    for _ in range(2):  # Newton's way to the nearest rotation
        square = rotation.T @ rotation
        if np.abs(square - _EYE).max() < 1e-14:
            break
        rotation = rotation @ (1.5 * _EYE - 0.5 * square)
    return Wanted(position, rotation, float(gripper))


def admit_state(state: object, now: float, limits: SafetyLimits, low: Array, high: Array) -> SafetyFault | None:
    """What is wrong with a measured state at time `now`; low, high (n,): hard joint limits."""
    if not isinstance(state, RobotState):
        return SafetyFault("state", f"expected a RobotState, got {type(state).__name__}")
    stamp, joints = _numbers(state.stamp, ()), _numbers(state.joints, low.shape)
    if stamp is None or joints is None or _numbers(state.gripper, ()) is None or _pose(state.pose) is None:
        return SafetyFault("state", f"the measured state is not {len(low)} finite joints, a pose, a gripper, a stamp")
    age = now - float(stamp)
    if age > limits.max_state_age:
        return SafetyFault("stale_state", f"measured {age:.3f} s ago, allowed are {limits.max_state_age} s")
    if age < -limits.max_state_age:
        return SafetyFault("clock", f"measured {-age:.3f} s in the future; all stamps have to be of the run's clock")
    if state.mode is not RobotMode.READY:
        return SafetyFault("mode", f"the arm's controller says {getattr(state.mode, 'value', state.mode)}")
    if ((joints < low) | (joints > high)).any():
        number = int(np.flatnonzero((joints < low) | (joints > high))[0])
        return SafetyFault("joint_limit", f"joint {number + 1} was measured at {joints[number]:.3f} rad")
    return _wrench(state.wrench, limits)


def _wrench(wrench: object, limits: SafetyLimits) -> SafetyFault | None:
    if limits.force is None and limits.torque is None:
        return None
    measured = _numbers(wrench, (6,))
    if measured is None:
        return SafetyFault("force", "no wrench was measured, though safety.force or safety.torque limits it")
    for name, value, limit, unit in (
        ("force", measured[:3], limits.force, "N"),
        ("torque", measured[3:], limits.torque, "Nm"),
    ):
        length = float(np.linalg.norm(value))
        if limit is not None and length > limit:
            return SafetyFault("force", f"{name} {length:.1f} {unit}, allowed are {limit} {unit}")
    return None
