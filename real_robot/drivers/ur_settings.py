"""Settings of the UR driver, checked when built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from real_robot.kinematics import ARMS
from real_robot.types import finite

__all__ = ["GripperSettings", "URSettings"]


@dataclass(frozen=True)
class GripperSettings:
    """port: of the URCap; stroke: metres between the open fingers; ends: counts (open, closed); speed, force: 0..1."""

    port: int = 63352
    stroke: float = 0.085
    ends: Sequence[int] = (0, 255)
    speed: float = 1.0
    force: float = 0.3


@dataclass(frozen=True)
class URSettings:
    """All settings; metres, radians, seconds, kg.

    tcp: of the tool in the flange's frame, position and rotation vector. payload: mass and centre of gravity
    (kg, m, m, m), or None to leave the pendant's. command_hz: at most 500. lookahead: 0.03 to 0.2, gain: 100 to 2000,
    of servoj. max_state_age: measurements older than that stop it. max_gripper_age: readings of the gripper older
    than that are an error. lost_after: without a measurement for that long, the connection counts as lost.
    command_timeout: without a command for that long it stops. watchdog_hz: the controller ends the script when
    nothing comes for one period of it. start_within: metres and radians by which the first target may be away from
    the tool. max_speed: m/s and rad/s between one target and the next; the safety gate's limits are tighter.
    deceleration: m/s^2 of a stop. joint_acceleration, joint_deceleration: rad/s^2 of homing. connect_timeout,
    unlock_timeout: how long to wait for the controller.
    """

    address: str
    name: str = "ur5e"
    arm: str = "ur5e"
    base_turn: float = float(np.pi)
    base_yaw: float = 0.0
    tcp: Sequence[float] = (0.0, 0.0, 0.145, 0.0, 0.0, 0.0)
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
        for name, low, high in (
            ("command_hz", 10, 500), ("lookahead", 0.03, 0.2), ("gain", 100, 2000), ("max_state_age", 0.01, 0.5),
            ("command_timeout", 0.02, 0.5), ("watchdog_hz", 1, 100), ("deceleration", 0.5, 50),
            ("joint_acceleration", 0.1, 20), ("joint_deceleration", 0.1, 20),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"robot.{name}: expected {low} to {high}, got {value}")
        if self.arm not in ARMS or not self.arm.startswith("ur"):
            raise ValueError(
                f"robot.arm: expected one of {', '.join(a for a in ARMS if a[:2] == 'ur')}, got {self.arm!r}"
            )
        finite("robot.tcp", self.tcp, (6,))
        finite("robot.start_within", self.start_within, (2,))
        finite("robot.max_speed", self.max_speed, (2,))
        if self.payload is not None:
            finite("robot.payload", self.payload, (4,))
