"""`go_home`: to a pose in joint space before a run, inside the gate's limits, while the operator holds the switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from real_robot.clock import Clock, every
from real_robot.contract import DeviceError, Robot
from real_robot.loop.faults import Fault, FaultKind, fault_of_gate, fault_of_mode
from real_robot.operator.contract import Button, OperatorInput
from real_robot.safety.gate import GateError, SafetyGate
from real_robot.types import Array

__all__ = ["go_home"]


def go_home(
    robot: Robot,
    gate: SafetyGate,
    home: Array,
    speed: float,
    operator: OperatorInput,
    press: Callable[[Iterable[Button], float], None],
    clock: Clock,
    period: float,
) -> Fault | None:
    """Go to joints (n,) rad at no more than `speed` rad/s, on a straight line in joint space; None when it arrived.

    The whole line is looked at by the gate before, and not gone when it breaks a limit. On the way the operator and the
    arm's measurements are read each `period` seconds: a release, a stop, or what the gate finds, stops the arm at once,
    and is returned. `press` hears of the buttons that were pressed meanwhile. Raises DeviceError for an arm that fails
    by itself.
    """
    try:
        passage = gate.passage(home, robot.observe(), clock.now())
    except GateError as error:
        return fault_of_gate("home", str(error))
    ended: list[Fault | DeviceError] = []

    def watch(now: float) -> None:
        wish = operator.read(now)
        press(wish.pressed, now)
        found: Fault | DeviceError | None = None
        if wish.stop or not wish.enabled:
            kind = FaultKind.OPERATOR_STOP if wish.stop else FaultKind.OPERATOR_RELEASE
            found = Fault(kind, "on the way home")
        else:
            try:
                state = robot.observe()
                broken = passage.watch(state, now)
                found = fault_of_mode(state.mode)
                if found is None and broken is not None:
                    found = fault_of_gate(broken.name, broken.detail)
            except DeviceError as error:
                found = error
        if found is not None:
            ended.append(found)
        if ended:
            robot.stop()

    try:
        with every(clock, period, watch, "homing-watch"):
            robot.move_joints(home, min(speed, passage.speed))
    except DeviceError:
        if not ended:
            raise
    if not ended:
        return None
    # the operator's stop is the last word, whatever came before it
    faults = [found for found in ended if isinstance(found, Fault)]
    stop = [found for found in faults if found.kind is FaultKind.OPERATOR_STOP]
    if not faults:
        assert isinstance(ended[0], DeviceError)
        raise ended[0]
    return (stop or faults)[0]
