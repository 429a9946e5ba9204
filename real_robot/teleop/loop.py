"""`Loop`: one command each tick, from a source of targets through the gate to the arm, while the operator allows it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from real_robot.clock import Clock
from real_robot.contract import Robot
from real_robot.operator.contract import OperatorInput, OperatorState
from real_robot.poses import Pose
from real_robot.teleop.errors import TeleopError
from real_robot.types import RobotMode, RobotState, Target

__all__ = ["Decision", "End", "Gate", "Listener", "Loop", "LoopSettings", "Source", "Tick"]


_AT_REST = 0.04
"""rad/s of measured joints below which an arm stands."""


class _Fault(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Decision(Protocol):
    """What a gate says: the setpoint to send, limits that acted, a fault; whether it stands, and needs a reset."""

    @property
    def setpoint(self) -> Target: ...
    @property
    def limits(self) -> tuple[str, ...]: ...
    @property
    def fault(self) -> _Fault | None: ...
    @property
    def at_rest(self) -> bool: ...
    @property
    def held(self) -> bool: ...


class Gate(Protocol):
    """As `real_robot.safety.SafetyGate`."""

    def reset(self, state: RobotState, now: float) -> Decision:
        """Start from this state; raises an error when that is outside a limit."""

    def next(self, target: Target | None, state: RobotState, now: float) -> Decision:
        """The setpoint of this tick; target None: come to rest."""


class Source(Protocol):
    """Where targets come from: an operator's hand, or a recording."""

    @property
    def finished(self) -> bool:
        """Whether there are no more targets."""

    def engage(self, sent: Target) -> None:
        """Targets are wanted from now on; the arm rests at `sent`."""

    def step(self, wish: OperatorState, sent: Target, measured: Pose, dt: float) -> Target:
        """The target for `dt` seconds later than the last."""


@dataclass(frozen=True, eq=False)
class Tick:
    """One turn of the loop at `now`: the measured state; the target that was wanted, or where the arm was told to rest;
    whether it was wanted (`active`), whether the arm is told to rest (`at_rest`), and the operator."""

    now: float
    state: RobotState
    target: Target
    active: bool
    at_rest: bool
    wish: OperatorState


class End(enum.Enum):
    """Why a loop ended."""

    STOP = "the operator pressed stop"
    END = "the operator ended it"
    FINISHED = "all targets were reached"
    RELEASED = "the dead-man switch was released"


Listener = Callable[[Tick], End | None]
"""Called after each command; what it returns ends the loop."""


@dataclass(frozen=True)
class LoopSettings:
    """stale: seconds; a measurement that is older stops the arm, and a turn that was so late counts as a release.

    release_ends: a release of the dead-man switch ends the loop; else the operator may press it again.
    """

    stale: float = 0.1
    release_ends: bool = False


class Loop:
    """Moves only while the dead-man switch is held, and pressed anew after everything that made the arm stop.

    Before the first press, and after a turn that came so late that the driver stopped the arm by itself, nothing is
    sent; the gate then starts anew from where the arm rests. After a release it brakes, and the setpoint is sent on.
    """

    def __init__(
        self,
        robot: Robot,
        gate: Gate,
        operator: OperatorInput,
        clock: Clock,
        source: Source,
        listeners: Sequence[Listener] = (),
        settings: LoopSettings | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._robot, self._gate, self._operator, self._clock, self._source = robot, gate, operator, clock, source
        self._listeners, self._settings, self._say = tuple(listeners), settings or LoopSettings(), say
        self._dt = 1 / robot.features.command_hz
        self._last: Decision | None = None  # None: nothing is sent
        self._anew = True  # the switch has to be seen released before it counts
        self._engaged = self._moved = False
        self._told = ""

    def run(self) -> End:
        """Until the operator, the source or a listener ends it; the arm rests afterwards, whatever happens.

        Raises TeleopError for an arm that reports old measurements or takes no commands, DeviceError for one that is
        lost, GateError for a start outside the limits.
        """
        try:
            due = self._clock.now()
            while True:
                now = self._clock.now()
                late, due = now - due, max(due + self._dt, now)
                tick = self._tick(now, late)
                ends = [end for listener in self._listeners if (end := listener(tick)) is not None]
                if tick.wish.stop:
                    return End.STOP
                if ends:
                    return ends[0]
                if tick.active and self._source.finished and tick.at_rest:
                    return End.FINISHED
                if self._moved and not tick.active and self._settings.release_ends and tick.at_rest:
                    return End.RELEASED
                self._clock.sleep_until(due)
        finally:
            self._robot.stop()

    def _tick(self, now: float, late: float) -> Tick:
        state, wish = self._observe(now), self._operator.read(now)
        if wish.stop or late > self._settings.stale:
            self._robot.stop()
            self._last, self._engaged = None, False
            if not wish.stop:
                self._note(f"the loop was {late:.2f} s late and the arm was stopped; press the dead-man switch anew")
        if wish.stop:
            return self._resting(now, state, wish)
        self._engage(wish, late, state, now)
        if self._last is None:
            return self._resting(now, state, wish)
        target = None
        if self._engaged:
            target = self._source.step(wish, self._last.setpoint, state.pose, self._dt)
        self._last = decision = self._gate.next(target, state, now)
        self._robot.command(decision.setpoint, now + self._dt)
        self._tell(wish, decision)
        if decision.held:
            self._engaged = False
        if target is None or decision.held:
            return Tick(now, state, decision.setpoint, False, decision.at_rest, wish)
        return Tick(now, state, target, True, decision.at_rest, wish)

    def _engage(self, wish: OperatorState, late: float, state: RobotState, now: float) -> None:
        """Take the operator's hand on or off."""
        if not wish.enabled or late > self._settings.stale:
            self._engaged = False
            self._anew = wish.enabled  # after a turn that late, as after a fault, the switch is pressed anew
            if self._last is None and wish.note:
                self._note(wish.note)
        elif not self._anew and not self._engaged and (self._last is None or self._last.at_rest):
            if not self._rests(state):
                self._note("waits until the arm rests")
                return
            self._last = self._gate.reset(state, now)
            self._source.engage(self._last.setpoint)
            self._engaged = self._moved = True

    def _resting(self, now: float, state: RobotState, wish: OperatorState) -> Tick:
        """A turn in which nothing is sent."""
        return Tick(now, state, Target(state.pose, state.gripper), False, self._rests(state), wish)

    def _rests(self, state: RobotState) -> bool:
        return bool(np.abs(state.velocities).max() <= _AT_REST)

    def _observe(self, now: float) -> RobotState:
        state, name = self._robot.observe(), self._robot.features.name
        if not -self._settings.stale < now - state.stamp <= self._settings.stale:
            raise TeleopError(
                f"{name}: its last measurement is {now - state.stamp:.3f} s old (at most {self._settings.stale} s); "
                "the arm was stopped. Look at its cable and its controller"
            )
        if state.mode is not RobotMode.READY:
            raise TeleopError(f"{name}: takes no commands, its controller reports {state.mode.value}; clear that there")
        return state

    def _tell(self, wish: OperatorState, decision: Decision) -> None:
        if decision.fault is not None:
            self._anew |= self._engaged
            self._note(f"{decision.fault.name}: {decision.fault.detail}. Release the dead-man switch and press it anew")
        elif decision.held and self._engaged:
            self._anew = True
            self._note(f"the gate stopped the arm ({', '.join(decision.limits)}); press the dead-man switch anew")
        elif self._engaged:
            self._note("moving")
        elif wish.note:
            self._note(wish.note)

    def _note(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)
