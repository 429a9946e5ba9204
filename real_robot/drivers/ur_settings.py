"""Settings of the UR driver, checked when built; from the node `robot` of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from real_robot.kinematics import ARMS
from real_robot.settings import SettingsError, check_ranges, check_vectors
from real_robot.types import finite

__all__ = ["GripperSettings", "URSettings"]

_RANGES = {
    "command_hz": (10, 500),
    "lookahead": (0.03, 0.2),
    "gain": (100, 2000),
    "max_state_age": (0.01, 0.5),
    "max_gripper_age": (0.05, 5),
    "lost_after": (0.1, 10),
    "command_timeout": (0.02, 0.5),
    "watchdog_hz": (1, 100),
    "deceleration": (0.5, 50),
    "joint_acceleration": (0.1, 20),
    "joint_deceleration": (0.1, 20),
    "connect_timeout": (0.1, 60),
    "unlock_timeout": (0, 60),
}


@dataclass(frozen=True)
class GripperSettings:
    """port: of the URCap; stroke: metres between the open fingers; ends: counts (open, closed); speed, force: 0..1."""

    port: int = 63352
    stroke: float = 0.085
    ends: Sequence[int] = (0, 255)
    speed: float = 1.0
    force: float = 0.3

    def __post_init__(self) -> None:
        if len(self.ends) != 2:
            raise SettingsError(f"robot.gripper.ends: expected counts (open, closed), got {self.ends}")
        object.__setattr__(self, "ends", (int(self.ends[0]), int(self.ends[1])))


@dataclass(frozen=True)
class URSettings:
    """All settings; metres, radians, seconds, kg.

    base_turn: of the controller's base frame about z, seen from the base frame of the poses. base_yaw, base_position:
    of that frame in the world of the training data; only told in the features. tcp: of the tool in the flange's
    frame, position and rotation vector. payload: mass and centre of gravity (kg, m, m, m), or None to leave the
    pendant's. gripper: None without one. command_hz: at most 500. lookahead: 0.03 to 0.2, gain: 100 to 2000, of servoj.
    max_state_age: measurements older than that stop it. max_gripper_age: readings of the gripper older than that are an
    error. lost_after: without a measurement for that long, the connection counts as lost. command_timeout: without a
    command for that long it stops. watchdog_hz: the controller ends the script when nothing comes for one period of it.
    start_within: metres and radians by which the first target may be away from the tool. max_speed: m/s and rad/s
    between one target and the next; the safety gate's limits are tighter. deceleration: m/s^2 of a stop.
    joint_acceleration, joint_deceleration: rad/s^2 of homing. connect_timeout, unlock_timeout: patience with the
    controller.
    """

    address: str
    name: str = "ur5e"
    arm: str = "ur5e"
    base_turn: float = float(np.pi)
    base_yaw: float = 0.0
    base_position: Sequence[float] = (0.0, 0.0, 0.0)
    tcp: Sequence[float] = (0.0, 0.0, 0.145, 0.0, 0.0, -float(np.pi) / 2)
    payload: Sequence[float] | None = None
    gripper: GripperSettings | None = field(default_factory=GripperSettings)
    command_hz: float = 125.0
    lookahead: float = 0.1
    gain: float = 300.0
    max_state_age: float = 0.1
    max_gripper_age: float = 0.5
    lost_after: float = 2.0
    command_timeout: float = 0.1
    watchdog_hz: float = 5.0
    start_within: Sequence[float] = (0.02, 0.1)
    max_speed: Sequence[float] = (1.0, 3.0)
    deceleration: float = 10.0
    joint_acceleration: float = 1.4
    joint_deceleration: float = 3.0
    connect_timeout: float = 15.0
    unlock_timeout: float = 8.0

    def __post_init__(self) -> None:
        check_ranges("robot", self, _RANGES)
        check_vectors("robot", self, {"tcp": 6, "start_within": 2, "max_speed": 2, "base_position": 3})
        finite("robot.base_turn and base_yaw", [self.base_turn, self.base_yaw], (2,))
        known = [name for name in ARMS if name.startswith("ur")]
        if self.arm not in known:
            raise SettingsError(f"robot.arm: expected one of {', '.join(known)}, got {self.arm!r}")
        if self.payload is not None:
            check_vectors("robot", self, {"payload": 4})

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Self:
        """Of plain values, lists and mappings. ValueError names a key that is unknown or missing."""
        values = dict(node)
        grip = values.get("gripper")
        for name, keys, kind in (("robot", values, cls), ("robot.gripper", grip or {}, GripperSettings)):
            known = [f.name for f in fields(kind)]
            wrong = [key for key in keys if key not in known]
            if wrong:
                raise SettingsError(f"{name}.{wrong[0]}: no such key; expected one of {', '.join(known)}")
        if not values.get("address"):
            raise SettingsError(
                "robot.address: missing; give the address of the controller, e.g. robot.address=192.168.1.10"
            )
        if isinstance(grip, Mapping):
            values["gripper"] = GripperSettings(**grip)
        return cls(**values)
