"""Where the cameras are, how sure that is, and whether the axis about which the policy turns scenes is vertical."""

from real_robot.calibration.board import BoardSettings, CalibrationError
from real_robot.calibration.lens import Lens
from real_robot.calibration.result import BaseInWorld, CameraCalibration, load_calibration, save_calibration
from real_robot.calibration.symmetry import SymmetryAxis, SymmetryAxisError, check_symmetry_axis

__all__ = [
    "BaseInWorld",
    "BoardSettings",
    "CalibrationError",
    "CameraCalibration",
    "Lens",
    "SymmetryAxis",
    "SymmetryAxisError",
    "check_symmetry_axis",
    "load_calibration",
    "save_calibration",
]
