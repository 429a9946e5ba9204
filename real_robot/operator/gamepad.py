"""A gamepad through the kernel's joystick interface: events of 8 bytes, read directly.

Layout of an event (linux/joystick.h): uint32 time in ms, int16 value, uint8 type (1 button, 2 axis, + 0x80 for the
state at the time of opening), uint8 number.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from real_robot.operator.device_file import DeviceFile
from real_robot.operator.keys import axis_of

__all__ = ["AXES", "BUTTONS", "Gamepad"]

_EVENT = struct.Struct("=IhBB")
_BUTTON, _AXIS, _INITIAL = 0x01, 0x02, 0x80
_FULL = 32767

AXES: Mapping[int, str] = {1: "-x", 0: "-y", 4: "-z", 3: "-rz", 6: "+rx", 7: "-ry"}
"""Sticks and cross of an Xbox pad under the driver xpad; a stick pushed away or to the left reads negative."""
BUTTONS: Mapping[int, str] = {4: "deadman", 1: "stop", 0: "gripper", 3: "success", 2: "failure", 6: "discard", 7: "end"}
"""LB, B, A, Y, X, back, start of an Xbox pad."""


class Gamepad(DeviceFile):
    """path: /dev/input/js0. axes {number: "+x"}, buttons {number: action}; see AXES and BUTTONS.

    A pad on a cable that is unplugged counts as released at once, however long the switch was held still. The receiver
    of a wireless one may stay plugged in when its battery is empty: give it a `silence`, or take a cable.
    """

    def __init__(
        self,
        path: str | Path = "/dev/input/js0",
        axes: Mapping[int, str] = AXES,
        buttons: Mapping[int, str] = BUTTONS,
        timeout: float = 1.0,
        silence: float | None = None,
    ) -> None:
        advice = "plug the pad in, or give another path; reading needs membership in the group input"
        super().__init__("gamepad", buttons, timeout, silence, 64 * _EVENT.size, advice)
        self.path = Path(path)
        self._axes = {int(number): axis_of(f"gamepad.axes.{number}", name) for number, name in axes.items()}
        self._values = np.zeros(256)
        self._rest = b""

    def find(self) -> Path:
        return self.path

    def forget(self) -> None:
        self._values[:], self._rest = 0, b""

    def take(self, data: bytes, now: float) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % _EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in _EVENT.iter_unpack(data[:whole]):
            self.controls.event(now)
            if kind & ~_INITIAL == _AXIS:
                self._values[number] = value / _FULL
            elif kind & ~_INITIAL == _BUTTON:
                self._button(number, bool(value), initial=bool(kind & _INITIAL))
        twist = np.zeros(6)
        for number, (index, sign) in self._axes.items():
            twist[index] += sign * self._values[number]
        self.controls.push(twist)

    def _button(self, number: int, down: bool, initial: bool) -> None:
        action = self.buttons.get(number)
        # held at the time of opening is no press: somebody may have sat on the pad
        if action is not None and not (initial and down and action != "stop"):
            self.controls.button(action, down)
