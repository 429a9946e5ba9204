"""A real arm runs a policy only in a frame that was measured, within its bounds, or by its user's word."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")

from test_calibration_app import settings

from real_robot.calibration import BaseInWorld, CalibrationError, CameraCalibration, Lens, SymmetryAxis
from real_robot.calibration.app import measure_base
from real_robot.calibration.frame import FrameSettings, check_frame
from real_robot.calibration.result import load_base
from real_robot.contract import RobotFeatures
from real_robot.poses import Pose
from real_robot.settings import SettingsError

BASE = BaseInWorld(0.3, (-0.5, 0.0, 0.9))
ROBOT = RobotFeatures(
    "arm", "ur5e", np.full(6, -3), np.full(6, 3), np.ones(6), (0, 0.08), 125, base_yaw=0.3, base_position=BASE.position
)
LEVEL = SymmetryAxis(math.radians(0.2), 0.0, "a level", math.radians(0.1)).to_json()


def camera(axis: dict[str, Any] | None) -> dict[str, CameraCalibration]:
    lens = Lens(np.diag([50.0, 50.0, 1.0]), 64, 48)
    return {"top": CameraCalibration("top", "base", Pose([0, 0, 1], np.eye(3)), lens, BASE, {}, axis)}


def base_file(folder: Path, *more: str) -> str:
    out = folder / "base.json"
    yaw, place = f"base.yaw={BASE.yaw}", f"base.position={list(BASE.position)}"
    tree = settings("make=base", f"out={out}", "axis.level=[0.2,-0.1]", yaw, place, *more)
    assert measure_base(tree) == 0
    return str(out)


def test_nobody_measured() -> None:
    for cameras in ({}, camera(None)):
        with pytest.raises(CalibrationError, match=r"nobody measured .* base\.yaw=0\.3 .*unmeasured_axis=true"):
            check_frame(FrameSettings(), ROBOT, cameras)
        assert "was not measured" in check_frame(FrameSettings(unmeasured_axis=True), ROBOT, cameras)


def test_a_camera_or_a_level_will_do(tmp_path: Path) -> None:
    assert "camera 'top': base z is tilted by 0.20" in check_frame(FrameSettings(), ROBOT, camera(LEVEL))
    path = base_file(tmp_path)
    found = load_base(Path(path))
    assert found.base == BASE
    assert math.degrees(found.axis["tilt"]) == pytest.approx(math.hypot(0.2, 0.1), abs=1e-4)
    told = check_frame(FrameSettings(base=path), ROBOT, camera(None))
    assert "base z is tilted by 0.22 +- 0.10 degrees (by a level)" in told


def test_bounds_hold_though_the_user_runs_unmeasured_arms(tmp_path: Path) -> None:
    """Files may be old, edited, or made with wider bounds."""
    word = {"unmeasured_axis": True}
    steep = LEVEL | {"tilt": math.radians(0.9)}
    with pytest.raises(CalibrationError, match=r"camera 'top': symmetry axis refused: base z is tilted by 0\.90"):
        check_frame(FrameSettings(**word), ROBOT, camera(steep))
    path = base_file(tmp_path, "axis.max_tilt=9", "axis.level=[2,0]")
    with pytest.raises(CalibrationError, match=r"base\.json: symmetry axis refused: base z is tilted by 2\.00"):
        check_frame(FrameSettings(base=path, **word), ROBOT, {})
    assert "2.00" in check_frame(FrameSettings(base=path, max_tilt=2.5), ROBOT, {})
    off = LEVEL | {"centre": 0.02, "yaw": 0.0}
    with pytest.raises(CalibrationError, match="the workspace centre is off by more than 10 mm"):
        check_frame(FrameSettings(**word), ROBOT, camera(off))


def test_the_centre_that_counts_is_the_policys() -> None:
    """A yaw error of 1.2 degrees moves a centre that is half a metre from the calibrated one by up to a centimetre."""
    axis = LEVEL | {"centre": 0.001, "yaw": math.radians(1.2), "yaw_error": 0.0, "at": [0.0, 0.0]}
    assert "off by 1.0 +- 0.0 mm" in check_frame(FrameSettings(), ROBOT, camera(axis), (0.0, 0.0))
    with pytest.raises(CalibrationError, match=r"the workspace centre is off by 11\.5 \+- 0\.0 mm"):
        check_frame(FrameSettings(), ROBOT, camera(axis), (0.3, -0.4))
    shaky = axis | {"yaw": math.radians(0.5), "yaw_error": math.radians(0.4)}
    with pytest.raises(CalibrationError, match=r"off by 5\.4 \+- 3\.5 mm"):
        check_frame(FrameSettings(), ROBOT, camera(shaky), (0.3, -0.4))
    unsaid = {key: value for key, value in axis.items() if key != "at"}
    assert "off by 1.0" in check_frame(FrameSettings(), ROBOT, camera(unsaid), (0.3, -0.4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tilt": float("nan")}, "axis.tilt: expected a finite number"),
        ({"tilt": -0.1}, "axis.tilt: expected a number >= 0"),
        ({"tilt_error": "small"}, "axis.tilt_error: expected a finite number, got 'small'"),
        ({"at": [0.1]}, r"axis\.at: expected \[x, y\] in metres, got \[0\.1\]"),
        ({"at": "here"}, r"axis\.at: expected \[x, y\] in metres, got 'here'"),
        ({"tlt": 0.1}, "axis: expected .*tilt.*got .*tlt"),
    ],
)
def test_an_axis_that_is_none_is_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CalibrationError, match=f"camera 'top': {said}"):
        check_frame(FrameSettings(), ROBOT, camera(LEVEL | change))


def test_a_base_elsewhere_and_files_that_are_none(tmp_path: Path) -> None:
    path = base_file(tmp_path, "base.yaw=0.4")
    with pytest.raises(CalibrationError, match=r"calibration\.base=.*was calibrated with the base at .*yaw=0\.4"):
        check_frame(FrameSettings(base=path), ROBOT, {})
    tree = json.loads(Path(path).read_text())
    del tree["axis"]
    Path(path).write_text(json.dumps(tree))
    with pytest.raises(CalibrationError, match=r"base\.json: 'axis' is missing; calibrate again"):
        check_frame(FrameSettings(base=path), ROBOT, {})
    with pytest.raises(CalibrationError, match=r"not a calibration of a base: .*No such file"):
        check_frame(FrameSettings(base=str(tmp_path / "gone.json")), ROBOT, {})
    with pytest.raises(CalibrationError, match=r"axis\.level is not set; without a camera"):
        measure_base(settings("make=base"))
    with pytest.raises(CalibrationError, match=r"axis\.level: expected \[degrees along x, .*\], got \[1\]"):
        measure_base(settings("make=base", "axis.level=[1]"))
    with pytest.raises(CalibrationError, match=r"symmetry axis refused: base z is tilted by 1\.43"):
        measure_base(settings("make=base", "axis.level=[1.4,0.3]"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unmeasured_axis": "yes"}, "calibration.unmeasured_axis: expected true or false, got 'yes'"),
        ({"max_tilt": float("nan")}, "calibration.max_tilt: expected 0 to 10"),
        ({"max_centre": -1}, "calibration.max_centre: expected 0 to 0.1"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        FrameSettings(**change)
