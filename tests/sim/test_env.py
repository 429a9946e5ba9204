"""Environments: reproducible per seed, observations of the right state, fast step equal to robosuite's own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)

from equidiff.config import ConfigError
from equidiff.sim.backend import SimulatorError, load_mimicgen
from equidiff.sim.env import TaskEnv, env_arguments, make_env, make_env_from_args
from equidiff.sim.kinematics import matrix_to_quat, matrix_to_rotvec, rotation_z, rotvec_to_matrix, wrap, yaw_of
from equidiff.sim.physics import FastPhysics, RobosuitePhysics, make_physics
from equidiff.sim.task import Task

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs" / "task"
TASKS = ("lift", "stack", "square")


def config(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return node


@pytest.fixture(scope="module")
def environments() -> Iterator[dict[str, TaskEnv]]:
    made = {name: make_env(config(name), "relative") for name in TASKS}
    yield made
    for env in made.values():
        env.close()


@pytest.fixture
def lift(environments: dict[str, TaskEnv]) -> TaskEnv:
    return environments["lift"]


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_fixes_the_episode(environments: dict[str, TaskEnv], name: str) -> None:
    env, actions = environments[name], np.random.default_rng(0).uniform(-1, 1, (5, 7))
    runs = []
    for seed in (3, 4, 3):
        first, _ = env.reset(seed=seed)
        runs.append([first] + [env.step(action)[0] for action in actions])
    for a, b in zip(runs[0], runs[2], strict=True):
        assert all((a[key] == b[key]).all() for key in a)
    assert any((runs[0][0][key] != runs[1][0][key]).any() for key in runs[0][0])


def test_global_random_state_is_given_back(lift: TaskEnv) -> None:
    np.random.seed(5)  # noqa: NPY002 - this is what is tested
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    lift.reset(seed=1)
    assert (np.random.random(3) == expected).all()  # noqa: NPY002


@pytest.mark.parametrize("name", TASKS)
def test_observation_matches_its_space_and_the_state(environments: dict[str, TaskEnv], name: str) -> None:
    env = environments[name]
    env.reset(seed=0)
    observation, *_ = env.step(np.full(7, 0.3))
    assert env.observation_space.contains(observation)
    state = env.state
    for other in (env.set_state, env.set_positions):
        env.reset(seed=0)  # the same scene: the peg of square is part of the model, not of the state
        other(state)
        again = env.observe()
        assert all(np.abs(observation[key] - again[key]).max() < 1e-6 for key in observation)


@pytest.mark.parametrize("control", ["relative", "absolute"])
def test_fast_step_agrees_with_robosuite(control: str) -> None:
    rng, states = np.random.default_rng(0), []
    fast, slow = make_env(config("stack"), control), make_env(config("stack"), control, physics="robosuite")
    assert isinstance(fast.physics, FastPhysics)
    assert isinstance(slow.physics, RobosuitePhysics)
    try:
        for env in (fast, slow):
            env.reset(seed=2)
        start, rotation = fast.eef
        for _ in range(40):
            if control == "relative":
                action = rng.uniform(-1, 1, 7)
            else:
                turned = rotation_z(rng.uniform(-0.3, 0.3)) @ rotation
                grip = rng.uniform(-1, 1, 1)
                action = np.concatenate([start + rng.uniform(-0.05, 0.05, 3), matrix_to_rotvec(turned), grip])
            for env in (fast, slow):
                env.step(action)
            states.append((fast.state, slow.state))
        difference = max(float(np.abs(a[1:] - b[1:]).max()) for a, b in states)
        moved = float(np.abs(states[-1][0][1:] - states[0][0][1:]).max())
        assert difference < 1e-6 < 0.05 < moved
    finally:
        fast.close()
        slow.close()


def test_fast_step_applies_only_where_it_holds(lift: TaskEnv) -> None:
    controller = lift.env.robots[0].controller
    assert isinstance(make_physics(lift.env, "fast"), FastPhysics)
    controller.impedance_mode = "variable"
    try:
        assert isinstance(make_physics(lift.env, "fast"), RobosuitePhysics)
    finally:
        controller.impedance_mode = "fixed"
    with pytest.raises(ValueError, match="expected 'fast' or 'robosuite', got 'quick'"):
        make_physics(lift.env, "quick")


@pytest.mark.parametrize("name", TASKS)
def test_initial_scenes_look_the_same_from_every_side(environments: dict[str, TaskEnv], name: str) -> None:
    env, firsts = environments[name], []
    for seed in range(150):
        firsts.append(env.reset(seed=seed)[0])
    for key in env.task.objects:
        xy = np.stack([o[f"{key}_pos"][:2] for o in firsts])
        radius = np.linalg.norm(xy, axis=1)
        outer = env.task.placement[key].radius[1]  # type: ignore[index]
        assert radius.max() <= outer + 1e-6
        assert radius.max() > 0.9 * outer
        bearing = np.exp(1j * np.arctan2(xy[:, 1], xy[:, 0]))
        for harmonic in (1, 2, 3, 4):  # standard deviation of the mean is 0.08 for uniform bearings
            assert abs((bearing**harmonic).mean()) < 0.3
    distances = [
        np.linalg.norm(o[f"{a}_pos"][:2] - o[f"{b}_pos"][:2])
        for o in firsts
        for a in env.task.objects
        for b in env.task.objects
        if a < b
    ]
    assert min(distances, default=1.0) >= env.task.clearance - 1e-6


def test_start_poses_point_down_within_the_disc(environments: dict[str, TaskEnv]) -> None:
    env, yaws = environments["stack"], []
    for seed in range(40):
        env.reset(seed=seed)
        position, rotation = env.eef
        assert np.linalg.norm(position[:2]) < 0.12 + 1e-3
        assert 0.15 - 1e-3 < position[2] - 0.8 < 0.23 + 1e-3
        assert rotation[2, 2] < -0.9999
        yaws.append(wrap(yaw_of(rotation) - env.rest_yaw))
    assert np.ptp(yaws) > np.radians(120)
    assert env.success is False


def test_nothing_stands_still_in_square(environments: dict[str, TaskEnv]) -> None:
    env, pegs = environments["square"], []
    for seed in range(3):
        pegs.append(env.reset(seed=seed)[0]["peg_pos"][:2])
        assert env.data.xpos[env.env.sim.model.body_name2id("peg2")][2] < 0
    assert np.ptp(np.stack(pegs), axis=0).min() > 0.01


@pytest.mark.parametrize("name", ["square", pytest.param("square_d2", marks=pytest.mark.mimicgen)])
def test_stored_scene_restores_the_peg(name: str) -> None:
    if name == "square_d2":
        try:
            load_mimicgen()
        except SimulatorError as error:
            pytest.skip(str(error))
    env = make_env(config(name), "relative")
    first, _ = env.reset(seed=7)
    scene, state = env.model_xml, env.state
    other = make_env_from_args(env.env_args, config(name))
    try:
        assert np.abs(other.reset(seed=8)[0]["peg_pos"] - first["peg_pos"]).max() > 0.01
        other.load_model(scene)
        other.set_state(state)
        again = other.observe()
    finally:
        other.close()
        env.close()
    assert all(np.abs(first[key] - again[key]).max() < 1e-5 for key in first)


def test_relative_action_asks_for_the_target(lift: TaskEnv) -> None:
    lift.reset(seed=0)
    position, rotation = lift.eef
    target, turned = position + [0.01, -0.02, 0.005], rotation_z(0.2) @ rotation
    lift.step(lift.relative_action(target, turned, -1.0))
    assert np.abs(lift.goal[0] - target).max() < 1e-9
    assert np.abs(lift.goal[1] - turned).max() < 1e-6


def test_rotation_helpers_agree() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rotvec = rng.normal(size=3)
        rotvec *= rng.uniform(0, np.pi) / np.linalg.norm(rotvec)
        matrix = rotvec_to_matrix(rotvec)
        assert np.abs(matrix_to_rotvec(matrix) - rotvec).max() < 1e-7
        assert abs(np.linalg.norm(matrix_to_quat(matrix)) - 1) < 1e-9
    assert (rotvec_to_matrix(np.zeros(3)) == np.eye(3)).all()


def test_picture_shows_the_scene_and_leaves_physics_alone(lift: TaskEnv) -> None:
    lift.reset(seed=0)
    before, reflectance = lift.state, lift.model.mat_reflectance.copy()
    picture = lift.render_frame("agentview", 64, 48)
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 20
    red = (picture[..., 0] > 120) & (picture[..., 1] < 80)
    assert red.any(), "the cube is red"
    assert (lift.state == before).all()
    assert (lift.model.mat_reflectance == reflectance).all()
    with pytest.raises(ValueError, match="did you mean 'agentview'"):
        lift.render_frame("agentveiw", 64, 48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "Lfit"}, "no environment 'Lfit' with task.package=robosuite; did you mean 'Lift'"),
        ({"objects": {"cube": {"body": "cube_mian"}}}, "task.objects.cube.body: .* did you mean 'cube_main'"),
    ],
)
def test_unknown_names_in_the_simulator(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        make_env({**config("lift"), "placement": None, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizn": 3}, "task.horizn: unknown; did you mean 'horizon'"),
        ({"placement": {"cub": {}}}, "task.placement.cub: no such object; did you mean 'cube'"),
        ({"placement": {"cube": {"radios": [0, 1]}}}, "task.placement.cube.radios: unknown; did you mean 'radius'"),
        ({"package": "robomimic"}, "expected one of robosuite, mimicgen, robosuite_task_zoo, got 'robomimic'"),
        ({"env": None}, "task.env: expected a name, got None"),
    ],
)
def test_bad_task_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Task.from_config({**config("lift"), **change})


@pytest.mark.filterwarnings("ignore:.*WARN.*")  # advice about unbounded boxes, which poses in metres are
def test_gymnasium_finds_no_fault(lift: TaskEnv) -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(lift, skip_render_check=True, skip_close_check=True)


def test_bad_actions_and_controls(lift: TaskEnv) -> None:
    lift.reset(seed=0)
    for action in (np.zeros(6), np.full(7, np.nan)):
        with pytest.raises(ValueError, match="expected 7 finite values"):
            lift.step(action)
    with pytest.raises(ValueError, match="did you mean 'absolute'"):
        env_arguments(Task.from_config(config("lift")), "absolut")


def test_crowded_scenes_are_refused(lift: TaskEnv) -> None:
    from equidiff.sim.placement import sample_objects

    crowded = Task.from_config({**config("stack"), "clearance": 1.0})
    with pytest.raises(ConfigError, match=r"task stack: no arrangement of cubeA, cubeB with a clearance of 1.0 m"):
        sample_objects(crowded, np.random.default_rng(0))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_task_file_is_valid(path: Path) -> None:
    task = Task.from_config(yaml.safe_load(path.read_text()))
    assert task.name == path.stem
    assert task.objects


def test_importing_the_simulator_first_does_not_crash_what_torch_loads_late() -> None:
    program = "import equidiff.sim.env, torch._dynamo, torch._inductor.runtime.triton_heuristics; print('fine')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("fine"), done.stderr[-2000:]
    assert "WARNING" not in done.stdout + done.stderr


def test_the_gl_library_loads_quietly() -> None:
    program = """
import logging
logging.basicConfig(level=logging.INFO)  # as in a script
from equidiff.sim.backend import load_mujoco
context = load_mujoco().GLContext(8, 8)
context.make_current()
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.mimicgen
def test_mimicgen_loads_quietly() -> None:
    try:
        load_mimicgen()
    except SimulatorError as error:
        pytest.skip(str(error))
    program = "from equidiff.sim.backend import load_mimicgen; load_mimicgen(); print('fine')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from equidiff.sim import backend

    real = importlib.util.find_spec
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda n, *a: None if n == "mimicgen" else real(n, *a))
    with pytest.raises(SimulatorError, match=r"NVlabs mimicgen package .*git clone .* checkout [0-9a-f]{40} && "):
        backend.load_mimicgen.__wrapped__()
    monkeypatch.setattr(backend.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(SimulatorError, match="apt-get install libosmesa6"):
        backend.load_mujoco.__wrapped__()
