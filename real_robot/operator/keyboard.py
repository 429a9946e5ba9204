"""A keyboard through pynput, which tells presses and releases: several axes at a time, but a display is needed."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from typing import Any

from real_robot.operator.contract import OperatorError, OperatorInput, OperatorState
from real_robot.operator.held import Controls
from real_robot.operator.keys import KEYS, Bindings

__all__ = ["Keyboard"]

_Heard = Callable[[Any], None]


class Keyboard(OperatorInput):
    """keys {name: meaning}, see KEYS; names of other keys are pynput's ("up", "f1").

    The dead-man switch is a key of its own (space) that is held beside those of the axes. A held key repeats, which
    is how this knows that keyboard and display are alive; `timeout` has to be longer than the delay of the repeats.
    Keys are heard whatever window has the focus. Without a display use TerminalKeyboard.
    listener: makes the thread that calls the two functions given with pynput's keys; None: pynput's own.
    """

    def __init__(
        self,
        keys: Mapping[str, str] | None = None,
        timeout: float = 0.8,
        listener: Callable[[_Heard, _Heard], Any] | None = None,
    ) -> None:
        self._bindings = Bindings(KEYS if keys is None else keys)
        if "deadman" not in self._bindings.actions.values():
            raise OperatorError("keyboard.keys: no key is the deadman; without one the arm never moves")
        self._controls = Controls("keyboard", timeout, timeout)
        self._events: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self._down: set[str] = set()
        self._make = listener or _pynput
        self._listener: Any = None

    def connect(self) -> None:
        self.disconnect()
        self._listener = self._make(self._pressed, self._released)
        self._listener.start()
        self._controls.ready()

    def disconnect(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            self._lose("disconnected")

    def read(self, now: float) -> OperatorState:
        self._controls.begin(now)
        while not self._events.empty():
            name, down = self._events.get()
            self._controls.event(now)
            repeated = down and name in self._down
            (self._down.add if down else self._down.discard)(name)
            if not repeated and name in self._bindings.actions:
                self._controls.button(self._bindings.actions[name], down)
        self._controls.push(self._bindings.twist(self._down))
        if self._listener is not None and not self._listener.is_alive():
            self._listener = None
            self._lose("the display is gone")
        return self._controls.state(now)

    def clear_stop(self) -> None:
        self._controls.clear_stop()

    def _lose(self, why: str) -> None:
        self._down.clear()
        self._controls.lose(why)

    def _pressed(self, key: Any) -> None:
        self._events.put((_name(key), True))

    def _released(self, key: Any) -> None:
        self._events.put((_name(key), False))


def _pynput(pressed: _Heard, released: _Heard) -> Any:
    try:
        from pynput import keyboard
    except ImportError as error:  # also how pynput tells that there is no display
        raise OperatorError(
            f"keyboard: {str(error).strip().splitlines()[0]}; install pynput (extra operator) and run under a display, "
            "or take operator=terminal"
        ) from error
    return keyboard.Listener(on_press=pressed, on_release=released)


def _name(key: Any) -> str:
    """pynput's Key.space -> "space", KeyCode of "W" -> "w", of a key without a character -> its number."""
    name = str(getattr(key, "name", None) or getattr(key, "char", None) or key).lower()
    return {" ": "space", "\r": "enter"}.get(name, name)
