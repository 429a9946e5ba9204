"""Marks that a task shows and hides are drawn as robosuite draws them: the glow of Kitchen's stove."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)

from equidiff.perception import PerceptionSettings
from equidiff.sim.env import make_env

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs"
SEEING = PerceptionSettings.from_config({"cameras": {"agentview": {}}, "image": ["agentview"], "depth": ["agentview"]})


def _config(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text())
    return node


def test_a_site_is_seen_while_the_task_shows_it() -> None:
    env = make_env(_config("lift"), perception=SEEING)
    try:
        hidden, _ = env.reset(seed=0)
        site = env.model.site("gripper0_grip_site_cylinder").id
        for alpha, seen in ((-1.0, False), (1.0, True), (0.0, False)):
            env.model.site_rgba[site] = (1, 0, 1, alpha)
            now = env.observe()
            film = env.render_frame("agentview", 64, 64).astype(int)
            assert (np.abs(now["agentview_image"].astype(int) - hidden["agentview_image"]).max() > 100) == seen
            assert np.array_equal(now["agentview_depth"], hidden["agentview_depth"]) != seen
            assert bool(((film[..., 0] > 1.5 * film[..., 1]) & (film[..., 2] > 1.5 * film[..., 1])).any()) == seen
    finally:
        env.close()


@pytest.mark.mimicgen
@pytest.mark.skipif(
    importlib.util.find_spec("robosuite_task_zoo") is None, reason="robosuite_task_zoo is not installed"
)
def test_the_stove_glows_when_the_button_says_so() -> None:
    env = make_env(_config("kitchen_d1"), perception=SEEING)
    try:
        off, _ = env.reset(seed=0)
        burner = env.model.site("Stove1_burner_on").id
        assert env.model.site_rgba[burner, 3] < 0
        button = 1 + env.env.button_qpos_addrs[1]
        state = env.state
        for angle, on in ((0.1, True), (-0.3, False)):
            state[button] = angle
            env.set_positions(state)
            seen = env.observe()["agentview_image"]
            assert (env.model.site_rgba[burner, 3] > 0) == on
            if on:
                glowing = seen
        turned_only = np.abs(seen.astype(int) - off["agentview_image"]).max()
        assert np.abs(glowing.astype(int) - off["agentview_image"]).max() > turned_only + 50
    finally:
        env.close()
