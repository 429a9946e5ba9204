"""`Pilot`: the operator's twists to targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equidiff.config import did_you_mean
from real_robot.operator.contract import Button, OperatorState
from real_robot.poses import Pose, exp_map, log_map
from real_robot.teleop.errors import TeleopError
from real_robot.types import Array, Target

__all__ = ["Pilot", "PilotSettings", "shaped"]

_FRAMES = ("base", "tool")


@dataclass(frozen=True)
class PilotSettings:
    """linear (m/s), angular (rad/s): speeds of a full push. deadband: share of a push that counts as none.

    expo: 0 proportional, 1 cubic, which is gentle near the middle. frame: "base" (forward, left, up of the base) or
    "tool" (x, y, z of the tool). view: radians about the vertical from the base's forward to the operator's, for
    frame "base"; pi for somebody who faces the arm. ahead_of_sent, ahead_of_measured (metres, radians): by so much the
    target may lead what was sent to the arm, and where the arm is; a target that leads far would go on after a push
    ends, and be far on the other side of a wall.
    """

    linear: float = 0.15
    angular: float = 0.6
    deadband: float = 0.08
    expo: float = 0.4
    frame: str = "base"
    view: float = 0.0
    ahead_of_sent: tuple[float, float] = (0.02, 0.15)
    ahead_of_measured: tuple[float, float] = (0.04, 0.35)

    def __post_init__(self) -> None:
        for name in ("ahead_of_sent", "ahead_of_measured"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != 2 or not min(getattr(self, name)) > 0:
                raise TeleopError(f"pilot.{name}: expected [metres, radians] > 0, got {list(getattr(self, name))}")
        if self.frame not in _FRAMES:
            raise TeleopError(
                f"pilot.frame: expected base or tool, got {self.frame!r}{did_you_mean(self.frame, _FRAMES)}"
            )
        for name, low, high in (("linear", 0, 1), ("angular", 0, 4), ("deadband", 0, 0.9), ("expo", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise TeleopError(f"pilot.{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not math.isfinite(self.view):
            raise TeleopError(f"pilot.view: expected radians, got {self.view}")


def shaped(push: ArrayLike, deadband: float, expo: float) -> Array:
    """A push (3,) in [-1, 1] to a share of the full speed, of length at most 1; nothing within the deadband.

    >>> shaped([0.05, -0.55, 1], deadband=0.1, expo=0).round(3).tolist()
    [0.0, -0.447, 0.894]
    """
    value = np.asarray(push, np.float64)
    size = np.clip((np.abs(value) - deadband) / (1 - deadband), 0, 1)
    speed = np.copysign((1 - expo) * size + expo * size**3, value)
    out: Array = speed / max(1.0, float(np.linalg.norm(speed)))
    return out


class Pilot:
    """Integrates pushes from the setpoint that was sent last, so that the arm's lag does not make the target drift.

    gripper: (closed, open) in metres.
    """

    def __init__(self, settings: PilotSettings, gripper: tuple[float, float]) -> None:
        self.settings = settings
        self._gripper = gripper
        self._view = exp_map([0, 0, settings.view])
        self._target: Target | None = None

    @property
    def finished(self) -> bool:
        """An operator never is."""
        return False

    def engage(self, sent: Target) -> None:
        """Start from here: `sent` is where the arm was told to be. The fingers go on to where they were told to go."""
        closed, opened = self._gripper
        fingers = sent.gripper if self._target is None else self._target.gripper
        for end in (closed, opened):  # measured fingers are never quite there
            if abs(fingers - end) < 0.1 * (opened - closed):
                fingers = end
        self._target = Target(sent.pose, fingers)

    def step(self, wish: OperatorState, sent: Target, measured: Pose, dt: float) -> Target:
        """The target `dt` seconds after the last one."""
        if self._target is None:
            raise TeleopError("Pilot.step: call engage first")
        s = self.settings
        linear = s.linear * dt * shaped(wish.twist[:3], s.deadband, s.expo)
        turn = exp_map(s.angular * dt * self._in_base(shaped(wish.twist[3:], s.deadband, s.expo), self._target.pose))
        position = self._target.pose.position + self._in_base(linear, self._target.pose)
        rotation = _orthonormal(turn @ self._target.pose.rotation)
        pose = Pose(position, rotation)
        pose = _near(pose, sent.pose, *s.ahead_of_sent)
        pose = _near(pose, measured, *s.ahead_of_measured)
        self._target = Target(pose, self._fingers(wish))
        return self._target

    def _in_base(self, vector: Array, pose: Pose) -> Array:
        frame = pose.rotation if self.settings.frame == "tool" else self._view
        out: Array = frame @ vector
        return out

    def _fingers(self, wish: OperatorState) -> float:
        assert self._target is not None
        closed, opened = self._gripper
        if Button.GRIPPER not in wish.pressed:
            return self._target.gripper
        return opened if self._target.gripper < (closed + opened) / 2 else closed


def _near(pose: Pose, other: Pose, metres: float, radians: float) -> Pose:
    """`pose`, brought so near to `other`."""
    way, turn = pose.position - other.position, log_map(other.rotation.T @ pose.rotation)
    far, angle = float(np.linalg.norm(way)), float(np.linalg.norm(turn))
    if far <= metres and angle <= radians:
        return pose
    position = other.position + way * min(1.0, metres / max(far, 1e-12))
    rotation = pose.rotation if angle <= radians else other.rotation @ exp_map(turn * (radians / angle))
    return Pose(position, rotation)


def _orthonormal(matrix: Array) -> Array:
    """The rotation nearest to a product of many."""
    u, _, v = np.linalg.svd(matrix)
    out: Array = u @ v
    return out
