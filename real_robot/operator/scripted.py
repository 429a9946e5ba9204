"""An operator who follows a script: for tests, and for runs without a person at a simulated arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from real_robot.operator.contract import Button, OperatorError, OperatorInput, OperatorState

__all__ = ["Moment", "ScriptedOperator"]


@dataclass(frozen=True)
class Moment:
    """From `start` (seconds after the first read) on: what is held, pushed and, once, pressed."""

    start: float
    twist: tuple[float, ...] = (0.0,) * 6
    enabled: bool = True
    pressed: tuple[Button | str, ...] = ()
    stop: bool = False


class ScriptedOperator(OperatorInput):
    """Moments in the order of their start; before the first one, and while disconnected, nothing is held."""

    def __init__(self, script: Sequence[Moment]) -> None:
        if list(script) != sorted(script, key=lambda moment: moment.start):
            raise OperatorError("ScriptedOperator: expected moments in the order of their start")
        self._script = tuple(script)
        self._connected = self._stop = False
        self._began: float | None = None
        self._at = -1

    def connect(self) -> None:
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def read(self, now: float) -> OperatorState:
        self._began = now if self._began is None else self._began
        pressed: set[Button] = set()
        while self._at + 1 < len(self._script) and self._script[self._at + 1].start <= now - self._began + 1e-9:
            self._at += 1
            self._stop |= self._script[self._at].stop
            pressed |= {Button(button) for button in self._script[self._at].pressed}
        moment = self._script[self._at] if self._at >= 0 else Moment(0, enabled=False)
        enabled = moment.enabled and self._connected and not self._stop
        twist = np.array(moment.twist) if enabled else np.zeros(6)
        note = "" if enabled else "script: released"
        return OperatorState(now, enabled, self._stop, twist, frozenset(pressed), note, not self._connected)

    def clear_stop(self) -> None:
        self._stop = False
