"""Settings of the Franka driver, checked when built; from the node `robot` of the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from real_robot.settings import SettingsError, check_ranges, check_vectors
from real_robot.types import Array, finite

__all__ = ["FRANKA_MODELS", "FrankaGripperSettings", "FrankaSettings"]

# joint limits (low, high) rad and speeds rad/s: "Robot and interface specifications" of the Franka Control Interface
FRANKA_MODELS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "panda": (
        (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
        (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    ),
    "fr3": (
        (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
        (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
        (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    ),
}
_RANGES = {
    "command_hz": (10, 500),
    "command_timeout": (0.02, 0.5),
    "max_state_age": (0.01, 0.5),
    "lost_after": (0.1, 10),
    "stop_within": (0.1, 5),
    "translational_stiffness": (10, 3000),
    "rotational_stiffness": (1, 300),
    "torque_threshold": (1, 100),
    "force_threshold": (1, 100),
    "homing_acceleration": (0.01, 1),
}


@dataclass(frozen=True)
class FrankaGripperSettings:
    """stroke: metres between the open fingers. speed m/s, force N with which it holds. step: metres by which a target
    must change to be sent; the hand takes one motion at a time. homing: find the end stops when connecting."""

    stroke: float = 0.08
    speed: float = 0.1
    force: float = 40.0
    step: float = 0.002
    homing: bool = False

    def __post_init__(self) -> None:
        for name in ("stroke", "speed", "force", "step"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"robot.gripper.{name}: expected a number > 0, got {value}")


@dataclass(frozen=True)
class FrankaSettings:
    """All settings; metres, radians, seconds, newtons.

    address: of the control unit, with FCI active. model: "panda" or "fr3", whose joint limits differ. realtime: False
    without a real-time kernel, for a simulated arm only. base_yaw, base_position: of the base in the world of the
    training data, only told in the features. tool: in the flange's frame, position and rotation vector; the default is
    robosuite's Panda gripper. command_timeout: without a command for that long it stops. max_state_age: measurements
    older than that stop it. lost_after: after that the connection counts as lost. stop_within: seconds in which a stop
    must have come to rest. start_within: metres and radians by which the first target may be away from the tool.
    max_speed: m/s and rad/s between one target and the next; the safety gate's limits are tighter.
    translational_stiffness N/m, rotational_stiffness Nm/rad: of the impedance with which targets are followed.
    torque_threshold Nm, force_threshold N: contacts above them make the controller stop (reflex).
    homing_acceleration: of homing, as a share of what the arm can do. gripper: None without one.
    """

    address: str
    name: str = "franka"
    model: str = "fr3"
    realtime: bool = True
    base_yaw: float = 0.0
    base_position: Sequence[float] = (0.0, 0.0, 0.0)
    tool: Sequence[float] = (0.0, 0.0, 0.097, 0.0, 0.0, -0.75 * math.pi)
    command_hz: float = 100.0
    command_timeout: float = 0.1
    max_state_age: float = 0.1
    lost_after: float = 1.5
    stop_within: float = 2.0
    start_within: Sequence[float] = (0.02, 0.1)
    max_speed: Sequence[float] = (1.0, 2.5)
    translational_stiffness: float = 1500.0
    rotational_stiffness: float = 80.0
    torque_threshold: float = 20.0
    force_threshold: float = 30.0
    homing_acceleration: float = 0.1
    gripper: FrankaGripperSettings | None = field(default_factory=FrankaGripperSettings)

    def __post_init__(self) -> None:
        if self.model not in FRANKA_MODELS:
            raise SettingsError(f"robot.model: expected {' or '.join(FRANKA_MODELS)}, got {self.model!r}")
        check_ranges("robot", self, _RANGES)
        check_vectors("robot", self, {"base_position": 3, "tool": 6, "start_within": 2, "max_speed": 2})
        if self.gripper is not None and isinstance(self.gripper, Mapping):
            known = {f.name for f in fields(FrankaGripperSettings)}
            for key in self.gripper:
                if key not in known:
                    raise SettingsError(f"robot.gripper: no setting {key!r}; there are: {', '.join(sorted(known))}")
            object.__setattr__(self, "gripper", FrankaGripperSettings(**self.gripper))

    @property
    def joint_limits(self) -> tuple[Array, Array, Array]:
        """low, high (7,) rad and speed (7,) rad/s of the model."""
        low, high, speed = (finite("limits", values, (7,)) for values in FRANKA_MODELS[self.model])
        return low, high, speed
