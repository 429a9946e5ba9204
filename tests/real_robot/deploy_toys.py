"""A checkpoint whose policy moves an arm slowly up."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from planner_toys import TREE

from equidiff.checkpoint import save_checkpoint
from equidiff.compose import make_policy
from equidiff.fields.presets import proprioception, relative_action, relative_trajectory_action
from equidiff.spec import Horizon, Space, Spec

ROOT = Path(__file__).parents[2]
RISE = 0.004
"""Metres above the gripper of every target of the policy."""


def checkpoint(folder: Path, action: Any = None, rise: float = RISE) -> Path:
    """A policy that asks for a place `rise` metres above the gripper: a new denoiser predicts the mean of the data."""
    action = action or relative_trajectory_action("gripper")
    spec = Spec(
        Space(proprioception(absolute=False)), Space(action), Horizon(obs=2, predict=17, execute=8), control_hz=20
    )
    tree = copy.deepcopy(TREE)
    tree["diffusion"]["scheduler"]["prediction_type"] = "sample"
    policy = make_policy(tree, spec)
    obs = {"robot0_eef_pos": torch.zeros(4, 2, 3), "robot0_gripper_qpos": torch.zeros(4, 2, 2)}
    obs["robot0_eef_quat_site"] = torch.tensor([1.0, 0, 0, 0]).expand(4, 2, 4).clone()  # points down
    actions = torch.tensor([0, 0, rise, np.pi, 0, 0, -1.0]).expand(4, 17, 7).clone()
    if action == relative_action():
        actions = torch.rand(4, 17, 7)
    policy.fit([{"obs": obs, "action": actions}])
    task = yaml.safe_load((ROOT / "configs/task/lift.yaml").read_text())
    return save_checkpoint(folder / "checkpoint", policy, tree, extra={"task": task, "control": "absolute"})
