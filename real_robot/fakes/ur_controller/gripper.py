"""A Robotiq 2F-85 behind the URCap's socket: registers 0..255, 0 open, and ASCII requests SET and GET."""

from __future__ import annotations

__all__ = ["Gripper"]

_SLOWEST, _FASTEST = 60.0, 450.0
"""Counts per second at SPE 0 and 255: 20 and 150 mm/s over 85 mm, the 2F-85's data sheet."""
_ACTIVATION = 0.3
"""Seconds; the real one opens and closes once, which takes longer."""


class Gripper:
    """`blocked_at`: counts at which the fingers meet an object, or None."""

    def __init__(self) -> None:
        self.position = 0.0
        self.blocked_at: float | None = None
        self._registers = {"ACT": 0, "GTO": 0, "FOR": 0, "SPE": 0, "POS": 0, "ARD": 0, "ATR": 0, "FLT": 0}
        self._active_in = _ACTIVATION
        self._object = 0

    @property
    def _status(self) -> int:
        if not self._registers["ACT"]:
            return 0
        return 3 if self._active_in <= 0 else 1

    def cycle(self, dt: float) -> None:
        """`dt` seconds on."""
        if not self._registers["ACT"]:
            self._active_in = _ACTIVATION
            return
        self._active_in -= dt
        if self._status != 3 or not self._registers["GTO"]:
            return
        speed = _SLOWEST + (_FASTEST - _SLOWEST) * self._registers["SPE"] / 255
        wanted = float(self._registers["POS"])
        blocked = self.blocked_at is not None and wanted > self.blocked_at
        goal = min(wanted, self.blocked_at) if blocked and self.blocked_at is not None else wanted
        step = speed * dt
        self.position += min(max(goal - self.position, -step), step)
        if abs(self.position - goal) > 0.5:
            self._object = 0
        else:
            self._object = 2 if blocked else 3

    def answer(self, request: str) -> str:
        """The answer to one line."""
        words = request.split()
        if not words:
            return ""
        if words[0] == "SET" and len(words) % 2 == 1:
            for name, value in zip(words[1::2], words[2::2], strict=True):
                if name not in self._registers or not value.isdecimal() or int(value) > 255:
                    return "nack"
                self._registers[name] = int(value)
            return "ack"
        if words[0] == "GET" and len(words) == 2:
            values = {
                **self._registers,
                "POS": round(self.position),
                "PRE": self._registers["POS"],
                "STA": self._status,
                "OBJ": self._object,
            }
            return f"{words[1]} {values[words[1]]}\n" if words[1] in values else "?\n"
        return "?\n"
