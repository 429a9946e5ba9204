"""`Machine`: the states of a run, and which may follow which."""

from __future__ import annotations

import enum
from collections.abc import Callable

from real_robot.clock import Clock

__all__ = ["Machine", "MachineError", "State"]


class State(enum.Enum):
    """Of the whole run; the arm moves by the policy in RUNNING only."""

    DISCONNECTED = "disconnected"
    HOMING = "homing"
    READY = "ready"
    """Connected, at rest; waits for the operator and for a first plan."""
    RUNNING = "running"
    HOLDING = "holding"
    """Brakes and then stands under command; goes on by itself when the cause is gone and the arm rests."""
    FAULT = "fault"
    """Stopped by the driver; goes on only by the operator's explicit word."""
    STOPPED = "stopped"
    """The end."""


_FOLLOWS = {
    State.DISCONNECTED: {State.HOMING, State.FAULT, State.STOPPED},
    State.HOMING: {State.READY, State.FAULT, State.STOPPED},
    State.READY: {State.RUNNING, State.HOLDING, State.FAULT, State.STOPPED},
    State.RUNNING: {State.HOLDING, State.FAULT, State.STOPPED},
    State.HOLDING: {State.READY, State.FAULT, State.STOPPED},
    State.FAULT: {State.HOMING, State.READY, State.STOPPED},
    State.STOPPED: set(),
}


class MachineError(RuntimeError):
    """A change of state that must not be."""


class Machine:
    """Starts in DISCONNECTED. `listener(source, target, why, t)` hears of every change, after it.

    >>> from real_robot.clock import ManualClock
    >>> machine = Machine(ManualClock(), lambda source, target, why, t: print(source.value, "->", target.value))
    >>> machine.to(State.HOMING, "connected")
    disconnected -> homing
    >>> machine.to(State.RUNNING, "too early")
    Traceback (most recent call last):
    real_robot.loop.machine.MachineError: running does not follow homing (too early)
    """

    def __init__(self, clock: Clock, listener: Callable[[State, State, str, float], None]) -> None:
        self._clock, self._listener = clock, listener
        self._state, self._since = State.DISCONNECTED, clock.now()
        self._why = ""

    @property
    def state(self) -> State:
        return self._state

    @property
    def why(self) -> str:
        """What brought it to this state."""
        return self._why

    @property
    def since(self) -> float:
        """When the state began."""
        return self._since

    def to(self, target: State, why: str) -> None:
        """Change over. MachineError when `target` does not follow the state."""
        source = self._state
        if target not in _FOLLOWS[source]:
            raise MachineError(f"{target.value} does not follow {source.value} ({why})")
        self._state, self._since, self._why = target, self._clock.now(), why
        self._listener(source, target, why, self._since)
