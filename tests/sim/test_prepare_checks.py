"""Files that look right and are not: every refusal names what came, what was expected and what to do."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py

from equidiff.data.episode import DataError
from equidiff.data.writer import DemoWriter
from equidiff.perception import PerceptionSettings
from equidiff.sim.env import env_arguments, make_env
from equidiff.sim.prepare import prepare
from equidiff.sim.task import Task

pytestmark = pytest.mark.sim
TASK: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "configs" / "task" / "lift.yaml").read_text())


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    env = make_env(TASK, "relative")
    try:
        env.reset(seed=0)
        states, actions = np.stack([env.state] * 3), np.zeros((3, 7))
        with DemoWriter(path, env_arguments(Task.from_config(TASK), "relative")) as writer:
            writer.add(0, states, actions, model_file=env.model_xml)
            writer.finish()
    finally:
        env.close()
    return path


def _argument(change: Callable[[dict[str, Any]], object]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        args = json.loads(file["data"].attrs["env_args"])
        change(args)
        file["data"].attrs["env_args"] = json.dumps(args)

    return edit


def _array(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        values = file[f"data/demo_0/{key}"][()]
        del file[f"data/demo_0/{key}"]
        file[f"data/demo_0/{key}"] = change(values)

    return edit


def _scene(change: Callable[[str], str]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        attributes = file["data/demo_0"].attrs
        attributes["model_file"] = change(attributes["model_file"])

    return edit


def _not_a_number(values: np.ndarray) -> np.ndarray:
    values[1, 4] = np.nan
    return values


CASES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "list": (lambda f: f["data"].attrs.__setitem__("env_args", "[1]"), r"'env_args' .* expected a mapping .* got list"),
    "gym": (_argument(lambda a: a.update(type=2)), r"type is 2, expected 1, a robosuite environment"),
    "no kwargs": (_argument(lambda a: a.pop("env_kwargs")), r"controller_configs must have type and control_delta"),
    "no controller": (_argument(lambda a: a["env_kwargs"].pop("controller_configs")), r"controller_configs must have"),
    "joints": (
        _argument(lambda a: a["env_kwargs"]["controller_configs"].update(type="JOINT_POSITION")),
        r"the controller is 'JOINT_POSITION', expected 'OSC_POSE'",
    ),
    "narrow": (
        _array("states", lambda s: s[:, :20]),
        r"demo_0: states are float64 \(3, 20\), expected numbers \(steps",
    ),
    "wide": (_array("states", lambda s: np.c_[s, s]), r"of another robot or another version of the environment"),
    "flat": (_array("states", lambda s: s[:, 0]), r"demo_0: states are float64 \(3,\)"),
    "nan": (_array("states", _not_a_number), r"states is nan at step 1, column 4; drop or repair it"),
    "shorter": (_array("states", lambda s: s[:2]), r"has 2 states and 3 actions"),
    "targets": (
        lambda f: f["data/demo_0"].create_dataset("actions_abs", data=np.zeros((2, 7))),
        r"has 3 states and 3 actions and 2 actions_abs, expected as many of each",
    ),
    "four": (_array("actions", lambda a: a[:, :4]), r"actions are float64 \(3, 4\), expected numbers \(steps, 7\)"),
    "words": (_array("actions", lambda a: np.full((3, 7), b"x")), r"actions are \|S1 \(3, 7\), expected numbers"),
    "renamed": (lambda f: f.move("data/demo_0/states", "data/demo_0/state"), "no 'states'; did you mean 'state'"),
    "no XML": (_scene(lambda x: x[: len(x) // 2]), r"demo_0: its scene \(model_file\) cannot be loaded"),
    "no mesh": (_scene(lambda x: x.replace("link0.stl", "lost.stl")), r"cannot be loaded: .*lost.*of robosuite"),
}


@pytest.mark.parametrize("case", CASES)
def test_foreign_files_are_refused_in_a_line(case: str, demos: Path, tmp_path: Path) -> None:
    edit, message = CASES[case]
    path = tmp_path / "foreign.hdf5"
    path.write_bytes(demos.read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    content = path.read_bytes()
    with pytest.raises(DataError, match=message) as caught:
        prepare(path, TASK, tmp_path / "out.hdf5", workers=1, progress=False)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["foreign.hdf5"]  # nor an empty folder of parts
    assert path.read_bytes() == content


def test_a_prepared_file_can_be_prepared_again(demos: Path, tmp_path: Path) -> None:
    """What said how its pictures were made goes with them; rewards stay."""
    given = tmp_path / "given.hdf5"
    given.write_bytes(demos.read_bytes())
    with h5py.File(given, "r+") as file:
        file["data/demo_0/rewards"] = np.arange(3.0)
        file["data/demo_0/dones"] = np.zeros(2)  # of another length: not of these steps
    settings = PerceptionSettings.from_config(
        {"cameras": {"agentview": {"width": 24, "height": 20}}, "image": ["agentview"]}
    )
    seen = prepare(given, TASK, tmp_path / "seen.hdf5", perception=settings, workers=1, progress=False)
    poses = prepare(seen, TASK, tmp_path / "poses.hdf5", workers=1, progress=False)
    with h5py.File(seen) as file:
        assert "perception" in file["data"].attrs
        assert file["data/demo_0/obs/agentview_image"].shape == (3, 20, 24, 3)
    with h5py.File(poses) as file:
        assert "perception" not in file["data"].attrs
        assert file["data"].attrs["prepared_from"] == "seen.hdf5"
        demo = file["data/demo_0"]
        assert not [key for key in demo["obs"] if "agentview" in key]
        assert demo["rewards"][()].tolist() == [0, 1, 2]
        assert "dones" not in demo


def test_at_least_one_worker(demos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="workers: expected at least 1, got 0"):
        prepare(demos, TASK, tmp_path / "out.hdf5", workers=0, progress=False)
