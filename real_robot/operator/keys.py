"""What keys and axes mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from equidiff.config import did_you_mean
from real_robot.operator.contract import OperatorError
from real_robot.operator.held import ACTIONS, check_action
from real_robot.types import Array

__all__ = ["KEYS", "Bindings", "axis_of"]

_AXES = ("x", "y", "z", "rx", "ry", "rz")

KEYS: Mapping[str, str] = {
    **{"w": "+x", "s": "-x", "a": "+y", "d": "-y", "r": "+z", "f": "-z"},
    **{"u": "+rx", "o": "-rx", "i": "+ry", "k": "-ry", "j": "+rz", "l": "-rz"},
    **{"space": "deadman", "esc": "stop", "g": "gripper"},
    **{"enter": "success", "n": "failure", "backspace": "discard", "y": "recover", "q": "end"},
}
"""Keys of a keyboard: their names and what they do."""


def axis_of(where: str, name: str) -> tuple[int, float]:
    """(index in a twist, sign) of "+x", "-rz" and so on. Raises OperatorError.

    >>> axis_of("axes.0", "-rz")
    (5, -1.0)
    """
    if name[:1] not in ("+", "-") or name[1:] not in _AXES:
        raise OperatorError(f"{where}: expected + or - and one of {', '.join(_AXES)}, got {name!r}")
    return _AXES.index(name[1:]), 1.0 if name[0] == "+" else -1.0


class Bindings:
    """Keys with their meaning: an axis ("+x") or an action ("deadman", "stop", ...); see KEYS."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.axes: dict[str, tuple[int, float]] = {}
        self.actions: dict[str, str] = {}
        for key, meaning in keys.items():
            where = f"keys.{key}"
            if meaning[:1] in ("+", "-"):
                self.axes[key] = axis_of(where, meaning)
            else:
                self.actions[key] = check_action(where, meaning)
        if "stop" not in self.actions.values():
            near = did_you_mean("stop", self.actions.values())
            raise OperatorError(f"keys: none means stop{near}; bind one, for instance esc, to it (of {ACTIONS})")

    def twist(self, keys: Iterable[str]) -> Array:
        """(6,) of the keys that are down; opposite ones cancel."""
        out = np.zeros(6)
        for key in keys:
            if key in self.axes:
                index, sign = self.axes[key]
                out[index] += sign
        return out
