"""`go_home`: to a pose in joint space before a run, while the operator holds the switch."""

from __future__ import annotations

from real_robot.clock import Clock, every
from real_robot.contract import DeviceError, Robot
from real_robot.operator.contract import OperatorInput, OperatorState
from real_robot.types import Array

__all__ = ["go_home"]


def go_home(
    robot: Robot, home: Array, speed: float, operator: OperatorInput, clock: Clock, period: float
) -> OperatorState | None:
    """Go to joints (n,) rad at `speed` rad/s; the operator is read each `period` seconds meanwhile.

    A release or a stop stops the arm at once, and that word of the operator is returned; None when it arrived. Raises
    DeviceError for an arm that fails by itself.
    """
    ended: list[OperatorState] = []

    def watch(now: float) -> None:
        wish = operator.read(now)
        if ended or wish.stop or not wish.enabled:
            ended.append(wish)
            robot.stop()

    try:
        with every(clock, period, watch, "homing-watch"):
            robot.move_joints(home, speed)
    except DeviceError:
        if not ended:
            raise
    return ended[0] if ended else None
