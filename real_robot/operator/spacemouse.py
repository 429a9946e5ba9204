"""A 3Dconnexion SpaceMouse through the kernel's hidraw interface, read directly.

Reports: number 1 holds x, y, z as int16 (right, towards the operator, down), and in those of 13 bytes the rotation
about these axes behind it; number 2 holds the rotation alone; number 3 a bit for each button. Numbers reach from -350
to 350.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from real_robot.operator.contract import OperatorError
from real_robot.operator.device_file import DeviceFile

__all__ = ["BUTTONS", "SpaceMouse", "find_spacemouse"]

BUTTONS: Mapping[int, str] = {0: "deadman", 1: "gripper"}
"""Left and right button."""
_FULL = 350.0
_MAKER = 0x256F
_LOGITECH = {0xC603, 0xC605, 0xC606, 0xC621, 0xC623, 0xC625, 0xC626, 0xC627, 0xC628, 0xC629, 0xC62B}
"""Products sold under the older maker's number 0x046d, which also makes mice."""
_ADVICE = "plug the SpaceMouse in; reading it needs the udev rule of docs/teleoperation.md"


def find_spacemouse(sysfs: Path = Path("/sys/class/hidraw")) -> Path:
    """/dev/hidrawN of the first SpaceMouse. Raises OperatorError when there is none."""
    for entry in sorted(sysfs.glob("hidraw*")):
        try:
            about = (entry / "device" / "uevent").read_text(encoding="utf-8")
        except OSError:  # unplugged meanwhile
            continue
        found = re.search(r"^HID_ID=\w+:(\w+):(\w+)$", about, re.MULTILINE)
        if found:
            maker, product = int(found[1], 16), int(found[2], 16)
            if maker == _MAKER or (maker == 0x046D and product in _LOGITECH):
                return Path("/dev") / entry.name
    raise OperatorError(f"spacemouse: none found under {sysfs}; {_ADVICE}")


class SpaceMouse(DeviceFile):
    """path: /dev/hidrawN, None: the first SpaceMouse. buttons {number: action}.

    It reports all the time while its cap is pushed and is silent at rest; one that is unplugged counts as released at
    once. For a wireless one see `DeviceFile.silence`. It has few buttons: put it in a Composite with a keyboard for
    stop and labels.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        buttons: Mapping[int, str] = BUTTONS,
        timeout: float = 0.5,
        silence: float | None = None,
    ) -> None:
        super().__init__("spacemouse", buttons, timeout, silence, 64, _ADVICE)  # one report a read
        self._path = None if path is None else Path(path)
        self._axes = np.zeros(6)
        self._bits = 0

    def find(self) -> Path:
        return self._path or find_spacemouse()

    def forget(self) -> None:
        self._axes[:], self._bits = 0, 0

    def take(self, data: bytes, now: float) -> None:
        kind, body = data[0], data[1:]
        if kind == 1 and len(body) >= 12:
            self._axes[:] = struct.unpack_from("<6h", body)
        elif kind in (1, 2) and len(body) >= 6:
            self._axes[3 * kind - 3 : 3 * kind] = struct.unpack_from("<3h", body)
        elif kind == 3 and body:
            bits = int.from_bytes(body[:4], "little")
            for number, action in self.buttons.items():
                if (bits ^ self._bits) >> number & 1:
                    self.controls.button(action, bool(bits >> number & 1))
            self._bits = bits
        else:  # battery, settings
            return
        self.controls.event(now)
        x, y, z, rx, ry, rz = self._axes / _FULL
        # (right, towards the operator, down) to (forward, left, up) is a rotation, so both triples go the same way
        self.controls.push([-y, -x, -z, -ry, -rx, -rz])
