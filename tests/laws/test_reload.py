"""Law 5, first half: what is loaded is bit for bit what was saved."""

from pathlib import Path

import pytest
import torch
from law_toys import ACTIONS, ORDERS, config, make, random_batch

from equidiff.checkpoint import load_policy, save_checkpoint
from equidiff.compose import policy_tree


@pytest.mark.parametrize("denoiser", ["group_mlp", "fibrewise_unet_small"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_reload_is_bit_exact(tmp_path: Path, order: int, action: str, denoiser: str) -> None:
    few = ["diffusion.inference_steps=2"]
    policy = make(order, few, action=action, denoiser=denoiser)
    save_checkpoint(tmp_path / "last", policy, policy_tree(config(order, few, action=action, denoiser=denoiser)))
    loaded = load_policy(tmp_path / "last", spec=policy.spec)
    saved, read = policy.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[key], read[key]) for key in saved)
    obs = random_batch(policy.spec)["obs"]
    noise = torch.randn(5, *policy.noise_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(policy.act(obs, noise=noise).predicted, loaded.act(obs, noise=noise).predicted)
