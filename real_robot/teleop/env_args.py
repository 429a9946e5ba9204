"""What a recorded file says about the arm it was recorded on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from real_robot.contract import RobotFeatures
from real_robot.teleop.errors import RecordingError
from real_robot.world import OSC_LIMITS

__all__ = ["env_arguments"]


def env_arguments(
    name: str, robot: RobotFeatures, control_hz: float, cameras: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """`env_args` in robomimic's form; "type" is a word, because none of robomimic's simulators made this.

    name: of the task. cameras: see `Pictures.about`.
    """
    if not name:
        raise RecordingError("task_name: expected the name of what is demonstrated, got nothing")
    move, turn = OSC_LIMITS
    return {
        "env_name": name,
        "env_version": "1",
        "type": "real_robot",
        "env_kwargs": {
            "robots": [robot.name],
            "arm": robot.arm,
            "control_freq": int(control_hz) if control_hz == int(control_hz) else control_hz,
            "controller_configs": {
                "type": "OSC_POSE",
                "control_delta": False,
                "output_max": [move] * 3 + [turn] * 3,
                "output_min": [-move] * 3 + [-turn] * 3,
            },
            "base_yaw": robot.base_yaw,
            "base_position": list(robot.base_position),
            "gripper": list(robot.gripper),
            "cameras": {camera: dict(about) for camera, about in cameras.items()},
        },
    }
