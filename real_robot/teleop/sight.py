"""Recorded pictures of calibrated cameras: made by the code that makes them when the policy runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from real_robot.calibration.board import CalibrationError
from real_robot.calibration.live import Scene, load_scene
from real_robot.contract import RobotFeatures
from real_robot.teleop.errors import RecordingError
from real_robot.teleop.pictures import Pictures

__all__ = ["calibrated"]


def calibrated(pictures: Pictures, node: Any, robot: RobotFeatures) -> Scene | None:
    """The scene of the calibration files that the node `cameras` names; None when it names none.

    Its observations are those of `pictures`, without distortion and with each camera's pose. Raises RecordingError
    when only some cameras are calibrated, or with another place of the base than the robot's.
    """
    settings, cameras = pictures.settings, dict(node or {})
    files = {name: camera["calibration"] for name, camera in cameras.items() if camera.get("calibration")}
    if settings is None or not files:
        return None
    for name in cameras:
        if name not in files:
            raise RecordingError(
                f"cameras.{name}.calibration: is not set, but that of {', '.join(files)} is; calibrate all or none"
            )
    try:
        return load_scene(settings, {name: Path(file) for name, file in files.items()}, robot)
    except CalibrationError as error:
        raise RecordingError(str(error)) from error
