"""Settings of the ROS 2 driver, checked when built; from the node `robot` of the configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from real_robot.kinematics import ARMS
from real_robot.settings import SettingsError, check_ranges, check_vectors

__all__ = ["Ros2Settings"]

_RANGES = {
    "command_hz": (5, 500),
    "command_timeout": (0.02, 1.0),
    "max_state_age": (0.01, 1.0),
    "lost_after": (0.1, 10),
    "stop_time": (0.05, 2),
    "gripper_stroke": (0, 1),
}


@dataclass(frozen=True)
class Ros2Settings:
    """All settings; metres, radians, seconds.

    arm: name of its kinematics. joints: their names in the joint states, from the base on. trajectory_topic: of a
    joint_trajectory_controller. gripper_topic: std_msgs/Float64MultiArray with the opening in metres divided by
    gripper_scale; gripper_joint: whose position times gripper_scale is the opening. base_turn, base_yaw, base_position,
    tool, start_within, max_speed, command_timeout, max_state_age, lost_after: as of the other arms. stop_time: in which
    a stop brings the joints to rest.
    """

    arm: str
    joints: Sequence[str]
    name: str = "ros2"
    trajectory_topic: str = "/joint_trajectory_controller/joint_trajectory"
    state_topic: str = "/joint_states"
    gripper_topic: str | None = None
    gripper_joint: str | None = None
    gripper_scale: float = 1.0
    gripper_stroke: float = 0.085
    base_turn: float = 0.0
    base_yaw: float = 0.0
    base_position: Sequence[float] = (0.0, 0.0, 0.0)
    tool: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    command_hz: float = 50.0
    command_timeout: float = 0.1
    max_state_age: float = 0.1
    lost_after: float = 2.0
    start_within: Sequence[float] = (0.02, 0.1)
    max_speed: Sequence[float] = (1.0, 2.5)
    stop_time: float = 0.3

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise SettingsError(f"robot.arm: expected one of {', '.join(ARMS)}, got {self.arm!r}")
        object.__setattr__(self, "joints", tuple(map(str, self.joints)))
        count = len(ARMS[self.arm].rows)
        if len(set(self.joints)) != count:
            raise SettingsError(
                f"robot.joints: {self.arm} has {count} joints of different names, got {list(self.joints)}"
            )
        check_ranges("robot", self, _RANGES)
        check_vectors("robot", self, {"base_position": 3, "tool": 6, "start_within": 2, "max_speed": 2})
        if not (math.isfinite(self.base_yaw) and math.isfinite(self.base_turn) and self.gripper_scale):
            raise SettingsError(
                f"robot.base_yaw, base_turn, gripper_scale: expected finite numbers, the last not 0, got "
                f"{self.base_yaw}, {self.base_turn}, {self.gripper_scale}"
            )
