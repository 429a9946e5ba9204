"""The other ends of operator devices: a FIFO for joystick and HID, a pseudo-terminal for keys."""

from __future__ import annotations

import os
import pty
import select
import struct
from pathlib import Path

BUTTON, AXIS, INITIAL = 1, 2, 0x80


def event(kind: int, number: int, value: int, ms: int = 7) -> bytes:
    return struct.pack("=IhBB", ms, value, kind, number)


class Fifo:
    """The device's end of a FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._keep = os.open(path, os.O_RDWR)

    def write(self, data: bytes) -> None:
        os.write(self._keep, data)

    def unplug(self) -> None:
        os.close(self._keep)


def report(kind: int, *values: int) -> bytes:
    return struct.pack(f"<B{len(values)}h", kind, *values)


LEFT, RIGHT, NONE = b"\x03\x01\x00", b"\x03\x02\x00", b"\x03\x00\x00"


class Terminal:
    """A pseudo-terminal: the person's end."""

    def __init__(self) -> None:
        self.person, self.program = pty.openpty()

    def type(self, keys: bytes, arrived: bool = False) -> None:
        """arrived: wait until the line discipline has handed them on, which it does in its own time."""
        os.write(self.person, keys)
        if arrived:
            assert select.select([self.program], [], [], 5)[0]

    def hang_up(self) -> None:
        os.close(self.person)
        self.person = -1

    def close(self) -> None:
        for descriptor in (self.person, self.program):
            if descriptor >= 0:
                os.close(descriptor)
