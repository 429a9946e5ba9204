"""`check_frame`: a real arm runs a policy only in a frame that was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_robot.calibration.board import CalibrationError
from real_robot.calibration.live import check_base
from real_robot.calibration.result import CameraCalibration, load_base
from real_robot.calibration.symmetry import AxisBounds, SymmetryAxis
from real_robot.contract import RobotFeatures
from real_robot.settings import SettingsError, check_ranges

__all__ = ["FrameSettings", "check_frame"]


@dataclass(frozen=True)
class FrameSettings:
    """base: file of `python -m real_robot.calibration make=base`, None if a camera's calibration has the axis.

    unmeasured_axis: the user's word that this arm may run though nobody measured its axis. max_tilt, max_yaw: degrees;
    max_centre: metres; as when the file was made.
    """

    base: str | None = None
    unmeasured_axis: bool = False
    max_tilt: float = 1.0
    max_centre: float = 0.01
    max_yaw: float = 3.0

    def __post_init__(self) -> None:
        if not isinstance(self.unmeasured_axis, bool):
            raise SettingsError(f"calibration.unmeasured_axis: expected true or false, got {self.unmeasured_axis!r}")
        check_ranges("calibration", self, {"max_tilt": (0, 10), "max_centre": (0, 0.1), "max_yaw": (0, 30)})

    @property
    def bounds(self) -> AxisBounds:
        """In radians and metres."""
        return AxisBounds(math.radians(self.max_tilt), self.max_centre, math.radians(self.max_yaw))


def check_frame(
    settings: FrameSettings,
    robot: RobotFeatures,
    cameras: Mapping[str, CameraCalibration],
    centre: tuple[float, float] = (0.0, 0.0),
    reach: float = 0.3,
) -> str:
    """What is known of the symmetry axis, in words.

    cameras: calibrations of those in use. centre: of the policy's workspace. CalibrationError when nobody measured the
    axis, when it is beyond a bound in any of the files, or when the base file has the base at another place than the
    robot says.
    """
    measured: dict[str, Mapping[str, Any]] = {
        f"camera {name!r}": calibration.axis for name, calibration in cameras.items() if calibration.axis is not None
    }
    if settings.base is not None:
        base = load_base(Path(settings.base))
        check_base(f"calibration.base={settings.base}", base.base, robot)
        measured[settings.base] = base.axis
    known = []
    for where, tree in measured.items():
        try:
            axis = SymmetryAxis.from_json(tree).about(centre)
            settings.bounds.check(axis, reach)
        except CalibrationError as error:
            raise CalibrationError(f"{where}: {error}") from error
        known.append(f"{where}: {axis.sentences(reach)}")
    if known:
        return "; ".join(known)
    if settings.unmeasured_axis:
        return "the symmetry axis of this arm was not measured (calibration.unmeasured_axis=true)"
    raise CalibrationError(
        "calibration: nobody measured the symmetry axis of this arm, and a tilted base turns every scene into one that "
        "the policy does not know. Lay a level on the base: python -m real_robot.calibration make=base "
        f"'axis.level=[x,y]' base.yaw={robot.base_yaw} 'base.position={list(robot.base_position)}', then "
        "calibration.base=base.json; or calibrate a camera with axis.level, axis.gravity or axis.table. "
        "calibration.unmeasured_axis=true runs it all the same"
    )
