"""A keyboard through a terminal, which also works in an SSH session."""

from __future__ import annotations

import math
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Mapping
from typing import Any

from real_robot.operator.contract import OperatorError, OperatorInput, OperatorState
from real_robot.operator.held import Controls
from real_robot.operator.keys import KEYS, Bindings

__all__ = ["TerminalKeyboard", "key_names"]

_NAMES = {"\x1b": "esc", " ": "space", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"}
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
# an arrow, another key with a sequence of its own, or one character
_KEY = re.compile(r"\x1b[\[O](?:(?P<arrow>[ABCD])|[0-9;]*[@-~])|(?P<one>.)", re.DOTALL)


def key_names(text: str) -> list[str]:
    r"""Keys of what a terminal sent; escape sequences but those of arrows are left out.

    >>> key_names("w \x1b[A\x1b[3~\x1b")
    ['w', 'space', 'up', 'esc']
    """
    names = []
    for found in _KEY.finditer(text):
        if found["arrow"]:
            names.append(_ARROWS[found["arrow"]])
        elif found["one"]:
            names.append(_NAMES.get(found["one"], found["one"].lower()))
    return names


class TerminalKeyboard(OperatorInput):
    """descriptor: of a terminal, standard input if None. keys {name: meaning}, see KEYS.

    A terminal tells what was pressed, never what was released; but a key that is held repeats. So a key for an axis is
    its own dead-man switch: it moves the arm for `timeout` seconds and again with each repeat. Terminals repeat the
    last key alone: one axis at a time. Between the first and the second press of a held key lies the keyboard's delay
    (about half a second), in which the arm rests if `timeout` is shorter.

    The key of the dead-man switch alone (space) counts as held only from when it repeats, that is from the second of
    two presses within `timeout` on: the keyboard's delay is no release then, a tap moves nothing, and a release is
    noticed after `timeout`, from the beginning on. Over a slow connection repeats arrive late: with gaps above
    `timeout` they count as released.
    """

    def __init__(
        self, descriptor: int | None = None, keys: Mapping[str, str] | None = None, timeout: float = 0.15
    ) -> None:
        self._given = descriptor
        self._bindings = Bindings(KEYS if keys is None else keys)
        self._controls = Controls("terminal", timeout, timeout)
        self._timeout = timeout
        self._tapped = -math.inf  # the last press of the dead-man key
        self._descriptor: int | None = None
        self._before: list[Any] = []

    def connect(self) -> None:
        self.disconnect()
        try:
            descriptor = sys.stdin.fileno() if self._given is None else self._given
            self._before = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)  # keys at once, not echoed; Ctrl-C still interrupts
        except (OSError, ValueError, termios.error) as error:
            raise OperatorError(
                f"terminal: standard input is not a terminal ({error.args[-1]}); start the program in one (ssh -t), or "
                "choose another operator"
            ) from error
        self._descriptor = descriptor
        self._controls.ready()

    def disconnect(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        self._controls.lose("disconnected")
        try:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):  # the terminal is gone, nothing is left to restore
            return

    def read(self, now: float) -> OperatorState:
        self._controls.begin(now)
        text = self._text()
        for key in key_names(text):
            action = self._bindings.actions.get(key)
            if key in self._bindings.axes or action == "deadman":
                self._hold(key, now)
                continue
            self._controls.let_go("another key was pressed")  # the terminal repeats that one from now on
            if action is not None:
                self._controls.button(action, True)
        return self._controls.state(now)

    def _hold(self, key: str, now: float) -> None:
        """A press of a key that is a switch."""
        self._controls.event(now)
        self._controls.push(self._bindings.twist([key]))
        before, self._tapped = self._tapped, now if key not in self._bindings.axes else -math.inf
        if key in self._bindings.axes or self._controls.held or now - before <= self._timeout:
            self._controls.button("deadman", True)
        else:
            self._controls.let_go("keep the dead-man key down until it repeats")

    def clear_stop(self) -> None:
        self._controls.clear_stop()

    def _text(self) -> str:
        if self._descriptor is None:
            return ""
        data, lost = b"", ""
        try:
            # asked before each read: a terminal set to not wait would do so for what is printed too
            while not lost and select.select([self._descriptor], [], [], 0)[0]:
                chunk = os.read(self._descriptor, 4096)
                data, lost = data + chunk, "" if chunk else "closed"
        except (OSError, ValueError) as error:
            lost = f"lost ({error})"
        if lost:
            self.disconnect()
            self._controls.lose(lost)
        return data.decode("utf-8", errors="replace")
