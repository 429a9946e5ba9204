"""Small specs and policies for the laws, composed from the project's own config groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from equidiff import testing
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Batch, Spec

CONFIGS = Path(__file__).parents[2] / "configs"
ORDERS = (1, 2, 3, 4, 5, 8, 16)
ACTIONS = ("absolute", "relative", "relative_trajectory", "gripper_trajectory")

TASK = {
    "name": "toy",
    "centre": [0.1, -0.05],
    "bounds": None,
    "control_hz": 20,
    "objects": {"cube": {"fold": 4}, "bar": {"fold": 2}, "mug": {"fold": None}},
}
_GROUPS = {
    "obs": "state",
    "action": "absolute",
    "symmetry": "c8",
    "encoder": "state",
    "denoiser": "group_mlp",
    "diffusion": "ddim_x0",
    "normalizer": "gaussian",
    "augment": "none",
    "policy": "diffusion",
}


def config(order: int = 8, overrides: Sequence[str] = (), **groups: str) -> dict[str, Any]:
    """A composed, resolved config; `groups` picks other files of configs/."""
    chosen = [f"+{group}={name}" for group, name in {**_GROUPS, **groups}.items()]
    unet = ["denoiser.widths=[8,16]", "denoiser.groups=4"] if "unet" in groups.get("denoiser", "") else []
    settings = ["++horizon={predict:8,execute:4,latency:0}", f"symmetry.order={order}", "encoder.channels=6"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose(overrides=[*chosen, f"++task={_inline(TASK)}", *settings, *unet, *overrides])
    resolved = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def _inline(value: Any) -> str:
    """Hydra's override grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_inline, value)) + "]"
    return "null" if value is None else str(value)


def random_batch(spec: Spec, count: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """A batch with valid rotations, in storage form."""
    return testing.random_batch(spec, count, torch.Generator().manual_seed(seed), dtype)


def make(order: int = 8, overrides: Sequence[str] = (), seed: int = 0, **groups: str) -> DiffusionPolicy:
    """A fitted policy in float32 whose parameters are all random (a new one starts with zero output and biases)."""
    composed = config(order, overrides, **groups)
    spec = make_spec(composed)
    policy = make_policy(policy_tree(composed), spec)
    policy.fit([random_batch(spec, count=20, seed=seed + 1)])
    randomise(policy, seed)
    return policy.eval()


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Draw all parameters anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan = parameter.shape[-1] if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan))
