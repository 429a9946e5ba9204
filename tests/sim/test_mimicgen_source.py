"""Files that MimicGen generates from, without MimicGen: what is made of them follows them, what is foreign is told."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from disk_toys import small_disk

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py
from filelock import FileLock

from equidiff.data.episode import DataError
from equidiff.data.writer import DemoWriter
from equidiff.sim import mimicgen_source as sources
from equidiff.sim.demos import Report, expert_writer
from equidiff.sim.env import env_arguments
from equidiff.sim.mimicgen_source import expert_source, has_datagen_info, open_source, write_datagen_info
from equidiff.sim.task import Task

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs" / "task"
ARRAYS = {"states": np.zeros((3, 5)), "actions": np.full((3, 7), 0.5)}


def task(name: str) -> Task:
    return Task.from_config(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Demonstrations that the simulator, which is not one, has looked at."""
    seen: list[str] = []

    def info(demo: h5py.Group, env: Any, about: Any, where: str) -> dict[str, np.ndarray]:
        seen.append(demo.name)
        keys = ("eef_pose", "object_poses/cubeA", "subtask_term_signals/grasp", "target_pose", "gripper_action")
        return {key: np.full(3, demo["actions"][0, 0]) for key in keys}

    monkeypatch.setattr(sources, "_datagen_info", info)
    monkeypatch.setattr(sources, "make_env_from_args", lambda *given: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(sources, "_usable", lambda path, about, n: (("demo_0",), {}))
    return seen


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A file of someone's demonstrations of Stack_D0."""
    arguments = json.loads(json.dumps(env_arguments(task("stack")) | {"env_name": "Stack_D0"}))
    with DemoWriter(tmp_path / "mine.hdf5", arguments) as writer:
        writer.add(0, **ARRAYS)
        return writer.finish()


def change(path: Path, value: float) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][:] = value


@pytest.mark.parametrize("large", [False, True])
def test_the_copy_follows_the_file(
    given: Path, looks: list[str], large: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if large:  # whose fingerprint reads samples
        monkeypatch.setattr("equidiff.data.robomimic._WHOLE", 10)
        monkeypatch.setattr("equidiff.data.robomimic._BLOCK", 4)
    first = open_source(given, task("stack_d1"), progress=False)
    assert open_source(given, task("stack_d1"), progress=False) == first
    assert len(looks) == 1
    change(given, 0.25)
    os.utime(given, ns=(1, 1))
    second = open_source(given, task("stack_d1"), progress=False)
    assert len(looks) == 2
    assert second.sha256 != first.sha256
    assert "mine.hdf5 has changed since it was made; it is made again" in capsys.readouterr().out
    with h5py.File(second.path) as file:
        assert file["data/demo_0/datagen_info/eef_pose"][0] == 0.25
        assert file["data/demo_0/datagen_info"].attrs["env_interface_name"] == "MG_Stack"
    assert sorted(p.name for p in given.parent.iterdir()) == ["mine.hdf5", "mine_datagen.hdf5"]


def test_a_file_in_the_way_is_left_alone(given: Path, looks: list[str]) -> None:
    other = given.with_name("mine_datagen.hdf5")
    other.write_bytes(given.read_bytes())
    with pytest.raises(
        DataError, match=r"mine_datagen\.hdf5: was not made of mine\.hdf5 by this program.*remove it, or"
    ):
        open_source(given, task("stack_d1"), progress=False)
    assert other.read_bytes() == given.read_bytes()
    assert looks == []


def test_the_experts_sources_are_those_of_the_seed_and_the_task(
    tmp_path: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(node: Task, n: int, out: Path, *, seed: int, workers: int, progress: bool) -> Report:
        with expert_writer(node, out, seed) as writer:
            for i in range(n):
                writer.add(seed + i, **ARRAYS)
            return Report(writer.finish(), n, n, n)

    monkeypatch.setattr(sources, "generate", generate)
    node = task("stack_d0")
    first = expert_source(node, 1, tmp_path, progress=False)
    assert expert_source(node, 1, tmp_path, progress=False) == first
    other = expert_source(node, 1, tmp_path, seed=7, progress=False)
    assert [p.name for p in (first, other)] == ["stack_d0_source_1.hdf5", "stack_d0_source_1_seed_7.hdf5"]
    assert len(looks) == 2
    assert has_datagen_info(other, node)
    with h5py.File(other) as file:
        assert file["data/demo_0"].attrs["seed"] == 7
    changed = Task.from_config(yaml.safe_load((CONFIGS / "stack_d0.yaml").read_text()) | {"horizon": 90})
    with pytest.raises(DataError, match=r"made with other settings \(attrs\.task\.horizon: .* there, 90 now\)"):
        expert_source(changed, 1, tmp_path, progress=False)
    parts = tmp_path / ".stack_d0_source_2.hdf5.parts"
    parts.mkdir()
    with FileLock(parts / ".lock"), pytest.raises(DataError, match="another process is at work"):
        expert_source(node, 2, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("env_args", "message"),
    [
        ("{}", r"'env_args' of 'data' names no environment \(env_name\).*got \{\}"),
        ("[1]", r"names no environment .*got \[1\]"),
        ('{"env_name": 3}', r"names no environment .*got \{'env_name': 3\}"),
        ('{"env_name": "Sta', r"env_args of 'data' is not JSON"),
        ('{"env_name": "Stack_D0"}', r"controller_configs must have type and control_delta"),
        ('{"env_name": "Square_D0"}', r"was made in 'Square_D0', which cannot be a source for task=stack_d1"),
    ],
)
def test_env_args_that_say_too_little(given: Path, looks: list[str], env_args: str, message: str) -> None:
    with h5py.File(given, "r+") as file:
        file["data"].attrs["env_args"] = env_args
    with pytest.raises(DataError, match=message) as caught:
        open_source(given, task("stack_d1"), progress=False)
    assert str(caught.value).startswith(f"{given}: ")
    assert [p.name for p in given.parent.iterdir()] == ["mine.hdf5"]


def test_demonstrations_may_have_any_name(given: Path, looks: list[str]) -> None:
    with h5py.File(given, "r+") as file:
        file.move("data/demo_0", "data/episode")
        file["data/note"] = 1
    assert open_source(given, task("stack_d1"), progress=False).path.name == "mine_datagen.hdf5"
    assert looks == ["/data/episode"]
    with h5py.File(given, "r+") as file:
        del file["data/episode"]
    with pytest.raises(DataError, match="holds no demonstrations"):
        open_source(given, task("stack_d1"), progress=False)


@pytest.mark.parametrize("spare", [-1000, 100])
def test_a_full_disk_is_told_and_leaves_nothing(given: Path, looks: list[str], spare: int) -> None:
    """The copy does not fit, or what is added to it does not: HDF5 itself could crash in that."""
    message = r"out\.hdf5: cannot be written .*too large.*copy .*mine\.hdf5 to a place"
    with small_disk(given.stat().st_size + spare), pytest.raises(DataError, match=message):
        write_datagen_info(given, task("stack_d0"), given.with_name("out.hdf5"), progress=False)
    assert [p.name for p in given.parent.iterdir()] == ["mine.hdf5"]
