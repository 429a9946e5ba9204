"""RTDE version 2 on the wire, as the Real-Time Data Exchange guide of Universal Robots describes it.

A package is a big-endian uint16 of its whole size, a uint8 of its kind, and a body.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["HEADER", "KIND", "MAX_BODY", "Recipe", "RtdeError", "input_type", "output_type", "package", "split"]

HEADER = struct.Struct(">HB")
MAX_BODY = 65535 - HEADER.size
Value = float | int | Sequence[float] | Sequence[int]


class RtdeError(ValueError):
    """A package that is not RTDE version 2."""


class KIND:
    """First letters of the packages."""

    VERSION = ord("V")
    CONTROLLER = ord("v")
    TEXT = ord("M")
    DATA = ord("U")
    OUTPUTS = ord("O")
    INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")


_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT32": "I", "UINT64": "Q", "INT32": "i", "DOUBLE": "d",
    "VECTOR3D": "3d", "VECTOR6D": "6d", "VECTOR6INT32": "6i", "VECTOR6UINT32": "6I",
}  # fmt: skip

_VECTORS6 = (
    "target_q target_qd target_qdd target_current target_moment actual_q actual_qd actual_current "
    "joint_control_output actual_TCP_pose actual_TCP_speed actual_TCP_force target_TCP_pose target_TCP_speed "
    "joint_temperatures actual_joint_voltage payload_inertia ft_raw_wrench actual_current_as_torque"
)
_DOUBLES = (
    "timestamp actual_execution_time speed_scaling target_speed_fraction actual_momentum actual_main_voltage "
    "actual_robot_voltage actual_robot_current standard_analog_input0 standard_analog_input1 standard_analog_output0 "
    "standard_analog_output1 payload tcp_force_scalar"
)
_OUTPUTS = {
    **dict.fromkeys(_VECTORS6.split(), "VECTOR6D"),
    **dict.fromkeys(_DOUBLES.split(), "DOUBLE"),
    **dict.fromkeys(("robot_mode", "safety_mode"), "INT32"),
    **dict.fromkeys(("runtime_state", "robot_status_bits", "safety_status_bits", "safety_status"), "UINT32"),
    **dict.fromkeys(("actual_digital_input_bits", "actual_digital_output_bits"), "UINT64"),
    **dict.fromkeys(("actual_tool_accelerometer", "payload_cog"), "VECTOR3D"),
    "joint_mode": "VECTOR6INT32",
}
_INPUTS = {
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
    **dict.fromkeys(
        (
            "standard_digital_output_mask", "standard_digital_output", "configurable_digital_output_mask",
            "configurable_digital_output", "tool_digital_output_mask", "tool_digital_output",
            "standard_analog_output_mask", "standard_analog_output_type",
        ),
        "UINT8",
    ),
    "standard_analog_output_0": "DOUBLE",
    "standard_analog_output_1": "DOUBLE",
    "external_force_torque": "VECTOR6D",
}  # fmt: skip


def _register_type(name: str, direction: str) -> str | None:
    for kind, number_type in (("int", "INT32"), ("double", "DOUBLE"), ("bit", "BOOL")):
        stem = f"{direction}_{kind}_register_"
        number = name.removeprefix(stem)
        if name.startswith(stem) and number.isdecimal() and int(number) < (128 if kind == "bit" else 48):
            return number_type
    return None


def output_type(name: str) -> str:
    """Type of a variable the controller sends, or NOT_FOUND."""
    return _OUTPUTS.get(name) or _register_type(name, "output") or "NOT_FOUND"


def input_type(name: str) -> str:
    """Type of a variable the controller takes, or NOT_FOUND."""
    return _INPUTS.get(name) or _register_type(name, "input") or "NOT_FOUND"


@dataclass(frozen=True)
class Recipe:
    """Names and types of the numbers in a data package, in their order.

    >>> recipe = Recipe(3, ("timestamp", "actual_q"), ("DOUBLE", "VECTOR6D"))
    >>> recipe.unpack(recipe.pack({"timestamp": 1.0, "actual_q": [0.0] * 6})[1:])["timestamp"]
    1.0
    """

    number: int
    names: tuple[str, ...]
    types: tuple[str, ...]
    _struct: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        form = ">" + "".join(_FORMATS[kind] for kind in self.types if kind != "NOT_FOUND")
        object.__setattr__(self, "_struct", struct.Struct(form))

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """The body of a data package: number of the recipe, then the values."""
        flat: list[float | int] = []
        for name in self.names:
            value = values[name]
            flat.extend([value] if isinstance(value, int | float) else value)
        return bytes([self.number]) + self._struct.pack(*flat)

    def unpack(self, body: bytes) -> dict[str, Value]:
        """The values of a body without the recipe's number. Raises RtdeError unless it has the right length."""
        if len(body) != self._struct.size:
            raise RtdeError(f"recipe {self.number}: expected {self._struct.size} bytes, got {len(body)}")
        flat = list(self._struct.unpack(body))
        out: dict[str, Value] = {}
        for name, kind in zip(self.names, self.types, strict=True):
            count = int(_FORMATS[kind][0]) if _FORMATS[kind][0].isdecimal() else 1
            head, flat = flat[:count], flat[count:]
            out[name] = head if kind.startswith("VECTOR") else head[0]
        return out


def package(kind: int, body: bytes = b"") -> bytes:
    """A whole package."""
    return HEADER.pack(HEADER.size + len(body), kind) + body


def split(buffer: bytearray) -> list[tuple[int, bytes]]:
    """(kind, body) of the whole packages at the head of `buffer`, which are taken out of it."""
    found = []
    while len(buffer) >= HEADER.size:
        size, kind = HEADER.unpack_from(buffer)
        if size < HEADER.size:
            raise RtdeError(f"a package of {size} bytes cannot be")
        if len(buffer) < size:
            break
        found.append((kind, bytes(buffer[HEADER.size : size])))
        del buffer[:size]
    return found
