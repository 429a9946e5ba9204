"""`Controls`: the rules that all devices share: what is held, for how long, and what is latched."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equidiff.config import did_you_mean
from real_robot.operator.contract import Button, OperatorError, OperatorState
from real_robot.types import Array

__all__ = ["ACTIONS", "Controls", "check_action"]

ACTIONS = ("deadman", "stop", *(button.value for button in Button))
"""What a button or a key can mean."""


def check_action(where: str, action: str) -> str:
    """`action`, if it is one of ACTIONS. Raises OperatorError."""
    if action not in ACTIONS:
        hint = did_you_mean(action, ACTIONS)
        raise OperatorError(f"{where}: no action {action!r}{hint}; there are: {', '.join(ACTIONS)}")
    return action


class Controls:
    """State of one device. In each read: `begin`, then what the device said, then `state`.

    timeout: when it was not read for that long, what it says may be old and moves nothing. silence: seconds without a
    word from the device after which nothing counts as held, for those that repeat what is held; None for those that
    speak of changes alone: of them the kernel tells at each read whether they are there.
    """

    def __init__(self, name: str, timeout: float, silence: float | None) -> None:
        for key, value in (("timeout", timeout), ("silence", silence)):
            if value is not None and not 0 < value < 10:
                raise OperatorError(f"{name}: expected a {key} in (0, 10) seconds, got {value}")
        self.name, self.timeout, self.silence = name, timeout, silence
        self._stop = self._held = self._late = False
        self._lost = True
        self._twist: Array = np.zeros(6)
        self._pressed: set[Button] = set()
        self._last_read = self._last_event = -np.inf
        self._why = "not connected"

    def begin(self, now: float) -> None:
        """Start of a read. What a device has said long before it is read must not move anything."""
        self._late = not now - self._last_read <= self.timeout
        self._last_read = now
        self._pressed = set()

    @property
    def held(self) -> bool:
        """Whether the switch counted as held when it was last looked at."""
        return self._held

    def event(self, now: float) -> None:
        """The device has said something."""
        self._last_event = now

    def button(self, action: str, down: bool) -> None:
        """A button with this meaning went down or up."""
        if action == "deadman":
            self._held = down
            self._why = "dead-man switch released"
        elif action == "stop":
            self._stop |= down
        elif down and not self._late:
            self._pressed.add(Button(action))

    def push(self, twist: ArrayLike) -> None:
        """What the axes say now, (6,) in any range; cut to [-1, 1]."""
        self._twist = np.clip(np.nan_to_num(np.asarray(twist, np.float64), nan=0.0), -1, 1)

    def let_go(self, why: str) -> None:
        """As if all were released."""
        self._held, self._twist, self._why = False, np.zeros(6), why

    def ready(self) -> None:
        """The device was opened."""
        self._lost = False
        self.let_go("dead-man switch not pressed yet")

    def lose(self, why: str) -> None:
        """The device is gone."""
        self._lost = True
        self.let_go(why)

    def clear_stop(self) -> None:
        """Forget the stop; the switch has to be pressed anew."""
        self._stop = False
        self.let_go("dead-man switch has to be pressed anew after a stop")

    def state(self, now: float) -> OperatorState:
        """End of a read."""
        if self._held and self._late:
            self.let_go(f"was not asked for more than {self.timeout:g} s; press the dead-man switch anew")
        if self._held and self.silence is not None and not now - self._last_event <= self.silence:
            self.let_go(f"silent for more than {self.silence:g} s; press the dead-man switch anew")
        enabled = self._held and not self._stop and not self._lost
        note = "" if enabled else f"{self.name}: {'stop is latched' if self._stop else self._why}"
        twist = self._twist if enabled else np.zeros(6)
        return OperatorState(now, enabled, self._stop, twist, frozenset(self._pressed), note, self._lost)
