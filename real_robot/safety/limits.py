"""`SafetyLimits`: all numbers of the gate, validated when built; from the node `safety` of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from real_robot.safety import angular
from real_robot.types import Array, finite

__all__ = ["Bound", "Box", "Cone", "LimitsError", "RateLimits", "SafetyLimits"]


class LimitsError(ValueError):
    """Limits that contradict themselves or are no numbers; the message names the key."""


@dataclass(frozen=True, eq=False)
class Box:
    """Along the axes of the base; low, high (3,) metres."""

    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Cone:
    """The tool's `axis` (3,), given in the tool's frame, stays within `half_angle` rad of `direction` (3,), given in
    the base frame; both have length 1."""

    axis: Array
    direction: Array
    half_angle: float


@dataclass(frozen=True)
class RateLimits:
    """Bounds of the length of velocity, acceleration and jerk: m/s, m/s^2, m/s^3, or the same in radians."""

    velocity: float
    acceleration: float
    jerk: float


@dataclass(frozen=True)
class Bound:
    """metres and radians."""

    position: float
    rotation: float


@dataclass(frozen=True, eq=False)
class SafetyLimits:
    """What every setpoint keeps; docs/safety_gate.md tells how to choose the numbers.

    box: where the tool's point may be; keep_out: boxes inside it where it may not. cone: of the tool's axis, or None.
    joint_margin: rad left to each joint limit. joint_low, joint_high, joint_velocity (n,) rad, rad/s: tighter than the
    arm's own, or None. linear, angular: of the setpoint's motion. step_jump: a target further than that from the
    setpoint is refused. tracking_error: the arm further than that from the setpoint is a fault. max_state_age: seconds.
    force, torque: N, Nm, above which the measured wrench is a fault, or None. gripper: (closed, open) metres, and its
    speed m/s. slow_zone: metres from a wall or keep-out box within which the tool slows down, to `slow_speed` m/s at
    the wall; 0: never. kinematics_error: by which the measured joints and the measured pose may disagree at `reset`.
    """

    box: Box
    linear: RateLimits
    angular: RateLimits
    step_jump: Bound
    tracking_error: Bound
    gripper: tuple[float, float]
    gripper_speed: float
    keep_out: tuple[Box, ...] = ()
    cone: Cone | None = None
    joint_margin: float = 0.1
    joint_low: Array | None = None
    joint_high: Array | None = None
    joint_velocity: Array | None = None
    max_state_age: float = 0.1
    force: float | None = None
    torque: float | None = None
    slow_zone: float = 0.0
    slow_speed: float = 0.02
    kinematics_error: Bound = Bound(0.01, 0.05)

    def __post_init__(self) -> None:
        _check_box("box", self.box)
        for number, box in enumerate(self.keep_out):
            _check_box(f"keep_out[{number}]", box)
        if self.cone is not None:
            for name, vector in (("axis", self.cone.axis), ("direction", self.cone.direction)):
                if abs(float(np.linalg.norm(vector)) - 1) > 1e-6:
                    raise LimitsError(f"safety.cone.{name}: expected a direction of length 1, got {vector}")
            _check_number("cone.half_angle", self.cone.half_angle, 1e-3, np.pi)
        for name, rates in (("linear", self.linear), ("angular", self.angular)):
            for key in ("velocity", "acceleration", "jerk"):
                _check_number(f"{name}.{key}", getattr(rates, key), 1e-6, 1e6)
        angular.inner_rates(self.angular.velocity, self.angular.acceleration, self.angular.jerk)  # raises
        for name, bound in (
            ("step_jump", self.step_jump),
            ("tracking_error", self.tracking_error),
            ("kinematics_error", self.kinematics_error),
        ):
            _check_number(f"{name}.position", bound.position, 1e-6, 10)
            _check_number(f"{name}.rotation", bound.rotation, 1e-6, 3.0)
        _check_number("gripper.low", self.gripper[0], 0, 1)
        _check_number("gripper.high", self.gripper[1], self.gripper[0], 1)
        _check_number("gripper.speed", self.gripper_speed, 1e-6, 100)
        _check_number("joint_margin", self.joint_margin, 0, 1)
        _check_number("max_state_age", self.max_state_age, 1e-6, 10)
        _check_number("slow_zone", self.slow_zone, 0, 1)
        _check_number("slow_speed", self.slow_speed, 1e-4, 10)
        for name, value in (("force", self.force), ("torque", self.torque)):
            if value is not None:
                _check_number(name, value, 1e-6, 1e5)
        for name in ("joint_low", "joint_high", "joint_velocity"):
            joints = getattr(self, name)
            if joints is not None and (joints.ndim != 1 or not np.isfinite(joints).all()):
                raise LimitsError(f"safety.{name}: expected one finite number for each joint, got {joints}")
        if self.joint_velocity is not None and (self.joint_velocity <= 0).any():
            raise LimitsError(f"safety.joint_velocity: expected numbers > 0, got {self.joint_velocity}")

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> SafetyLimits:
        """From the node `safety` (configs/safety/*.yaml), resolved to plain values. LimitsError names a bad key."""
        top = _Node("safety", node)
        gripper = top.child("gripper")
        cone = top.child("cone") if top.get("cone") is not None else None
        limits = cls(
            box=_box(top.child("box")),
            keep_out=tuple(_box(_Node(f"safety.keep_out[{i}]", box)) for i, box in enumerate(top.get("keep_out", ()))),
            cone=None
            if cone is None
            else Cone(_direction(cone, "axis"), _direction(cone, "direction"), cone.number("half_angle")),
            linear=_rates(top.child("linear")),
            angular=_rates(top.child("angular")),
            step_jump=_bound(top.child("step_jump")),
            tracking_error=_bound(top.child("tracking_error")),
            kinematics_error=_bound(top.child("kinematics_error")),
            gripper=(gripper.number("low"), gripper.number("high")),
            gripper_speed=gripper.number("speed"),
            joint_margin=top.number("joint_margin"),
            joint_low=top.vector("joint_low"),
            joint_high=top.vector("joint_high"),
            joint_velocity=top.vector("joint_velocity"),
            max_state_age=top.number("max_state_age"),
            force=top.number("force") if top.get("force") is not None else None,
            torque=top.number("torque") if top.get("torque") is not None else None,
            slow_zone=top.number("slow_zone"),
            slow_speed=top.number("slow_speed"),
        )
        for part in (top, gripper, *([cone] if cone is not None else [])):
            part.all_read()
        return limits


class _Node:
    """A mapping that names itself in errors and knows which keys were never read: a misspelt limit is no limit."""

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise LimitsError(f"{name}: expected a mapping, got {values!r}")
        self.name, self._values, self._read = name, values, set[str]()

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        value = self._values.get(key, default)
        return default if value is None else value

    def child(self, key: str) -> _Node:
        if self.get(key) is None:
            raise LimitsError(f"{self.name}.{key}: missing; configs/safety/default.yaml shows it")
        return _Node(f"{self.name}.{key}", self.get(key))

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise LimitsError(f"{self.name}.{key}: expected a number, got {value!r}")
        return float(value)

    def vector(self, key: str, size: int | None = None) -> Array | None:
        value = self.get(key)
        if value is None and size is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise LimitsError(f"{self.name}.{key}: expected a list of numbers, got {value!r}")
        try:
            return finite(f"{self.name}.{key}", value, (size if size is not None else len(value),))
        except (TypeError, ValueError) as error:
            raise LimitsError(f"{self.name}.{key}: expected a list of finite numbers, got {value!r}") from error

    def all_read(self) -> None:
        unknown = sorted(set(map(str, self._values)) - self._read)
        if unknown:
            raise LimitsError(f"{self.name}: unknown keys {', '.join(unknown)}; known: {', '.join(sorted(self._read))}")


def _box(node: _Node) -> Box:
    low, high = node.vector("low", 3), node.vector("high", 3)
    node.all_read()
    assert low is not None
    assert high is not None
    return Box(low, high)


def _direction(node: _Node, key: str) -> Array:
    vector = node.vector(key, 3)
    assert vector is not None
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise LimitsError(f"{node.name}.{key}: expected a direction, got {vector}")
    return vector / length


def _rates(node: _Node) -> RateLimits:
    rates = RateLimits(node.number("velocity"), node.number("acceleration"), node.number("jerk"))
    node.all_read()
    return rates


def _bound(node: _Node) -> Bound:
    bound = Bound(node.number("position"), node.number("rotation"))
    node.all_read()
    return bound


def _check_box(name: str, box: Box) -> None:
    for corner in (box.low, box.high):
        if corner.shape != (3,) or not np.isfinite(corner).all():
            raise LimitsError(f"safety.{name}: expected low and high of three finite metres, got {corner}")
    if not (box.low < box.high).all():
        raise LimitsError(f"safety.{name}: expected low < high along each axis, got {box.low} and {box.high}")


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise LimitsError(f"safety.{name}: expected a number in [{low}, {high}], got {value}")
