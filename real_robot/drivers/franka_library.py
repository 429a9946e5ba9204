"""The franky package, imported when an arm is connected, and its values as ours."""

from __future__ import annotations

from typing import Any

from real_robot.contract import RobotError
from real_robot.poses import Pose
from real_robot.types import RobotMode

__all__ = ["affine_of", "errors", "library", "mode_of", "pose_of"]


def library() -> Any:
    """The franky module. RobotError that names the extra if it is missing."""
    try:
        import franky
    except ImportError as error:
        raise RobotError(f"the Franka driver needs franky-control ({error}): pip install 'equidiff[franka]'") from error
    return franky


def errors(franky: Any) -> tuple[type[Exception], ...]:
    """What franky raises when something is wrong with the arm."""
    # a connection that broke is a plain RuntimeError ("Net Exception") from then on
    return franky.Exception, RuntimeError


def mode_of(mode: Any) -> RobotMode:
    """Of a franky.RobotMode."""
    return {
        "Idle": RobotMode.READY,
        "Move": RobotMode.READY,
        "Guiding": RobotMode.IDLE,
        "Reflex": RobotMode.PROTECTIVE_STOP,
        "AutomaticErrorRecovery": RobotMode.PROTECTIVE_STOP,
        "UserStopped": RobotMode.EMERGENCY_STOP,
        "Other": RobotMode.IDLE,
    }.get(mode.name, RobotMode.FAULT)


def pose_of(affine: Any) -> Pose:
    """Of a franky.Affine."""
    return Pose.from_quat(affine.translation, affine.quaternion)


def affine_of(franky: Any, pose: Pose) -> Any:
    """A franky.Affine."""
    return franky.Affine(pose.position, pose.quat)
