"""Experts, generated demonstrations and prepared files."""

from __future__ import annotations

import importlib.util
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py

from equidiff.config import ConfigError
from equidiff.data.episode import DataError
from equidiff.data.inspect_file import inspect_file
from equidiff.data.writer import DemoWriter
from equidiff.sim.backend import SimulatorError, load_mimicgen
from equidiff.sim.convert import absolute_targets
from equidiff.sim.demos import Demonstration, ExpertAttempts, GenerationError, Report, collect, demonstrate, generate
from equidiff.sim.env import env_arguments, make_env
from equidiff.sim.experts import EXPERTS, make_expert
from equidiff.sim.prepare import prepare_states
from equidiff.sim.task import Cameras, Task

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs" / "task"


def config(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return node


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three demonstrations of lift, made by two workers."""
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    report = generate(config("lift"), 3, path, workers=2, valid_fraction=0.3, progress=False)
    assert report.written == report.solved == 3
    return path


@pytest.mark.parametrize(("name", "least"), [("lift", 8), ("stack", 7), ("square", 7)])
def test_experts_solve_their_tasks(name: str, least: int) -> None:
    env = make_env(config(name), "relative")
    try:
        solved = [demonstrate(env, seed).success for seed in range(8)]
    finally:
        env.close()
    assert sum(solved) >= least


@pytest.mark.mimicgen
@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("stack_three_d1", 2), ("threading_d2", 2), ("square_d2", 2)])
def test_experts_solve_mimicgens_tasks(name: str, least: int) -> None:
    try:
        load_mimicgen()
    except SimulatorError as error:
        pytest.skip(str(error))
    env = make_env(config(name), "relative")
    try:
        solved = [demonstrate(env, seed).success for seed in range(4)]
    finally:
        env.close()
    assert sum(solved) >= least


def test_every_named_expert_exists() -> None:
    for path in CONFIGS.glob("*.yaml"):
        expert = yaml.safe_load(path.read_text()).get("expert")
        assert expert is None or expert in EXPERTS
    env = make_env({**config("lift"), "expert": "lfit"})
    try:
        with pytest.raises(ConfigError, match=r"task.expert: lift has 'lfit'; did you mean 'lift'"):
            make_expert(env)
    finally:
        env.close()


def test_file_has_robomimics_layout(three: Path) -> None:
    with h5py.File(three) as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"]
        assert [n.decode() for n in file["mask/train"]] == ["demo_0", "demo_1"]
        assert [n.decode() for n in file["mask/valid"]] == ["demo_2"]
        arguments = json.loads(file["data"].attrs["env_args"])
        assert (arguments["env_name"], arguments["type"]) == ("Lift", 1)
        for name in file["data"]:
            demo = file[f"data/{name}"]
            steps = demo.attrs["num_samples"]
            assert demo["states"].shape[0] == steps
            assert demo["actions"].shape == demo["actions_abs"].shape == (steps, 7)
            assert np.abs(demo["actions"][:]).max() <= 1
            assert set(demo["obs"]) == {
                "robot0_eef_pos",
                "robot0_eef_quat_site",
                "robot0_gripper_qpos",
                "cube_pos",
                "cube_quat",
            }
            assert demo.attrs["model_file"].startswith("<mujoco")
            assert demo.attrs["success"]
    assert inspect_file(three).success == dict.fromkeys(("demo_0", "demo_1", "demo_2"), True)


def test_robomimic_reads_the_file(three: Path) -> None:
    utils = pytest.importorskip("robomimic.utils.file_utils", exc_type=ImportError)
    metadata = utils.get_env_metadata_from_dataset(str(three))
    assert metadata["env_name"] == "Lift"


@pytest.mark.parametrize(("control", "key"), [("relative", "actions"), ("absolute", "actions_abs")])
def test_both_kinds_of_actions_replay_to_success(three: Path, control: str, key: str) -> None:
    env = make_env(config("lift"), control)
    try:
        with h5py.File(three) as file:
            for name in file["data"]:
                demo = file[f"data/{name}"]
                env.reset(seed=int(demo.attrs["seed"]))
                assert np.abs(env.state - demo["states"][0]).max() < 1e-9
                for action in demo[key]:
                    env.step(action)
                assert env.success
    finally:
        env.close()


def test_a_second_call_goes_on_and_does_not_depend_on_workers(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    first = generate(config("lift"), 1, path, workers=1, progress=False)
    second = generate(config("lift"), 3, path, workers=1, progress=False)
    again = generate(config("lift"), 3, path, workers=1, progress=False)
    assert (first.written, second.written, second.tried, again.tried) == (1, 3, 2, 0)
    with h5py.File(path) as a, h5py.File(three) as b:
        for name in b["data"]:
            for key in ("states", "actions", "actions_abs", "obs/cube_pos"):
                assert (a[f"data/{name}/{key}"][:] == b[f"data/{name}/{key}"][:]).all()
    with pytest.raises(DataError, match="other settings"):
        generate({**config("lift"), "horizon": 90}, 3, path, progress=False)


@pytest.mark.parametrize("name", ["n", "workers"])
def test_numbers_below_one_are_refused(tmp_path: Path, name: str) -> None:
    given = {"n": 2, "workers": 1, name: 0}
    with pytest.raises(ConfigError, match=f"^{name}: expected a whole number >= 1, got 0"):
        generate(config("lift"), given["n"], tmp_path / "a.hdf5", workers=given["workers"], progress=False)


def test_an_expert_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="solved 0 of 20 episodes"):
        generate({**config("lift"), "horizon": 5}, 2, tmp_path / "a.hdf5", workers=1, progress=False)
    assert not (tmp_path / "a.hdf5").exists()


def test_prepared_file_equals_what_the_generator_wrote(three: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.hdf5"
    shutil.copy(three, bare)
    with h5py.File(bare, "a") as file:
        for name in file["data"]:
            del file[f"data/{name}/obs"], file[f"data/{name}/actions_abs"]
    before = bare.read_bytes()
    path = prepare_states(bare, config("lift"), tmp_path / "out" / "prepared.hdf5", progress=False)
    assert bare.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["prepared.hdf5"]
    with h5py.File(path) as made, h5py.File(three) as given:
        assert [n.decode() for n in made["mask/train"]] == ["demo_0", "demo_1"]
        for name in given["data"]:
            for key in given[f"data/{name}/obs"]:
                assert np.abs(made[f"data/{name}/obs/{key}"][:] - given[f"data/{name}/obs/{key}"][:]).max() < 1e-5
            positions = made[f"data/{name}/actions_abs"][:, :3] - given[f"data/{name}/actions_abs"][:, :3]
            assert np.abs(positions).max() < 1e-5


def test_preparing_says_what_does_not_fit(three: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="was made in 'Lift', but task=stack is 'Stack'"):
        prepare_states(three, config("stack"), tmp_path / "x.hdf5", progress=False)
    stateless = tmp_path / "stateless.hdf5"
    shutil.copy(three, stateless)
    with h5py.File(stateless, "a") as file:
        del file["data/demo_1/states"]
    with pytest.raises(DataError, match="demo_1 has no 'states'"):
        prepare_states(stateless, config("lift"), tmp_path / "x.hdf5", progress=False)
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(three.read_bytes()[:20000])
    with pytest.raises(DataError, match=r"cut\.hdf5: not a readable HDF5 file, perhaps truncated"):
        prepare_states(cut, config("lift"), tmp_path / "x.hdf5", progress=False)
    assert not (tmp_path / "x.hdf5").exists()
    assert not list(tmp_path.glob(".x.hdf5.parts/*.part"))  # whole demonstrations are kept for the next call


def test_absolute_targets_keep_an_orientation_that_is_not_turned() -> None:
    rotations = np.stack([np.eye(3)] * 3)
    actions = np.zeros((3, 7))
    actions[0, 5], actions[:, 0] = 1.0, 2.0  # turned once; more than a full step is cut
    targets = absolute_targets(actions, np.zeros((3, 3)), rotations, np.array([0.05] * 3 + [0.5] * 3))
    assert np.allclose(targets[:, 5], 0.5)
    assert np.allclose(targets[:, 0], 0.05)


def test_a_camera_does_not_change_what_a_demonstration_depends_on() -> None:
    """A file made before a camera was added to the task can still be extended."""
    other = Task.from_config({**config("lift"), "cameras": {"image": ["frontview"]}})
    assert other.cameras == Cameras(image=("frontview",))
    assert other.to_json() == Task.from_config(config("lift")).to_json()
    assert other.to_json()["objects"]["cube"] == {"body": "cube_main", "fold": 4}


def test_how_a_file_was_generated_is_kept(three: Path, tmp_path: Path) -> None:
    task = Task.from_config(config("lift"))
    path = tmp_path / "lift.hdf5"

    def add(n: int) -> Report:
        writer = DemoWriter(path, env_arguments(task), {})
        make, note = partial(ExpertAttempts, task), lambda report: {"attempts": report.seeds_used}
        return collect(make, n, writer, name="the expert", workers=1, facts=note, progress=False)

    for n in (1, 1, 2):  # the second has nothing to do
        report = add(n)
        assert (report.written, report.seeds_used) == (n, n)
        with h5py.File(path) as file:
            assert json.loads(file["data"].attrs["generation"]) == {"attempts": n}
    assert report.tried == report.solved == report.solved_any == 1
    assert report.demos_per_minute > 0


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, full = tmp_path / "lift.hdf5", OSError(28, "No space left on device")
    arrays = {"states": np.zeros((3, 5)), "actions": np.zeros((3, 7)), "actions_abs": np.zeros((3, 7))}

    class Stored:
        def __call__(self, seed: int) -> Demonstration:
            return Demonstration(seed, True, **arrays, obs={"x": np.zeros((3, 2))}, model_file="", success_any=True)

        def close(self) -> None:
            pass

    def run(n: int) -> Report:
        return collect(Stored, n, DemoWriter(path, {}, {}), name="a file", workers=1, progress=False)

    def fails(*arguments: Any, **more: Any) -> None:
        raise full

    for name, kept in (("add", 0), ("_join", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(DemoWriter, name, fails)
            with pytest.raises(GenerationError, match=rf"lift\.hdf5: cannot be written .*No space left.* {kept} demon"):
                run(2)
        assert [p.name for p in tmp_path.iterdir()] == [".lift.hdf5.parts"][:kept]
    assert run(3).written == 3
    assert [p.name for p in tmp_path.iterdir()] == ["lift.hdf5"]
