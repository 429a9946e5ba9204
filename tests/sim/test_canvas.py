"""Several models drawn in one process do not disturb each other; the GL library is chosen before MuJoCo asks for it."""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
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

from equidiff.perception import CameraSettings, PerceptionSettings
from equidiff.sim.env import TaskEnv, make_env
from equidiff.sim.render import Camera, Renderer, RendererSettings

pytestmark = pytest.mark.sim
ROOT = Path(__file__).parents[2]
TASK: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "task" / "lift.yaml").read_text())
CAMERAS = {"agentview": CameraSettings(48, 48), "robot0_eye_in_hand": CameraSettings(48, 48)}
SEEING = PerceptionSettings.from_config({"cameras": {"agentview": {"width": 48, "height": 48}}, "image": ["agentview"]})


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = make_env(TASK, "relative", perception=SEEING)
    made.reset(seed=0)
    yield made
    made.close()


def _pictures(renderer: Renderer, data: Any) -> np.ndarray:
    return np.stack([renderer.frame(data, name, True).image for name in CAMERAS])


def test_renderers_of_one_size_do_not_disturb_each_other(env: TaskEnv) -> None:
    first = Renderer(env.model, CAMERAS, RendererSettings("default"))
    smooth = _pictures(first, env.data)
    second = Renderer(env.model, CAMERAS, RendererSettings("fast"))
    sharp = _pictures(second, env.data)
    assert 0 < np.abs(smooth.astype(int) - sharp).mean() < 4
    for _ in range(2):
        np.testing.assert_array_equal(_pictures(first, env.data), smooth)
        np.testing.assert_array_equal(_pictures(second, env.data), sharp)
    second.close()
    second.close()
    np.testing.assert_array_equal(_pictures(first, env.data), smooth)
    first.close()


def test_a_renderer_that_is_dropped_takes_nothing_of_the_others_with_it(env: TaskEnv) -> None:
    kept = Renderer(env.model, CAMERAS, RendererSettings())
    before = _pictures(kept, env.data)
    dropped: Any = Camera(env.model, 96, 96)
    dropped.picture(env.data, "agentview")
    np.testing.assert_array_equal(_pictures(kept, env.data), before)  # its GL context is the current one now
    del dropped
    gc.collect()
    np.testing.assert_array_equal(_pictures(kept, env.data), before)
    kept.close()


def test_filming_does_not_change_what_an_environment_sees(env: TaskEnv) -> None:
    """Also not of another environment of the process, nor when the model is replaced, as some tasks do at a reset."""
    seen = env.observe()["agentview_image"]
    other = make_env(TASK, "relative", perception=SEEING)
    try:
        other.reset(seed=1)
        theirs = other.observe()["agentview_image"]
        for _ in range(2):
            other.render_frame("agentview", 64, 64)
            env.render_frame("agentview", 64, 64)
            np.testing.assert_array_equal(env.observe()["agentview_image"], seen)
            state = other.state
            other.load_model(other.model_xml)
            other.set_state(state)
            film = other.render_frame("agentview", 64, 64)
            assert film.std() > 20
            np.testing.assert_array_equal(other.observe()["agentview_image"], theirs)
            np.testing.assert_array_equal(env.observe()["agentview_image"], seen)
    finally:
        other.close()
    np.testing.assert_array_equal(env.observe()["agentview_image"], seen)


def test_only_the_backend_imports_the_simulator_when_a_module_is_loaded() -> None:
    """Whoever imports MuJoCo first fixes the GL library; before torch it is even a segmentation fault."""
    files = sorted((ROOT / "equidiff" / "sim").rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"mujoco", "robosuite"}, file


@pytest.mark.parametrize("module", ["prepare", "convert", "meshes"])
def test_the_gl_library_is_chosen_whichever_module_comes_first(module: str) -> None:
    code = f"import equidiff.sim.{module}, mujoco; print(mujoco.GLContext.__module__)"
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("mujoco.osmesa", "mujoco.egl")
