"""`Reach`: the joints of every setpoint and of the way to rest from it, ahead of sending it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from real_robot.kinematics import Arm, KinematicsError
from real_robot.poses import Pose
from real_robot.types import Array

__all__ = ["Ahead", "JointLimits", "Reach"]

_EXACT, _ROUGH, _DAMPING = 1e-7, 1e-4, 1e-4
_LIMIT_SLACK = 2e-3  # rad, for what a joint does between two samples of the way to rest
_SPEED_SLACK = 0.95  # likewise for its speed
_STILL = 1e-6  # rad, rounding of a joint that stands
_POSTURE_SPEED = 0.02  # rad/s at which a redundant arm's solution follows the measured joints


class JointLimits(NamedTuple):
    """low, high (n,) rad with the margin taken off, speed (n,) rad/s."""

    low: Array
    high: Array
    speed: Array


class Ahead(NamedTuple):
    """Joints (k, n) at evenly spaced times (k,) from a setpoint on, the first for the setpoint; speed: the share of its
    limit that the fastest joint used to get there."""

    times: Array
    joints: Array
    speed: float

    def at(self, times: Array) -> Array:
        """Joints (m, n) at times (m,), on the straight line between two samples; the last one afterwards."""
        if len(self.times) == 1:
            return np.repeat(self.joints, len(times), axis=0)
        place = np.minimum(times / self.times[1], len(self.times) - 1)  # evenly spaced
        i = np.minimum(place.astype(np.int64), len(self.times) - 2)
        before = self.joints[i]
        return np.asarray(before + (place - i)[:, None] * (self.joints[i + 1] - before))


class Reach:
    """Follows the setpoint in joint space, from the measured joints on: always the branch in which the arm is."""

    def __init__(self, arm: Arm, limits: JointLimits, dt: float) -> None:
        self._arm, self.limits, self._dt = arm, limits, dt
        self.joints, self._change = np.zeros(arm.dof), np.zeros(arm.dof)
        self._measured = self.joints
        self._ahead = Ahead(np.zeros(1), self.joints[None], 0.0)
        self._elapsed = 0.0

    def reset(self, pose: Pose, joints: Array) -> str | None:
        """Start at a pose from measured joints (n,); words when it cannot."""
        try:
            found = self._arm.inverse(pose, joints, tolerance=_EXACT)
        except KinematicsError as error:
            return str(error)
        outside = (found < self.limits.low) | (found > self.limits.high)
        if outside.any():
            number = int(np.flatnonzero(outside)[0])
            return (
                f"joint {number + 1} stands at {found[number]:.3f} rad, allowed are {self.limits.low[number]:.3f} to "
                f"{self.limits.high[number]:.3f} (limits less joint_margin); move the arm there first"
            )
        self.joints, self._change, self._measured = found, np.zeros(self._arm.dof), joints
        self._ahead, self._elapsed = Ahead(np.zeros(1), found[None], 0.0), 0.0
        return None

    def measured(self, joints: Array) -> None:
        """The arm's joints (n,) now, which decide where a redundant arm's solution drifts."""
        self._measured = joints

    def look(self, frames: Array, times: Array) -> Ahead | str:
        """Joints for the next setpoint frames[0] and for evenly spaced samples (k, 4, 4) of the way to rest at
        `times` (k,) after it, or the name of the limit that one of them breaks."""
        guess = self._ahead.at(self._elapsed + self._dt + times)
        # carried on, the last change of a redundant arm would keep its self-motion going for ever
        guess[0] = self.joints if self._arm.dof > 6 else self.joints + self._change
        ahead = self._solve(frames, guess, times)
        if isinstance(ahead, str):
            return ahead
        low, high, speed = self.limits
        found = ahead.joints
        # within the slack of a limit, where it may have started, it may only move away
        lowest = np.maximum(low, np.minimum(low + _LIMIT_SLACK, self.joints - _STILL))
        highest = np.minimum(high, np.maximum(high - _LIMIT_SLACK, self.joints + _STILL))
        if ((found < lowest) | (found > highest)).any():
            return "joint_limit"
        if ahead.speed > _SPEED_SLACK:
            return "joint_velocity"
        if len(found) > 1 and (np.abs(found[1:] - found[:-1]) > (_SPEED_SLACK * times[1]) * speed).any():
            return "joint_velocity"
        return ahead

    def follow(self, frame: Array) -> Ahead | str:
        """Joints for a setpoint (4, 4) on the way to rest that was looked at, against the limits themselves."""
        # the straight line between two samples that were looked at is close enough to start from
        guess = self._ahead.at(np.array([self._elapsed + self._dt]))
        ahead = self._solve(frame[None], guess, np.zeros(1))
        if isinstance(ahead, str):
            return ahead
        low, high, _ = self.limits
        if ((ahead.joints < low) | (ahead.joints > high)).any():
            return "joint_limit"
        return "joint_velocity" if ahead.speed > 1 else ahead

    def accept(self, ahead: Ahead, *, new_way: bool) -> None:
        """The setpoint was sent. new_way: so was the way to rest from it looked at."""
        self._change, self.joints = ahead.joints[0] - self.joints, ahead.joints[0]
        if new_way:
            self._ahead, self._elapsed = ahead, 0.0
        else:
            self._elapsed += self._dt

    def _solve(self, frames: Array, guess: Array, times: Array) -> Ahead | str:
        pull = None
        if self._arm.dof > 6:
            most = _POSTURE_SPEED * self._dt
            pull = np.repeat(np.clip(self._measured - self.joints, -most, most)[None], len(guess), axis=0)
        joints = guess
        for _ in range(4):
            moved, _, left = self._arm.step(joints, frames, pull=pull, damping=_DAMPING)
            change = moved - joints
            # what the damping leaves and what the Jacobian does not see bound the error without looking again
            error = np.abs(left).max(-1) + self._arm.bend(change)
            joints, pull = moved, None
            if error[0] < _EXACT and error.max() < _ROUGH:
                used = np.abs(joints[0] - self.joints) / (self._dt * self.limits.speed)
                return Ahead(times, joints, float(used.max()))
        return "joint_limit"  # out of reach, or at the edge of it
