"""The calibration tool from a folder of rendered pictures to its file, and what it refuses on the way."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")

from calibration_scenes import BOARD, LENS, make_scene, render  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from equidiff.hydra_app import CONFIGS  # noqa: E402
from real_robot.calibration import CalibrationError, load_calibration  # noqa: E402
from real_robot.calibration.__main__ import main  # noqa: E402
from real_robot.calibration.app import calibrate, read_poses  # noqa: E402
from real_robot.poses import Pose, exp_map  # noqa: E402

GIVEN = {"matrix": LENS.matrix.tolist()}
# the board on the table, face up, as the camera beside the arm sees it
ON_TABLE = Pose([0.55, 0.18, 0.01], exp_map([0, 0, 0.2]) @ np.diag([1.0, -1, -1]))


def settings(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        tree: dict[str, Any] = OmegaConf.to_container(compose("calibrate", overrides=list(overrides)), resolve=True)
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shots")
    scene = make_scene("base", count=12)
    poses = {}
    for i, tool in enumerate(scene.tools):
        cv2.imwrite(str(path / f"{i:03d}.png"), render(scene.seen(i), seed=i))
        poses[f"{i:03d}.png"] = {"position": tool.position.tolist(), "quat_xyzw": tool.quat.tolist()}
    cv2.imwrite(str(path / "empty.png"), np.full((480, 640), 90, np.uint8))
    poses["empty.png"] = poses["000.png"]
    cv2.imwrite(str(path / "table.png"), render(scene.camera.inverse() @ ON_TABLE, seed=99))
    (path / "poses.json").write_text(json.dumps(poses))
    return path


def test_from_pictures_to_the_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = settings(
        f"folder={folder}", "camera=top", f"out={tmp_path}/top.json", "axis.table=table.png", "base.yaw=0.1"
    )
    # where that board lies in the world, if the base stands as base.yaw says but for 2 mm
    base = Pose([0.002, 0, 0], exp_map([0, 0, 0.1]))
    lying = base @ ON_TABLE
    yaw = math.atan2(lying.rotation[1, 0], lying.rotation[0, 0])
    tree["axis"]["world"] = {"position": lying.position.tolist(), "yaw": yaw}
    tree["axis"]["centre"] = [0.5, 0.2]
    tree["lens"] = GIVEN
    assert calibrate(tree) == 0
    said = capsys.readouterr().out
    assert "no board found in empty.png" in said
    assert "top: 12 pictures" in said
    found, true = load_calibration(tmp_path / "top.json"), make_scene("base", count=12)
    metres, radians = found.pose.distance(true.camera)
    assert metres < min(0.001, 4 * found.errors["translation_m"])
    assert radians < min(math.radians(0.1), 4 * found.errors["rotation_rad"])
    assert found.errors["without_board"] == ["empty.png"]
    assert found.errors["reprojection_px"] < 0.3
    assert (found.base.yaw, found.mount, found.camera) == (0.1, "base", "top")
    assert found.axis is not None
    assert found.axis["tilt"] < math.radians(0.15)
    assert found.axis["centre"] == pytest.approx(0.002, abs=0.001)
    assert found.axis["yaw"] < math.radians(0.15)


def test_a_tilted_base_and_a_wrong_place_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "top.json"
    tree = settings(f"folder={folder}", f"out={out}")
    tree["lens"] = GIVEN
    tree["axis"]["level"] = [1.4, 0.3]
    with pytest.raises(CalibrationError, match=r"symmetry axis refused: base z is tilted by 1\.43"):
        calibrate(tree)
    tree["axis"].update(level=None, table="table.png", world={"position": [0.6, 0.18, 0.01], "yaw": 0.2})
    with pytest.raises(CalibrationError, match="the workspace centre is off by more than 10 mm"):
        calibrate(tree)
    assert not out.exists()
    tree["axis"].update(table=None)
    with pytest.raises(CalibrationError, match=r"give its picture, axis\.table"):
        calibrate(tree)
    tree["axis"].update(world=None, level=[0.1, 0.0], gravity={"reading": [0, 1, 0]})
    with pytest.raises(CalibrationError, match="give one of gravity and level"):
        calibrate(tree)


def test_gravity_of_the_camera(folder: Path, tmp_path: Path) -> None:
    tree = settings(f"folder={folder}", f"out={tmp_path}/top.json")
    tree["lens"] = GIVEN
    camera = make_scene("base", count=12).camera
    lean = exp_map([math.radians(0.3), 0, 0])  # of the base against the level
    tree["axis"]["gravity"] = {"reading": (camera.rotation.T @ lean.T @ [0, 0, -9.81]).tolist()}
    assert calibrate(tree) == 0
    axis = load_calibration(tmp_path / "top.json").axis
    assert axis is not None
    assert math.degrees(axis["tilt"]) == pytest.approx(0.3, abs=0.1)
    assert math.degrees(axis["towards"]) == pytest.approx(-90, abs=20)


def test_settings_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    base = [f"folder={folder}", f"out={tmp_path}/top.json"]
    for override, said in (
        ("board.dictionary=DICT_4X4_100", "the board is in none of 13 pictures; are board.columns"),
        ("lens.matrx=1", "lens: no setting 'matrx'; did you mean 'matrix'"),
        ("max_reprojection=0.01", r"corners are off by 0\.\d+ pixels, max_reprojection=0\.01"),
        ("axis.table=gone.png", r"gone\.png: not a picture"),
        ("axis.table=empty.png", r"axis\.table: the board is not found in empty\.png"),
        ("board.square=0.045", "fewer than 6 pictures agree|corners are off by"),
    ):
        tree = settings(*base)
        keys = override.partition("=")[0].split(".")
        tree["lens"] = dict(GIVEN)
        node = tree
        for key in keys[:-1]:
            node = node[key]
        text = override.partition("=")[2]
        node[keys[-1]] = float(text) if text.replace(".", "").isdigit() else text
        with pytest.raises(CalibrationError, match=said):
            calibrate(tree)
    with pytest.raises(CalibrationError, match="folder is not set"):
        calibrate(settings())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("[1]", "expected {picture: pose}"),
        ('{"a.png": {"position": [0, 0, 0]}}', "'a.png': expected position and quat_xyzw, got 'quat_xyzw'"),
        ('{"a.png": {"position": [0, 0, 0], "quat_xyzw": [0, 0, 0, 3]}}', r"of length 3\.000"),
        ('{"a.png": {"position": [0, 0], "quat_xyzw": [0, 0, 0, 1]}}', "'a.png'"),
    ],
)
def test_poses_that_do_not_fit_are_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "poses.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CalibrationError, match=said):
        read_poses(path)


def test_the_program_answers_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = OmegaConf.create(settings("make=board", f"out={tmp_path}/board.png"))
    assert main(config) == 0
    assert f"{BOARD.columns} x {BOARD.rows} squares of 30 mm" in capsys.readouterr().out
    assert (tmp_path / "board.png").exists()
    assert main(OmegaConf.create(settings("make=bord"))) == 2
    assert capsys.readouterr().err == "error: make: expected calibration, base, board or gravity, got 'bord'\n"


@pytest.mark.slow
def test_help_and_a_board_from_the_command_line(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "real_robot.calibration"]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True)
    assert "poses.json" in done.stdout
    assert "max_tilt: 1.0" in done.stdout
    done = subprocess.run([*run, "make=board", f"out={tmp_path}/b.pdf"], capture_output=True, text=True, check=True)
    assert (tmp_path / "b.pdf").stat().st_size > 10_000
    done = subprocess.run([*run, f"folder={tmp_path}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "poses.json" in done.stderr
