"""`StateHistory`: measured states by time, read between measurements."""

from __future__ import annotations

import bisect
from collections import deque

from real_robot.contract import RobotError
from real_robot.types import RobotState

__all__ = ["StateHistory", "between"]


class StateHistory:
    """The last `seconds` of measured states."""

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._states: deque[RobotState] = deque()

    def add(self, state: RobotState) -> None:
        """Append a measurement; one that was there already, or an older one, is left out."""
        if self._states and state.stamp <= self._states[-1].stamp:
            return
        self._states.append(state)
        while self._states[0].stamp < state.stamp - self._seconds:
            self._states.popleft()

    def clear(self) -> None:
        """Forget everything: what was before a fault is no history of what comes after."""
        self._states.clear()

    @property
    def newest(self) -> RobotState:
        """The last measurement. RobotError when there is none."""
        if not self._states:
            raise RobotError("no state was measured yet")
        return self._states[-1]

    def at(self, stamp: float) -> RobotState:
        """The state at a time, `between` two measurements, the first or the last one outside of them; its stamp is that
        of the measurement or the time itself."""
        states = self._states
        if not states:
            raise RobotError("no state was measured yet")
        place = bisect.bisect_left([s.stamp for s in states], stamp)
        if place == 0:
            return states[0]
        if place == len(states):
            return states[-1]
        return between(states[place - 1], states[place], stamp)


def between(before: RobotState, after: RobotState, stamp: float) -> RobotState:
    """The state at a time from `before` to `after`: linear, rotations on the shortest turn, the nearer one's wrench."""
    share = (stamp - before.stamp) / (after.stamp - before.stamp)
    return RobotState(
        stamp=stamp,
        joints=before.joints + share * (after.joints - before.joints),
        velocities=before.velocities + share * (after.velocities - before.velocities),
        pose=before.pose.towards(after.pose, share),
        gripper=before.gripper + share * (after.gripper - before.gripper),
        mode=after.mode,
        wrench=before.wrench if share < 0.5 else after.wrench,
    )
