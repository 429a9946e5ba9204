"""Mistakes that would only be met after minutes of work are found before any of it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from equidiff.demo.camera import check_camera
from equidiff.demo.checks import check_places, check_policies
from equidiff.demo.settings import DemoError, DemoSettings, Entry, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> DemoSettings:
    """Those of lift."""
    return load_settings(ROOT / "configs" / "demo", "lift", [f"out={tmp_path / 'a' / 'b'}", "policies=plain"])


def test_settings_of_the_demos_pass(settings: DemoSettings) -> None:
    check_places(settings)
    assert check_policies(settings, ROOT)["name"] == "lift"


def test_places_that_cannot_be_written_to(settings: DemoSettings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for changed, message in (
        ({"out": file}, f"out: {file} is a file"),
        ({"record": tmp_path}, f"record: {tmp_path} is a folder; give a file, e.g. {tmp_path}/demo.json"),
        ({"record": file / "x" / "demo.json"}, f"record: {file} is a file"),
    ):
        with pytest.raises(DemoError, match=re.escape(message)):
            check_places(replace(settings, **changed))


def test_places_of_somebody_else(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(DemoError, match="out: you may not write to /; choose another out="):
        check_places(replace(settings, out=Path("/nowhere")))


def test_policies_that_no_training_would_take(settings: DemoSettings) -> None:
    for changed, message in (
        (
            {"policies": {"mine": Entry("Mine", ("encoder.chanels=8",))}},
            "policies.mine: .*did you mean 'encoder.channels'",
        ),
        ({"common": ("augment=rotaton",)}, "policies.plain: augment=rotaton: .*did you mean 'rotation'"),
        ({"observe": "point_clod"}, "observe: no 'point_clod' .*did you mean 'point_cloud'"),
        ({"task": "lfit"}, "policies.plain: task=lfit: .*did you mean 'lift'"),
    ):
        with pytest.raises(DemoError, match=message):
            check_policies(replace(settings, **changed), ROOT)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("robosuite") is None, reason="needs the extra sim")
def test_a_camera_that_the_task_does_not_have() -> None:
    task = yaml.safe_load((ROOT / "configs" / "task" / "lift.yaml").read_text())
    with pytest.raises(DemoError, match=r"^camera: lift has no 'sidevew'; did you mean 'sideview'\? There are: front"):
        check_camera(task, "sidevew", ROOT)


def test_a_simulator_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DemoError, match=r"simulation of lift could not be started \(exit status 1\)"):
        check_camera({"name": "lift"}, "sideview", ROOT)
