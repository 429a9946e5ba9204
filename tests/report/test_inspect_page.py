"""The page about a data file: complete, well-formed, self-contained, and right in what it draws."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from inspect_files import disc, write
from page_reader import read
from PIL import Image

from equidiff import hydra_app
from equidiff.data.inspect_file import Inspection, inspect_file
from equidiff.data.inspect_symmetry import SymmetryReport, symmetry_report
from equidiff.data.inspect_views import cameras
from equidiff.report.inspect_charts import histograms, ramp, roses, top_view
from equidiff.report.inspect_cloud import CLOUD_SCRIPT, cloud_view, still, voxel_points
from equidiff.report.inspect_page import render_inspection
from equidiff.report.inspect_pictures import depth_range, depth_to_rgb, sheets, to_rgb

SCRIPT = Path(__file__).parents[2] / "scripts" / "inspect_data.py"
BOUNDS = [[-0.4, 0.4], [-0.4, 0.4], [0.8, 1.3]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, SymmetryReport]:
    path = write(tmp_path_factory.mktemp("data") / "<seen>.hdf5", n=12, pictures=True, masks={"train": ["demo_0"]})
    found = inspect_file(path, episodes=3)
    keys = [key for key, stats in found.keys.items() if stats.kind in ("image", "depth")]
    return found, symmetry_report(found.poses, (0.0, 0.0), {"cube": 4}, cameras(keys, found.views, (0.0, 0.0)))


def test_page_is_complete_well_formed_and_self_contained(seen: tuple[Inspection, SymmetryReport]) -> None:
    page = read(render_inspection(*seen, bounds=BOUNDS, line="python scripts/inspect_data.py data=x"))
    assert all(address.startswith("data:") for address in page.addresses)
    assert sum(address.startswith("data:image/") for address in page.addresses) == 3 + 2  # sheets; cloud and voxels
    text = " ".join(page.text)
    for part in (
        "<seen>.hdf5",
        "Findings",
        "Symmetry",
        "From above",
        "agentview_image",
        "agentview_depth",
        "robot0_eye_in_hand_image",
        "point_cloud",
        "voxels",
        "Lengths",
        "Keys",
        "Distributions",
        "Perception and renderer",
        "Do it again",
        "12/12",
        "train 1",
        "obs/cube_quat",
        "Yellow is near (0.90 m), blue is far (1.20 m)",
        "256 points",
        "64 occupied cells of 8³",
        "40.0°",
    ):
        assert part in text, part
    assert "nan" not in re.sub(r"[^a-z]", " ", text.lower()).split()


def test_page_without_poses_or_pictures(tmp_path: Path) -> None:
    def bare(i: int, arrays: dict[str, np.ndarray]) -> None:
        for key in [k for k in arrays if k.startswith("obs/")]:
            del arrays[key]

    found = inspect_file(write(tmp_path / "bare.hdf5", n=3, change=bare, success=None))
    text = " ".join(read(render_inspection(found, symmetry_report(found.poses, (0.0, 0.0)))).text)
    assert "no gripper or object positions to draw" in text
    assert "no object poses" in text
    assert "success: not in the file" in text


def test_from_above_is_to_scale_and_the_right_way_round() -> None:
    path = np.array([[0.0, 0.0, 1.0], [0.2, 0.0, 1.0], [0.2, 0.2, 1.0]])
    svg = top_view([path], (0.0, 0.0), BOUNDS, {"cube": np.array([[0.3, 0.0], [0.0, 0.3]])})
    dots = [tuple(map(float, m)) for m in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4.5"', svg)]
    right, up = dots
    centre = re.search(r'<path d="M([\d.]+) ([\d.]+)h22M', svg)
    assert centre is not None
    x, y = float(centre[1]) + 11, float(centre[2])
    assert right[0] - x == pytest.approx(y - up[1], abs=0.2)  # +x to the right as far as +y up
    assert right[1] == pytest.approx(y, abs=0.2)
    box = re.search(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg)
    assert box is not None
    assert (right[0] - x) / float(box[3]) == pytest.approx(0.3 / 0.8, abs=0.01)
    assert float(box[3]) == pytest.approx(float(box[4]), abs=0.2)


def test_histograms_and_roses_survive_odd_columns() -> None:
    columns = np.array([[1.0, np.nan, 0.0], [1.0, np.nan, 2.0]])
    svg = histograms(columns, ["a", "b", "c"])
    assert "always 1" in svg
    assert "no finite value" in svg
    assert "NaN" not in svg
    assert "nan" not in roses([("x", "y", np.array([np.nan]), 2 * np.pi)], "r")
    single = roses([("x", "y", np.array([np.pi / 2]), 2 * np.pi)], "r")
    mean = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="3.4"', single)
    rim = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="80"', single)
    assert mean is not None
    assert rim is not None
    assert (float(mean[1]), float(mean[2])) == pytest.approx((float(rim[1]), float(rim[2]) - 80), abs=0.1)  # 90° is up


def test_depth_colours_and_pictures() -> None:
    depth = np.array([[[0, 5000], [10_000, 7500]]], np.uint16)
    assert depth_range([depth]) == pytest.approx((5000, 10_000), rel=0.02)
    colours = depth_to_rgb(depth, 5000, 10_000)
    assert colours[0, 0, 0].tolist() == [150, 150, 150]
    assert colours[0, 0, 1].tolist() == ramp(1.0).tolist()
    assert colours[0, 1, 0].tolist() == ramp(0.0).tolist()
    assert depth_range([np.zeros((1, 2, 2), np.uint16)]) == (0.0, 1.0)
    assert to_rgb(np.full((1, 2, 2, 1), 0.5, np.float32)).tolist() == np.full((1, 2, 2, 3), 127).tolist()
    sizes = sheets({"a": np.zeros((3, 8, 8, 3), np.uint8), "b": np.zeros((3, 16, 8, 3), np.uint8)}, "image", {})
    assert len(sizes) == 2


def test_cloud_is_embedded_to_a_thirtieth_of_a_millimetre_and_drawn() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.3, 0.3, (500, 3)), rng.uniform(0, 1, (500, 3))], 1)
    points[3] = np.nan
    page = cloud_view(points, "caption")
    found = re.search(r'data-points="([^"]+)"', page)
    assert found is not None
    raw = np.frombuffer(base64.b64decode(found[1]), np.uint8).reshape(-1, 9)
    kept = np.delete(points, 3, 0)
    assert len(raw) == 499
    xyz = np.ascontiguousarray(raw[:, :6]).view("<i2").astype(float) / 32767
    low, high = kept[:, :3].min(0), kept[:, :3].max(0)
    back = xyz * np.linalg.norm(high - low) / 2 + (low + high) / 2
    np.testing.assert_allclose(back, kept[:, :3], atol=3e-5)
    np.testing.assert_allclose(raw[:, 6:] / 255, kept[:, 3:], atol=0.002)
    assert "no finite point" in cloud_view(np.full((2, 6), np.nan), "x")
    picture = still(np.array([[0.0, 0, 0]]), np.array([[255, 0, 0]], np.uint8), 0.05)
    assert isinstance(picture, Image.Image)
    assert picture.getpixel((320, 320)) == (255, 0, 0)


def test_voxels_keep_the_convention_of_their_axes() -> None:
    grid = np.zeros((4, 4, 4, 4), np.uint8)
    grid[:, 0, 0, 3] = (255, 255, 0, 0)  # top, +y, +x
    np.testing.assert_allclose(voxel_points(grid), [[0.75, 0.75, 0.75, 1, 0, 0]])


@pytest.mark.skipif(shutil.which("node") is None, reason="node checks the syntax of the page's script")
def test_script_parses(tmp_path: Path) -> None:
    (tmp_path / "cloud.js").write_text(CLOUD_SCRIPT)
    subprocess.run(["node", "--check", str(tmp_path / "cloud.js")], check=True)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inspect_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *overrides])
    module = script()
    with pytest.raises(SystemExit) as stop:
        hydra_app.run_app(module.main, "inspect", module.__doc__)
    return int(stop.value.code or 0)


def test_script_writes_page_and_numbers_and_is_strict_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.hdf5", n=10, place=disc(sector=1.0))
    out = tmp_path / "out"
    assert run(monkeypatch, f"data={good}", f"out={out}", "task=lift", "strict=true") == 0
    text = capsys.readouterr().out
    assert "10 demonstrations" in text
    assert "Symmetry: does not hold" in text
    tree = json.loads((out / "inspect.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert tree["demonstrations"] == 10
    assert tree["length"] == {"min": 16, "median": 17, "max": 18}
    assert tree["success"] == {"known": 10, "solved": 10}
    assert tree["symmetry"]["verdict"] == "does not hold"
    assert tree["symmetry"]["starts"][1]["fold"] == 4  # from the task
    assert tree["keys"]["obs/cube_pos"]["equivariant"] == "yes"
    read((out / "index.html").read_text())
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "inspect.json"]

    def bad(i: int, arrays: dict[str, np.ndarray]) -> None:
        arrays["obs/cube_pos"][0] = np.inf

    broken = write(tmp_path / "broken.hdf5", n=3, change=bad)
    assert run(monkeypatch, f"data={broken}", f"out={out}") == 0
    assert run(monkeypatch, f"data={broken}", f"out={out}", "strict=true") == 1
    assert "not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data={bad}"], "no such file"),
        (["data={good}", "centre=[1]"], "centre: expected [x, y]"),
        (["data={good}", "folds={{cub: 4}}"], "did you mean 'cube'"),
        (["data={good}", "folds={{cube: 0}}"], "folds.cube: expected a whole number >= 1"),
        (["data={good}", "limits.jump=-1"], "limits.jump: expected a number > 0"),
        (["data={good}", "episodes=0"], "episodes: expected a whole number"),
        (["data={good}", "out={good}"], "is a file, expected a folder"),
        (["data={good}", "strikt=true"], "did you mean 'strict'"),
        ([], "data.path is not set"),
    ],
)
def test_script_refuses_bad_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    good = write(tmp_path / "good.hdf5", n=2)
    assert run(monkeypatch, *(o.format(good=good, bad=tmp_path / "nothing.hdf5") for o in overrides)) == 2
    assert words in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["good.hdf5"]


def test_fold_of_a_task_reaches_the_name_that_mimicgen_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(i: int, arrays: dict[str, np.ndarray]) -> None:
        arrays["obs/square_peg_pos"], arrays["obs/square_peg_quat"] = arrays["obs/cube_pos"], arrays["obs/cube_quat"]

    path = write(tmp_path / "peg.hdf5", n=3, change=rename)
    assert run(monkeypatch, f"data={path}", f"out={tmp_path}", "task=square", "folds={cube: 2}") == 0
    starts = json.loads((tmp_path / "inspect.json").read_text())["symmetry"]["starts"]
    assert {s["name"]: s["fold"] for s in starts} == {"gripper": 1, "cube": 2, "square_peg": 4}


def test_a_place_that_takes_no_files_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.hdf5", n=3)
    assert run(monkeypatch, f"data={good}", "out=/proc/nowhere/page") == 2
    told = capsys.readouterr().err
    assert "error: /proc/nowhere: " in told
    assert "Traceback" not in told
