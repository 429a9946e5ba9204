"""The task files: all of them valid, and those whose environment is installed true to it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from equidiff.config import ConfigError
from equidiff.sim.task import Cameras, Task

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))
HORIZONS = {  # control steps of an episode in the published evaluation (Wang et al., CoRL 2024)
    "stack": 400,
    "stack_three": 400,
    "square": 400,
    "threading": 400,
    "coffee": 400,
    "three_piece_assembly": 500,
    "hammer_cleanup": 500,
    "mug_cleanup": 500,
    "kitchen": 800,
    "nut_assembly": 500,
    "pick_place": 1000,
    "coffee_preparation": 800,
}
VARIANTS = {
    "stack": "d0 d1",
    "stack_three": "d0 d1",
    "square": "d0 d1 d2",
    "threading": "d0 d1 d2",
    "coffee": "d0 d1 d2",
    "three_piece_assembly": "d0 d1 d2",
    "hammer_cleanup": "d0 d1",
    "mug_cleanup": "d0 d1 o1 o2",
    "kitchen": "d0 d1",
    "nut_assembly": "d0",
    "pick_place": "d0",
    "coffee_preparation": "d0 d1",
}
MIMICGEN = [f"{family}_{variant}" for family, variants in VARIANTS.items() for variant in variants.split()]
TASK_ZOO = ("hammer_cleanup", "kitchen")


def config(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text())
    return node


def test_all_tasks_of_mimicgen_are_there() -> None:
    assert set(MIMICGEN) <= set(NAMES)
    assert len(MIMICGEN) == 28


@pytest.mark.parametrize("name", NAMES)
def test_a_task_file_composes_and_is_valid(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = compose("generate", [f"task={name}"]).task
    task = Task.from_config(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
    assert task.name == name
    assert task.control_hz == 20
    assert task.bounds is not None
    for axis, (low, high) in enumerate(task.bounds):
        assert low < high
        if axis < 2:
            assert low < task.centre[axis] < high
            assert low + high == pytest.approx(2 * task.centre[axis])  # else a turn would leave the workspace
    assert task.bounds[2][0] == pytest.approx(task.table_height)
    assert {"agentview", "robot0_eye_in_hand"} == set(task.cameras.image)
    assert task.objects
    assert len({thing.body for thing in task.objects.values()}) == len(task.objects)


@pytest.mark.parametrize("name", MIMICGEN)
def test_settings_of_the_published_protocol(name: str) -> None:
    task = Task.from_config(config(name))
    family, _, variant = name.rpartition("_")
    words = "".join(word.capitalize() for word in family.split("_"))
    assert task.env == f"{words}_{variant.upper()}"
    assert task.horizon == HORIZONS[family]
    assert task.centre == ((-0.2, 0.0) if family in TASK_ZOO else (0.0, 0.0))
    assert task.package == ("robosuite_task_zoo" if family in TASK_ZOO else "mimicgen")
    assert task.placement is None
    sides = {"birdview", "agentview", "robot0_eye_in_hand"}
    assert set(task.cameras.volume) == (sides if family == "pick_place" else sides | {"sideview"})


def test_variants_of_a_task_observe_the_same() -> None:
    for family, variants in VARIANTS.items():
        objects = [config(f"{family}_{variant}")["objects"] for variant in variants.split()]
        assert all(other == objects[0] for other in objects)


def test_mistakes_in_a_task_file_are_named() -> None:
    good = config("coffee_d2")
    assert Task.from_config({k: v for k, v in good.items() if k != "cameras"}).cameras == Cameras()
    for change, message in [
        ({"package": "mimicgem"}, "task.package: expected one of .*, got 'mimicgem'; did you mean 'mimicgen'"),
        ({"cameras": ["agentview"]}, r"task\.cameras: expected image"),
        ({"cameras": {"images": ["agentview"]}}, r"task\.cameras\.images: unknown; did you mean 'image'"),
        ({"cameras": {"image": "agentview"}}, r"task\.cameras\.image: expected a list of camera names"),
        ({"cameras": {"volume": []}}, r"task\.cameras\.volume: expected a list of camera names"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Task.from_config({**good, **change})


@pytest.mark.sim
def test_missing_packages_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("robosuite") is None:
        pytest.skip("the simulator is not installed (extra sim)")
    from equidiff.sim import backend
    from equidiff.sim.env import make_env

    find = importlib.util.find_spec
    monkeypatch.setattr(
        backend.importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("mimicgen", "robosuite_task_zoo") else find(name, *rest),
    )
    for load in (backend.load_mimicgen, backend.load_task_zoo):
        load.cache_clear()
    try:
        with pytest.raises(
            backend.SimulatorError, match=r"git clone https://github\.com/ARISE-Initiative/robosuite-task"
        ):
            make_env(config("kitchen_d1"))
        with pytest.raises(backend.SimulatorError, match=r"NVlabs mimicgen package .*uv pip install"):
            make_env(config("coffee_d2"))
    finally:
        for load in (backend.load_mimicgen, backend.load_task_zoo):
            load.cache_clear()


@pytest.mark.sim
def test_a_missing_model_file_says_how_to_install_all(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("robosuite") is None:
        pytest.skip("the simulator is not installed (extra sim)")
    from equidiff.sim import backend, env

    def make(*names: str, **settings: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "objects/coffee_pod.xml")

    monkeypatch.setattr(env, "load_package", lambda name: None)
    monkeypatch.setattr(env.load_robosuite(), "make", make)
    node = {**config("lift"), "package": "mimicgen"}
    with pytest.raises(backend.SimulatorError, match=r"objects/coffee_pod\.xml.*git clone .*NVlabs/mimicgen") as told:
        env.make_env(node)
    assert f"checkout {backend.MIMICGEN_COMMIT} && uv pip install" in str(told.value)


def test_one_commit_of_mimicgen_is_named_everywhere() -> None:
    from equidiff.sim import backend

    root = Path(__file__).parents[2]
    assert f'mimicgen@{backend.MIMICGEN_COMMIT}"' in (root / "pyproject.toml").read_text()
    shown = (root / "docs" / "install.md").read_text().replace("&& \\\n    ", "&& ")
    for install in (backend.MIMICGEN_INSTALL, backend.TASK_ZOO_INSTALL):
        assert install in shown


@pytest.mark.sim
@pytest.mark.mimicgen
@pytest.mark.parametrize("name", MIMICGEN)
def test_the_environment_has_what_the_task_file_says(name: str) -> None:
    if importlib.util.find_spec("robosuite") is None:
        pytest.skip("the simulator is not installed (extra sim)")
    from equidiff.sim.backend import SimulatorError
    from equidiff.sim.env import make_env

    try:
        env = make_env(config(name), "relative")
    except SimulatorError as error:
        pytest.skip(str(error))
    try:
        first, _ = env.reset(seed=0)
        again, _ = env.reset(seed=0)
        other, _ = env.reset(seed=1)
        assert all((first[key] == again[key]).all() for key in first)
        assert any((first[key] != other[key]).any() for key in first)
        names = env.env.sim.model.camera_names
        assert set(env.task.cameras.image) | set(env.task.cameras.volume) <= set(names)
        (x_low, x_high), (y_low, y_high), (z_low, z_high) = env.task.bounds  # type: ignore[misc]
        for thing in env.task.objects:
            x, y, z = first[f"{thing}_pos"]
            assert x_low <= x <= x_high
            assert y_low <= y <= y_high
            assert z_low - 0.02 <= z <= z_high
            assert np.linalg.norm(first[f"{thing}_quat"]) == pytest.approx(1, abs=1e-5)
        observation, *_ = env.step(np.zeros(7))
        assert env.observation_space.contains(observation)
        assert not env.success
    finally:
        env.close()
