"""`Passage`: a straight line in joint space, looked at before an arm goes it and while it does."""

from __future__ import annotations

import math

import numpy as np

from real_robot.kinematics import Arm
from real_robot.safety.admission import SafetyFault, admit_state
from real_robot.safety.limits import SafetyLimits
from real_robot.safety.reach import JointLimits
from real_robot.safety.regions import Regions
from real_robot.types import Array, RobotState

__all__ = ["Passage", "PassageError"]

_TURN = 0.01
"""rad, summed over the joints, between two samples."""


class PassageError(ValueError):
    """A line that breaks a limit; the message says which one and where."""


class Passage:
    """From joints `start` (n,) to `goal` (n,) rad, at rest at both ends.

    Between two samples the tool leaves the straight line between their places by no more than L d^2 / 8, its axis by
    no more than d^2 / 8: d is what the joints turn, summed, and L the length of all links together. So much is kept to
    box, keep-out boxes and cone, so that all of the line is inside and not its samples alone. Joints are between their
    ends. Raises PassageError for a line that breaks a limit.

    speed: rad/s of the fastest joint at which joints and tool keep their limits of velocity.
    """

    def __init__(
        self, start: Array, goal: Array, arm: Arm, limits: SafetyLimits, regions: Regions, reach: JointLimits
    ) -> None:
        self._arm, self._limits, self._regions = arm, limits, regions
        for where, joints in (("where it starts", start), ("home", goal)):
            outside = (joints < reach.low) | (joints > reach.high)
            if outside.any():
                number = int(np.flatnonzero(outside)[0])
                raise PassageError(
                    f"joint_limit: joint {number + 1} is at {joints[number]:.3f} rad {where}, allowed are "
                    f"{reach.low[number]:.3f} to {reach.high[number]:.3f} (limits less joint_margin)"
                )
        way = goal - start
        count = max(1, math.ceil(float(np.abs(way).sum()) / _TURN))
        shares = np.linspace(0.0, 1.0, count + 1)
        frames = arm.forward(start + shares[:, None] * way)
        turn = float(np.abs(way).sum()) / count
        positions, rotations = frames[:, :3, 3], frames[:, :3, :3]
        broken = regions.chain(positions, rotations, arm.length * turn**2 / 8, turn**2 / 8)
        if broken is not None:
            name, index = broken
            raise PassageError(
                f"{name}: {100 * shares[index]:.0f} % of the way from joints {start.round(3).tolist()} to "
                f"{goal.round(3).tolist()} the tool is at {positions[index].round(3).tolist()} m"
            )
        self.speed = self._fastest(positions, rotations, float(np.abs(way).max()), count, reach)

    def _fastest(self, positions: Array, rotations: Array, turn: float, count: int, reach: JointLimits) -> float:
        speed = float(reach.speed.min())
        if turn > 0:
            metres = float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).max())
            chords = np.linalg.norm(np.diff(rotations, axis=0), axis=(-1, -2)) / math.sqrt(8)
            radians = 2 * math.asin(min(1.0, float(chords.max())))
            # a joint at `speed` makes a step of the line in (turn / count) / speed seconds
            step = turn / count
            for moved, most in ((metres, self._limits.linear.velocity), (radians, self._limits.angular.velocity)):
                speed = min(speed, most * step / max(moved, 1e-12))
        return speed

    def watch(self, state: RobotState, now: float) -> SafetyFault | None:
        """What is wrong with a measurement on the way: its age, the mode, joints, the wrench, or where the tool is."""
        fault = admit_state(state, now, self._limits, self._arm.joint_low, self._arm.joint_high)
        if fault is not None:
            return fault
        broken = self._regions.point(state.pose.position, state.pose.rotation)
        if broken is not None:
            return SafetyFault(broken, f"on the way home the tool is at {state.pose.position.round(3).tolist()} m")
        return None
