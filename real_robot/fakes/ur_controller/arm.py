"""How the fake's joints move: every motion keeps their limits of velocity and acceleration, cycle by cycle."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from real_robot.fakes.ur_controller.kinematics import Kinematics
from real_robot.poses import Pose
from real_robot.types import Array

__all__ = ["CYCLE", "Arm", "Line", "Motion", "Move", "Servo", "Speed", "Stop"]

CYCLE = 0.002
"""Seconds of a controller's cycle: 500 Hz."""
MAX_VELOCITY = np.full(6, np.pi)
"""rad/s, the UR5e's data sheet."""
MAX_ACCELERATION = 40.0
"""rad/s^2, a round figure above what was seen of a UR5e; the data sheet gives none."""


class Motion(ABC):
    """What the arm is doing; `velocity` is what it wants for the next cycle."""

    @abstractmethod
    def velocity(self, arm: Arm) -> Array:
        """(6,) rad/s."""

    def done(self, arm: Arm) -> bool:
        """Whether it has come to its end."""
        return False


@dataclass
class Servo(Motion):
    """servoj: follow `target`, reached with a lag of about `lookahead` seconds; gain sharpens it (300 is neutral)."""

    target: Array
    lookahead: float
    gain: float

    def velocity(self, arm: Arm) -> Array:
        error = self.target - arm.joints
        lag = self.lookahead * min(max((300.0 / self.gain) ** 0.25, 0.6), 1.3)
        # no faster than it can still brake before the target
        braking = np.sqrt(2 * 0.5 * MAX_ACCELERATION * np.abs(error))
        out: Array = np.sign(error) * np.minimum(np.abs(error) / lag, braking)
        return out


@dataclass
class Stop(Motion):
    """stopj and stopl: joint velocities go down together within `seconds`."""

    seconds: float
    _first: Array | None = None

    def velocity(self, arm: Arm) -> Array:
        if self._first is None:
            self._first = arm.velocities.copy()
        step = self._first * CYCLE / max(self.seconds, CYCLE)
        out: Array = np.where(np.abs(arm.velocities) <= np.abs(step), 0.0, arm.velocities - step)
        return out

    def done(self, arm: Arm) -> bool:
        return not arm.velocities.any()


@dataclass
class Speed(Motion):
    """speedj: reach `target` rad/s with `acceleration`, and keep it."""

    target: Array
    acceleration: float

    def velocity(self, arm: Arm) -> Array:
        step = self.acceleration * CYCLE
        return arm.velocities + np.clip(self.target - arm.velocities, -step, step)


def _profile(length: float, speed: float, acceleration: float, time: float) -> float:
    """Path covered after `time` seconds of a trapezoid of velocity."""
    ramp = min(speed / acceleration, math.sqrt(length / acceleration))
    top = acceleration * ramp
    whole = length / top + ramp
    if time >= whole:
        return length
    if time < ramp:
        return 0.5 * acceleration * time**2
    if time < whole - ramp:
        return 0.5 * acceleration * ramp**2 + top * (time - ramp)
    return length - 0.5 * acceleration * (whole - time) ** 2


class Move(Motion):
    """movej: all joints arrive together, the leading one at `speed` and `acceleration`."""

    def __init__(self, arm: Arm, target: Array, speed: float, acceleration: float) -> None:
        self._start, self._target = arm.joints.copy(), target
        self._length = float(np.abs(target - arm.joints).max())
        self._speed, self._acceleration, self._time = speed, acceleration, 0.0

    def velocity(self, arm: Arm) -> Array:
        self._time += CYCLE
        if self._length < 1e-12:
            return np.zeros(6)
        share = _profile(self._length, self._speed, self._acceleration, self._time) / self._length
        goal = self._start + share * (self._target - self._start)
        out: Array = (goal - arm.joints) / CYCLE
        return out

    def done(self, arm: Arm) -> bool:
        return bool(np.abs(arm.joints - self._target).max() < 1e-7)


class Line(Motion):
    """movel: the tool's point on a line, its rotation on the shortest turn; inverse kinematics in every cycle."""

    def __init__(self, arm: Arm, target: Pose, speed: float, acceleration: float) -> None:
        self._start, self._target = arm.tool_pose(), target
        metres, radians = self._start.distance(target)
        self._length = max(metres, radians * 0.3, 1e-9)
        self._speed, self._acceleration, self._time = speed, acceleration, 0.0

    def velocity(self, arm: Arm) -> Array:
        self._time += CYCLE
        share = _profile(self._length, self._speed, self._acceleration, self._time) / self._length
        joints = arm.inverse(self._start.towards(self._target, share))
        return np.zeros(6) if joints is None else (joints - arm.joints) / CYCLE

    def done(self, arm: Arm) -> bool:
        metres, radians = arm.tool_pose().distance(self._target)
        return metres < 1e-5 and radians < 1e-5


class Arm:
    """Joints (6,) rad and their velocities, moved by one motion at a time."""

    def __init__(self, joints: Array) -> None:
        self.kinematics = Kinematics()
        self.joints = np.array(joints, np.float64)
        self.velocities = np.zeros(6)
        self.accelerations = np.zeros(6)
        self.motion: Motion | None = None

    def tool_pose(self) -> Pose:
        """In the UR base frame."""
        return self.kinematics.pose(self.joints)

    def tool_speed(self) -> Array:
        """(6,) m/s and rad/s."""
        out: Array = self.kinematics.jacobian(self.joints) @ self.velocities
        return out

    def inverse(self, pose: Pose) -> Array | None:
        """Joints nearest to the present ones, or None."""
        return self.kinematics.inverse(pose, self.joints)

    def stop_joints(self, deceleration: float) -> None:
        """The leading joint goes down at `deceleration` rad/s^2."""
        self.motion = Stop(float(np.abs(self.velocities).max()) / deceleration)

    def stop_tool(self, deceleration: float) -> None:
        """The tool's point goes down at `deceleration` m/s^2, the joints no harder than they can."""
        tool = float(np.linalg.norm(self.tool_speed()[:3])) / deceleration
        self.motion = Stop(max(tool, float(np.abs(self.velocities).max()) / MAX_ACCELERATION))

    def cycle(self) -> None:
        """One cycle on; a motion that is done is dropped."""
        wanted = np.zeros(6) if self.motion is None else self.motion.velocity(self)
        limited = np.clip(wanted, -MAX_VELOCITY, MAX_VELOCITY)
        step = MAX_ACCELERATION * CYCLE
        if not isinstance(self.motion, Move | Line):  # whose profile has its own acceleration
            limited = self.velocities + np.clip(limited - self.velocities, -step, step)
        joints = np.clip(self.joints + limited * CYCLE, self.kinematics.low, self.kinematics.high)
        before = self.velocities
        self.velocities = (joints - self.joints) / CYCLE
        self.accelerations = (self.velocities - before) / CYCLE
        self.joints = joints
        if self.motion is not None and self.motion.done(self):
            self.velocities = np.zeros(6)
            self.motion = None
