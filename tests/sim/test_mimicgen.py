"""Generation with the NVlabs MimicGen: sources, reproducible attempts, the file, and what goes wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py

from equidiff.config import ConfigError
from equidiff.data.episode import DataError
from equidiff.sim import memory
from equidiff.sim.backend import SimulatorError, load_task_zoo
from equidiff.sim.demos import generate
from equidiff.sim.env import TaskEnv, make_env
from equidiff.sim.mimicgen_demos import MimicGenAttempts, generate_mimicgen
from equidiff.sim.mimicgen_source import Source, expert_source, has_datagen_info, open_source, write_datagen_info
from equidiff.sim.mimicgen_task import MimicGenTask, load_generator
from equidiff.sim.task import Task

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs" / "task"


def task(name: str) -> Task:
    return Task.from_config(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two source demonstrations of Stack_D0."""
    try:
        load_generator()
    except SimulatorError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("mimicgen")
    expert_source(task("stack_d0"), 2, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def source(made: Path) -> Source:
    return open_source(made / "stack_d0_source_2.hdf5", task("stack_d1"), progress=False)


@pytest.fixture(scope="module")
def two(made: Path, source: Source) -> Path:
    """Two generated demonstrations of Stack_D1."""
    path = made / "stack_d1.hdf5"
    generate_mimicgen(task("stack_d1"), source, 2, path, workers=1, progress=False)
    return path


@pytest.mark.parametrize(
    ("name", "config", "interface"),
    [
        ("stack_three_d1", "stack_three", "MG_StackThree"),
        ("three_piece_assembly_d2", "three_piece_assembly", "MG_ThreePieceAssembly"),
        ("mug_cleanup_o1", "mug_cleanup", "MG_MugCleanup"),
        ("kitchen_d1", "kitchen", "MG_Kitchen"),
    ],
)
def test_names_of_a_family(name: str, config: str, interface: str) -> None:
    about = MimicGenTask.of(task(name))
    assert (about.config, about.interface) == (config, interface)
    assert (CONFIGS / f"{about.source_task}.yaml").exists()


@pytest.mark.parametrize("name", ["lift", "stack", "square"])
def test_tasks_that_are_not_mimicgens_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"task.env: .* is not one of MimicGen's environments"):
        MimicGenTask.of(task(name))


@pytest.mark.mimicgen
def test_every_family_has_sub_tasks_in_mimicgen(made: Path) -> None:
    names = sorted({MimicGenTask.of(task(p.stem)).config for p in CONFIGS.glob("*_d0.yaml")})
    assert len(names) == 12
    for name in names:
        spec = MimicGenTask(name, "").task_spec()
        assert len(spec) >= 2
        assert spec[-1]["subtask_term_signal"] is None


@pytest.mark.mimicgen
def test_sources_have_what_mimicgen_reads(source: Source) -> None:
    assert source.demos == ("demo_0", "demo_1")
    assert not source.refused
    with h5py.File(source.path) as file:
        for name in source.demos:
            demo, info = file[f"data/{name}"], file[f"data/{name}/datagen_info"]
            steps = len(demo["actions"])
            assert info["eef_pose"].shape == info["target_pose"].shape == (steps, 4, 4)
            assert info["gripper_action"].shape == (steps, 1)
            assert set(info["object_poses"]) == {"cubeA", "cubeB"}
            # the poses are those of the observations, the targets those of the absolute actions
            assert np.abs(info["eef_pose"][:, :3, 3] - demo["obs/robot0_eef_pos"][()]).max() < 1e-6
            assert np.abs(info["object_poses/cubeA"][:, :3, 3] - demo["obs/cubeA_pos"][()]).max() < 1e-6
            assert np.abs(info["target_pose"][:, :3, 3] - demo["actions_abs"][:, :3]).max() < 1e-6
            grasp = info["subtask_term_signals/grasp"][()]
            assert grasp[0] == 0
            assert grasp.max() == 1
            assert info.attrs["env_interface_name"] == "MG_Stack"


@pytest.mark.mimicgen
def test_a_source_file_is_not_changed_and_prepared_once(made: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.hdf5"
    shutil.copy(made / "stack_d0_source_2.hdf5", bare)
    with h5py.File(bare, "r+") as file:
        for name in file["data"]:
            del file[f"data/{name}/datagen_info"]
    before = bare.read_bytes()
    first = open_source(bare, task("stack_d1"), n=1, progress=False)
    assert (first.path.name, first.demos) == ("bare_datagen.hdf5", ("demo_0",))
    assert bare.read_bytes() == before
    stamp = first.path.stat().st_mtime_ns
    assert open_source(bare, task("stack_d1"), n=1, progress=False) == first
    assert first.path.stat().st_mtime_ns == stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.hdf5", "bare_datagen.hdf5"]


@pytest.mark.mimicgen
def test_file_has_the_layout_of_the_experts_and_notes_its_rate(two: Path, source: Source) -> None:
    with h5py.File(two) as file, h5py.File(source.path) as expert:
        for name in file["data"]:
            demo, other = file[f"data/{name}"], expert["data/demo_0"]
            assert set(demo) | {"datagen_info"} == set(other)
            assert set(demo["obs"]) == set(other["obs"])
            assert set(demo.attrs) == set(other.attrs)
            assert demo["actions"].shape == demo["actions_abs"].shape == (demo.attrs["num_samples"], 7)
            assert np.abs(demo["actions"][()]).max() <= 1
        facts = json.loads(file["data"].attrs["generation"])
        seeds = [int(demo.attrs["seed"]) for demo in file["data"].values()]
        assert facts["successes"] == 2
        assert facts["attempts"] == max(seeds) + 1
        assert facts["rate"] == round(2 / facts["attempts"], 4)
        assert facts["last_run"]["demos_per_minute"] > 0
        assert json.loads(file["data"].attrs["source"])["demos"] == list(source.demos)


@pytest.mark.mimicgen
@pytest.mark.parametrize(
    ("control", "physics", "key"),
    [("relative", "fast", "actions"), ("relative", "robosuite", "actions"), ("absolute", "fast", "actions_abs")],
)
def test_what_was_generated_replays(two: Path, control: str, physics: str, key: str) -> None:
    """With the fast physics step, with robosuite's own, and as absolute targets."""
    env = make_env(task("stack_d1"), control, physics)
    try:
        with h5py.File(two) as file:
            demo = file["data/demo_0"]
            env.reset(seed=int(demo.attrs["seed"]))
            assert np.abs(env.state - demo["states"][0]).max() < 1e-9
            for action in demo[key]:
                env.step(action)
            assert env.success
    finally:
        env.close()


@pytest.mark.mimicgen
def test_attempts_depend_on_their_seed_alone(source: Source) -> None:
    attempts = MimicGenAttempts(task("stack_d1"), source, per_subtask=True)
    try:
        first, other, again = attempts(3), attempts(4), attempts(3)
    finally:
        attempts.close()
    assert (first.states == again.states).all()
    assert (first.actions == again.actions).all()
    assert first.states.shape != other.states.shape or (first.states != other.states).any()


@pytest.mark.mimicgen
@pytest.mark.slow
def test_a_second_call_goes_on_and_does_not_depend_on_workers(two: Path, source: Source, tmp_path: Path) -> None:
    path, node = tmp_path / "demos.hdf5", task("stack_d1")
    first = generate_mimicgen(node, source, 1, path, workers=2, progress=False)
    second = generate_mimicgen(node, source, 2, path, workers=2, progress=False)
    third = generate_mimicgen(node, source, 2, path, workers=2, progress=False)
    assert (first.written, second.written, third.written, third.tried) == (1, 2, 2, 0)
    with h5py.File(path) as a, h5py.File(two) as b:
        for name in b["data"]:
            for key in ("states", "actions", "actions_abs", "obs/cubeA_pos"):
                assert (a[f"data/{name}/{key}"][()] == b[f"data/{name}/{key}"][()]).all()
        facts, expected = (json.loads(f["data"].attrs["generation"]) for f in (a, b))
        assert {k: facts[k] for k in ("attempts", "successes", "rate")} == {
            k: expected[k] for k in ("attempts", "successes", "rate")
        }
    with pytest.raises(DataError, match="source_per_subtask: True there, False now"):
        generate_mimicgen(node, source, 2, path, per_subtask=False, progress=False)


@pytest.mark.mimicgen
def test_an_attempt_that_ends_unsolved_does_not_count(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """MimicGen itself keeps what was solved at any step."""
    attempts = MimicGenAttempts(task("stack_d1"), source, per_subtask=True)
    answers: Iterator[bool] = iter([True] * 50 + [False] * 10_000)
    monkeypatch.setattr(TaskEnv, "success", property(lambda self: next(answers)))
    try:
        demo = attempts(0)
    finally:
        attempts.close()
    assert demo.success_any
    assert not demo.success


@pytest.mark.mimicgen
def test_sources_that_do_not_fit_are_refused(made: Path, two: Path, tmp_path: Path) -> None:
    good = made / "stack_d0_source_2.hdf5"
    with pytest.raises(DataError, match=r"absent\.hdf5: no such file; source=null"):
        open_source(tmp_path / "absent.hdf5", task("stack_d1"))
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(good.read_bytes()[:30_000])
    with pytest.raises(DataError, match=r"cut\.hdf5: not a readable HDF5 file, perhaps truncated"):
        open_source(cut, task("stack_d1"))
    with h5py.File(tmp_path / "foreign.hdf5", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match="has no group 'data', so it is not in robomimic's layout"):
        open_source(tmp_path / "foreign.hdf5", task("stack_d1"))
    with pytest.raises(DataError, match="was made in 'Stack_D0', which cannot be a source for task=threading_d2"):
        open_source(good, task("threading_d2"))
    never = tmp_path / "never.hdf5"
    shutil.copy(good, never)
    with h5py.File(never, "r+") as file:
        for demo in file["data"].values():
            demo["datagen_info/subtask_term_signals/grasp"][:] = 0
    with pytest.raises(DataError, match="can use none of its demonstrations; demo_0: No valid subtask termination"):
        open_source(never, task("stack_d1"))
    with h5py.File(never, "r+") as file:
        file["data/demo_1/datagen_info/subtask_term_signals/grasp"][40:] = 1
    one = open_source(never, task("stack_d1"))
    assert (one.demos, list(one.refused)) == (("demo_1",), ["demo_0"])
    stateless = tmp_path / "stateless.hdf5"
    shutil.copy(good, stateless)
    with h5py.File(stateless, "r+") as file:
        del file["data/demo_1/datagen_info"], file["data/demo_1/states"]
    with pytest.raises(DataError, match="demo_1 has no 'states'"):
        open_source(stateless, task("stack_d1"), progress=False)
    absolute = tmp_path / "absolute.hdf5"
    shutil.copy(good, absolute)
    with h5py.File(absolute, "r+") as file:
        arguments = json.loads(file["data"].attrs["env_args"])
        arguments["env_kwargs"]["controller_configs"]["control_delta"] = False
        file["data"].attrs["env_args"] = json.dumps(arguments)
    with pytest.raises(DataError, match="has absolute actions"):
        write_datagen_info(absolute, task("stack_d0"), tmp_path / "x.hdf5")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "x"))]


def test_a_file_of_the_experts_has_no_datagen_info(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    generate(task("lift"), 1, path, workers=1, progress=False)
    with pytest.raises(DataError, match="was made in 'Lift'"):
        has_datagen_info(path, task("stack_d1"))


def test_memory_is_brought_up_to_date_only_where_there_is_one() -> None:
    plain = SimpleNamespace()
    memory.look(plain)
    memory.forget(plain)
    assert not memory.remembers(plain)
    assert vars(plain) == {}


@pytest.mark.mimicgen
def test_kitchen_remembers_the_stove() -> None:
    try:
        load_task_zoo()
    except SimulatorError as error:
        pytest.skip(str(error))
    env = make_env(task("kitchen_d0"), "relative")
    try:
        env.reset(seed=0)
        states = np.stack([env.state] * 3)
        switch = int(env.env.button_qpos_addrs[1])
        states[1, 1 + switch] = 0.3  # on, and off again
        assert not env.ends_solved(states)
        assert env.env.has_stove_turned_on
        assert not env.env.buttons_on[1]
        assert not env.ends_solved(states[:1])
        assert not env.env.has_stove_turned_on
    finally:
        env.close()
