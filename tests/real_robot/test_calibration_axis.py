"""The symmetry axis: its errors are found, told and refused; what calibration writes comes back."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")

from real_robot.calibration import (
    BaseInWorld,
    CalibrationError,
    CameraCalibration,
    Lens,
    SymmetryAxis,
    SymmetryAxisError,
    check_symmetry_axis,
    load_calibration,
    save_calibration,
)
from real_robot.calibration.symmetry import AxisBounds, up_from_board, up_from_gravity, up_from_level
from real_robot.poses import Pose, exp_map

LENS = Lens(
    np.array([[560.0, 0, 320], [0, 560, 240], [0, 0, 1]]), 640, 480, np.array([-0.1, 0.02, 0, 0]), {"focal_px": 0.4}
)


def tilted(degrees: float, about: float = 0.0) -> np.ndarray:
    """Up in the frame of a base that leans by `degrees` about a horizontal axis at `about` degrees from x."""
    a = math.radians(about)
    lean = exp_map(math.radians(degrees) * np.array([math.cos(a), math.sin(a), 0]))
    return lean.T @ [0, 0, 1]


def test_all_ways_to_the_vertical_agree() -> None:
    lean = exp_map([math.radians(0.4), 0, 0]) @ exp_map([0, math.radians(-0.3), 0])  # base in a level frame
    up = lean.T @ [0, 0, 1]
    camera = Pose.from_rotvec([0.5, 0.2, 0.6], [2.0, 0.3, -0.4])
    assert np.abs(up_from_gravity(camera.rotation.T @ (-9.81 * up), camera) - up).max() < 1e-12
    slope = [math.asin((lean @ axis)[2]) for axis in np.eye(3)[:2]]
    assert np.abs(up_from_level(*slope) - up).max() < 1e-12
    board_in_level = Pose([0.4, 0, 0], exp_map([0, 0, 0.7]) @ np.diag([1, -1, -1]))  # face up
    assert np.abs(up_from_board(Pose([0, 0, 0], lean).inverse() @ board_in_level) - up).max() < 1e-12


@pytest.mark.parametrize("about", [0, 90, 200])
def test_the_tilt_is_found_with_its_side(about: float) -> None:
    axis = check_symmetry_axis(tilted(0.8, about), "a level", base=BaseInWorld())
    assert math.degrees(axis.tilt) == pytest.approx(0.8)
    # turned about x by a positive angle, base y comes up: the low side is at -y
    assert (math.degrees(axis.towards) - about + 90 + 180) % 360 == pytest.approx(180)
    assert axis.yaw is None
    assert axis.centre is None
    assert "heights change by 8.4 mm" in axis.sentences(0.3)


def test_a_tilt_above_the_bound_is_refused_with_its_cost_and_fix() -> None:
    said = r"tilted by 1\.20 .* 12\.6 mm when the scene is turned.*above 1\.00 degrees.*Level the base"
    with pytest.raises(SymmetryAxisError, match=said):
        check_symmetry_axis(tilted(1.2), "a level", base=BaseInWorld())
    check_symmetry_axis(tilted(1.2), "a level", base=BaseInWorld(), bounds=AxisBounds(tilt=math.radians(1.5)))
    with pytest.raises(SymmetryAxisError, match=r"0\.80 \+- 0\.20"):  # it might be above
        check_symmetry_axis(tilted(0.8), "a board", base=BaseInWorld(), tilt_error=math.radians(0.2))
    with pytest.raises(SymmetryAxisError, match=r"tilted by 180\.00"):
        check_symmetry_axis([0, 0, -1], "a level", base=BaseInWorld())
    with pytest.raises(ValueError, match="up: expected"):
        check_symmetry_axis([0, math.nan, 1], "a level", base=BaseInWorld())


def test_yaw_and_centre_are_compared_with_what_the_loop_will_use() -> None:
    base = BaseInWorld(math.pi, (-0.5, 0.1, 0.0))
    measured = Pose([-0.5 + 0.004, 0.1 - 0.003, 0.01], exp_map([0, 0, math.pi + math.radians(0.5)]))
    at_origin = check_symmetry_axis([0, 0, 1], "a level", base=base, measured=measured, centre=(-0.5, 0.1))
    assert at_origin.yaw == pytest.approx(math.radians(0.5))
    assert at_origin.centre == pytest.approx(0.005, abs=1e-9), "at the base the yaw moves nothing"
    far = check_symmetry_axis([0, 0, 1], "a level", base=base, measured=measured, centre=(0.0, 0.1))
    assert far.centre == pytest.approx(math.hypot(0.004, 0.5 * math.radians(0.5) - 0.003), abs=1e-4)
    assert "the workspace centre is off by" in far.sentences(0.3)
    at_most = SymmetryAxis.from_json(at_origin.to_json()).about((0.0, 0.1)).centre
    assert at_most is not None
    assert far.centre <= at_most <= 0.005 + 0.5 * math.radians(0.5) + 1e-9
    assert far.about((0.0, 0.1)) == far
    with pytest.raises(SymmetryAxisError, match=r"off by more than 4 mm.*Set base\.position as measured"):
        check_symmetry_axis(
            [0, 0, 1], "x", base=base, measured=measured, centre=(-0.5, 0.1), bounds=AxisBounds(centre=0.004)
        )
    with pytest.raises(SymmetryAxisError, match="off by more than 10 mm"):
        check_symmetry_axis([0, 0, 1], "x", base=base, measured=measured, centre=(-0.5, 0.1), centre_error=0.003)
    turned = Pose(measured.position, measured.rotation @ exp_map([0, 0, math.radians(4)]))
    with pytest.raises(
        SymmetryAxisError, match=r"yaw is off by more than 3\.00 degrees: an equivariant policy does not"
    ):
        check_symmetry_axis([0, 0, 1], "x", base=base, measured=turned, centre=(-0.5, 0.1))


def test_bad_readings() -> None:
    with pytest.raises(CalibrationError, match="expected a direction"):
        up_from_gravity([0, 0, 0], Pose([0, 0, 0], np.eye(3)))
    with pytest.raises(CalibrationError, match="two small angles"):
        up_from_level(1.5, 0)
    with pytest.raises(CalibrationError, match=r"base\.yaw: expected radians, got 180"):
        BaseInWorld(180.0)
    with pytest.raises(CalibrationError, match="expected a yaw in radians and a position"):
        BaseInWorld(math.nan)


def _result() -> CameraCalibration:
    axis = check_symmetry_axis(tilted(0.5), "a level", base=BaseInWorld(0.3))
    return CameraCalibration(
        "top",
        "base",
        Pose.from_rotvec([1, 0, 1], [2, 0.1, 0]),
        LENS,
        BaseInWorld(0.3),
        {"translation_m": 1e-4},
        axis.to_json(),
    )


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    written = _result()
    save_calibration(written, tmp_path / "new" / "top.json")
    read = load_calibration(tmp_path / "new" / "top.json")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["top.json"]
    assert read.pose.distance(written.pose) == pytest.approx((0, 0), abs=1e-9)
    assert (read.camera, read.mount, read.base, read.errors, read.axis) == (
        written.camera, written.mount, written.base, written.errors, written.axis,
    )  # fmt: skip
    assert (read.lens.matrix == LENS.matrix).all()
    assert (read.lens.distortion == LENS.distortion).all()
    assert read.lens.errors == LENS.errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("pose"), "'pose' is missing"),
        (lambda t: t.update(version=9), "version 9, expected 1"),
        (lambda t: t.update(mount="wall"), "mount is hand or base, got 'wall'"),
        (lambda t: t["lens"].update(matrix=[[1, 2]]), "lens: expected a matrix"),
        (lambda t: t["base"].update(position=[0, 0]), "expected a yaw in radians and a position"),
        (lambda t: t["pose"].update(position=["a", 0, 0]), "could not convert"),
        (lambda t: t.update(errors=None), "not a calibration"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change, said: str) -> None:
    path = tmp_path / "top.json"
    save_calibration(_result(), path)
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(CalibrationError, match=f"top.json: .*{said}"):
        load_calibration(path)


@pytest.mark.parametrize("content", [None, "[1, 2]", "{", '"text"', "null"])
def test_files_that_are_no_results(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "top.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CalibrationError, match=r"top\.json"):
        load_calibration(path)
