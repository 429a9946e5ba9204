"""Actions converted both ways, in copies of files, and executed again."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from disk_toys import small_disk

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py

from equidiff.data.episode import DataError
from equidiff.sim.backend import SimulatorError, load_mimicgen
from equidiff.sim.convert import absolute_targets, full_action, relative_deltas
from equidiff.sim.convert_file import convert_actions
from equidiff.sim.demos import generate
from equidiff.sim.env import env_arguments
from equidiff.sim.kinematics import rotvec_to_matrix
from equidiff.sim.replay import record, replay, summary, table
from equidiff.sim.task import Task

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs" / "task"
LIMITS = np.array([0.05] * 3 + [0.5] * 3)


def config(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return node


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demonstrations of stack."""
    path = tmp_path_factory.mktemp("convert") / "stack.hdf5"
    generate(config("stack"), 2, path, workers=1, progress=False)
    return path


def poses(seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotations = np.stack([rotvec_to_matrix(v) for v in rng.normal(size=(steps, 3))])
    return rng.normal(size=(steps, 3)), rotations


def test_deltas_and_targets_are_inverse() -> None:
    positions, rotations = poses(0, 20)
    actions = np.random.default_rng(1).uniform(-1, 1, (20, 7))
    made = absolute_targets(actions, positions, rotations, LIMITS)
    back = relative_deltas(made, positions, rotations, LIMITS)
    np.testing.assert_allclose(back.actions, actions, atol=1e-9)
    assert not back.clipped.any()
    np.testing.assert_allclose(absolute_targets(back.actions, positions, rotations, LIMITS), made, atol=1e-9)


def test_targets_out_of_reach_are_cut_and_counted() -> None:
    positions, rotations = poses(0, 3)
    rotations = np.repeat(rotations[:1], 3, axis=0)  # zero turns keep the first orientation
    actions = np.zeros((3, 7))
    targets = absolute_targets(actions, positions, rotations, LIMITS)
    targets[1, 0] += 0.2  # a full action is 0.05 m
    targets[:, 6] = (-1, 1, -1)
    found = relative_deltas(targets, positions, rotations, LIMITS)
    assert found.clipped.tolist() == [False, True, False]
    assert found.actions[1, 0] == 1.0
    assert found.actions[:, 6].tolist() == [-1, 1, -1]
    # a delta of exactly zero would keep an older orientation
    again = absolute_targets(found.actions, positions, rotations, LIMITS)
    for t in range(3):
        np.testing.assert_allclose(rotvec_to_matrix(again[t, 3:6]), rotvec_to_matrix(targets[t, 3:6]), atol=1e-8)


def test_only_the_controller_that_is_known() -> None:
    arguments = env_arguments(Task.from_config(config("stack")))
    assert full_action(arguments).tolist() == LIMITS.tolist()
    arguments["env_kwargs"]["controller_configs"]["type"] = "JOINT_VELOCITY"
    with pytest.raises(DataError, match=r"the controller is 'JOINT_VELOCITY'.*OSC_POSE"):
        full_action(arguments)
    with pytest.raises(DataError, match="output_max"):
        full_action({})


def test_a_converted_copy(stack: Path, tmp_path: Path) -> None:
    before = stack.read_bytes()
    lacking = tmp_path / "lacking.hdf5"
    shutil.copyfile(stack, lacking)
    with h5py.File(lacking, "a") as file:
        for name in file["data"]:
            del file[f"data/{name}/actions_abs"]
    lacking.chmod(0o444)
    done = convert_actions(lacking, config("stack"), tmp_path / "absolute.hdf5", "absolute", progress=False)
    assert (done.demonstrations, done.clipped) == (2, 0)
    back = convert_actions(done.path, config("stack"), tmp_path / "relative.hdf5", "relative", progress=False)
    assert back.clipped_share == 0
    with h5py.File(stack) as given, h5py.File(done.path) as made, h5py.File(back.path) as again:
        for name in given["data"]:
            recorded = np.asarray(given[f"data/{name}/actions_abs"])
            np.testing.assert_allclose(made[f"data/{name}/actions_abs"], recorded, atol=1e-6)
            np.testing.assert_array_equal(made[f"data/{name}/actions"], given[f"data/{name}/actions"])
            np.testing.assert_allclose(again[f"data/{name}/actions"], given[f"data/{name}/actions"], atol=1e-5)
        assert json.loads(made["data"].attrs["converted"])["from"] == "lacking.hdf5"
    assert stack.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"lacking.hdf5", "absolute.hdf5", "relative.hdf5"}


def test_refusals_leave_nothing_behind(stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.hdf5"
    with pytest.raises(DataError, match="expected absolute or relative, got 'relativ'; did you mean 'relative'"):
        convert_actions(stack, config("stack"), out, "relativ")
    with pytest.raises(DataError, match="would be overwritten"):
        convert_actions(stack, config("stack"), stack, "absolute")
    with pytest.raises(DataError, match="was made in 'Stack', but task=lift is 'Lift'"):
        convert_actions(stack, config("lift"), out, "absolute")
    damaged = tmp_path / "damaged.hdf5"
    shutil.copyfile(stack, damaged)
    with h5py.File(damaged, "a") as file:
        file["data/demo_1/actions"][3, 2] = np.nan
    with pytest.raises(DataError, match=r"demo_1: 'actions' has shape .* finite numbers"):
        convert_actions(damaged, config("stack"), out, "absolute", progress=False)
    with h5py.File(damaged, "a") as file:
        file["data/demo_1/actions"][3, 2] = 0
        del file["data/demo_1/states"]
    with pytest.raises(DataError, match="demo_1: has no states"):
        convert_actions(damaged, config("stack"), out, "absolute", progress=False)
    with pytest.raises(DataError, match="n=3, but it has 2 demonstrations"):
        replay(stack, config("stack"), n=3)
    with pytest.raises(DataError, match="expected relative, absolute, round_trip, got 'abs'"):
        replay(stack, config("stack"), ["abs"])
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.hdf5"]


@pytest.mark.parametrize("spare", [-1000, 100])
def test_a_full_disk_is_told_and_leaves_nothing(stack: Path, tmp_path: Path, spare: int) -> None:
    """The copy does not fit, or the converted actions do not: HDF5 itself could crash in that."""
    message = r"stack\.hdf5: cannot be read, or .*out\.hdf5 cannot be written .*too large"
    with small_disk(stack.stat().st_size + spare), pytest.raises(DataError, match=message):
        convert_actions(stack, config("stack"), tmp_path / "out.hdf5", "absolute", progress=False)
    assert not list(tmp_path.iterdir())


def test_converted_demonstrations_of_stack_still_succeed(stack: Path, tmp_path: Path) -> None:
    found = replay(stack, config("stack"), ["relative", "absolute", "round_trip"], workers=1, progress=False)
    for control in ("relative", "absolute", "round_trip"):
        figures = summary([r for r in found if r.control == control])
        assert figures["still_solved"] == figures["solved_when_recorded"] == 2
        assert figures["position_error_mm"]["mean"] < 1
        assert figures["rotation_error_degrees"]["mean"] < 0.5
        assert figures["clipped_share"] == 0
        path = record(tmp_path / "replay.json", f"stack_{control}", "stack.hdf5", {control: figures}, "replay")
    assert sorted(json.loads(path.read_text())) == ["stack_absolute", "stack_relative", "stack_round_trip"]
    assert "| stack | round trip | 2/2 |" in table({"stack": {"round_trip": figures}})


def test_wrong_actions_are_seen(stack: Path, tmp_path: Path) -> None:
    """The measure can fail: targets a few centimetres off solve nothing."""
    path = tmp_path / "wrong.hdf5"
    shutil.copyfile(stack, path)
    with h5py.File(path, "a") as file:
        for name in file["data"]:
            file[f"data/{name}/actions_abs"][:, 0] += 0.06
    figures = summary(replay(path, config("stack"), ["absolute"], n=1, workers=1, progress=False))
    assert (figures["still_solved"], figures["solved_when_recorded"]) == (0, 1)
    assert figures["position_error_mm"]["mean"] > 20


@pytest.mark.slow
def test_converted_demonstrations_of_square_still_succeed_in_parallel(tmp_path: Path) -> None:
    path = tmp_path / "square.hdf5"
    generate(config("square"), 2, path, workers=2, progress=False)
    figures = summary(replay(path, config("square"), ["absolute"], workers=2, progress=False))
    assert figures["still_solved"] == figures["solved_when_recorded"] == 2
    assert figures["position_error_mm"]["mean"] < 1


@pytest.mark.mimicgen
@pytest.mark.slow
def test_converted_demonstrations_of_threading_still_succeed(tmp_path: Path) -> None:
    try:
        load_mimicgen()
    except SimulatorError as error:
        pytest.skip(str(error))
    path = tmp_path / "threading.hdf5"
    generate(config("threading_d2"), 1, path, workers=1, progress=False)
    found = replay(path, config("threading_d2"), ["absolute", "round_trip"], workers=1, progress=False)
    assert all(r.success and r.recorded and r.mean_mm < 1 for r in found)
