"""A recorded set trains, is inspected without a complaint, and leaves for LeRobot."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from teleop_toys import Rig, ended, episode, released

from equidiff.checkpoint import inspect_checkpoint, load_policy

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = [
    "task=lift",
    "obs=image",
    "obs.fields.scene=[scene]",
    "obs.fields.wrist=[]",
    "obs.fields.size=64",
    "obs.horizon=1",
    "encoder=small_image",
    "symmetry=trivial",
    "encoder.channels=8",
    "encoder.encoders.scene.key=scene_image",
    "~encoder.encoders.wrist",
    "denoiser=group_mlp",
    "diffusion.inference_steps=2",
    "trainer.batch_size=8",
    "trainer.device=cpu",
    "trainer.max_steps=3",
    "trainer.log_every=1",
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "demos.hdf5"
    script = [released(0)]
    for i, push in enumerate(
        [(1, 0, 0, 0, 0, 0.5), (0, 1, -0.3, 0, 0, 0), (0.5, -0.5, 0, 0, 0.3, 0), (0, 0, 1, 0, 0, 0)]
    ):
        script += episode(0.2 + 2 * i, "failure" if i == 3 else "success", push=push)
    rig = Rig(path, [*script, ended(8.5)], base_yaw=0.5, valid_fraction=0.34, sizes=(64, 64))
    rig.run()
    return path


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"{name}_of_recorded", SCRIPTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A script's entry point, in this process; returns the exit code."""

    def run(name: str, app: str, *overrides: str) -> int:
        module = script(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *overrides])
        with pytest.raises(SystemExit) as ended:
            module.run_app(module.main, app, module.__doc__)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.mark.slow
def test_a_recorded_set_trains(run: Callable[..., int], recorded: Path, tmp_path: Path) -> None:
    before = recorded.read_bytes()
    assert run("train", "train", f"data.path={recorded}", *SMALL, f"run_dir={tmp_path / 'run'}") == 0
    assert recorded.read_bytes() == before
    manifest = inspect_checkpoint(tmp_path / "run/checkpoints/final")
    assert manifest["step"] == 3
    # neither the failure nor what is held out
    assert manifest["data"]["demos"] == ["demo_0", "demo_1"]
    assert manifest["data"]["valid_demos"] == ["demo_2"]
    assert manifest["perception"]["settings"]["image"] == ["scene"]
    policy = load_policy(tmp_path / "run/checkpoints/final")
    assert "scene_image" in policy.spec.observation.keys
    losses = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["train/loss"]) for line in losses if "train/loss" in line)


def test_its_inspection_finds_no_problem(run: Callable[..., int], recorded: Path, tmp_path: Path) -> None:
    code = run("inspect_data", "inspect", f"data={recorded}", f"out={tmp_path}", "strict=true", "centre=[0.35,0.2]")
    assert code == 0
    numbers = json.loads((tmp_path / "inspect.json").read_text())
    assert "toy_task" in json.dumps(numbers)
    assert (tmp_path / "index.html").stat().st_size > 1000


def test_it_leaves_for_lerobot(run: Callable[..., int], recorded: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra formats)")
    out = tmp_path / "lerobot"
    code = run("export_data", "export_data", f"data={recorded}", f"out={out}", "images=png", "robot_type=toy")
    assert code == 0
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["fps"], info["robot_type"], info["total_episodes"]) == (20, "toy", 4)
    assert info["features"]["observation.images.scene"]["shape"] == [64, 64, 3]
    assert "robot0_eef_pos.0" in info["features"]["observation.state"]["names"]
    assert not any("stamp" in name for name in info["features"]["observation.state"]["names"])
    rows = parquet.read_table(next((out / "data").rglob("*.parquet")))
    with h5py.File(recorded) as file:
        np.testing.assert_allclose(rows["action"][0].as_py(), file["data/demo_0/actions_abs"][0], atol=1e-6)
