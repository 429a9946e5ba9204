"""The published policies, each one line of overrides: they compose, have their size, and keep the laws."""

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from law_toys import random_batch, randomise
from omegaconf import OmegaConf

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.matching import count_parameters

CONFIGS = Path(__file__).parents[1] / "configs"
EQUIVARIANT = (
    "equidiff_image_abs",
    "equidiff_image_rel",
    "equidiff_image_se2",
    "equidiff_voxel_abs",
    "equidiff_voxel_rel",
)
PLAIN = ("plain_image_abs", "plain_voxel_abs")
SMALL = ["encoder.channels=16", "denoiser.widths=[16,32]", "denoiser.step_embedding=16", "diffusion.inference_steps=4"]


def _policy(experiment: str, *overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "task=stack_d1", "data.path=x.hdf5", *overrides])
    tree = OmegaConf.to_container(config, resolve=True)
    spec = make_spec(tree)
    return make_policy(policy_tree(tree), spec), spec


@pytest.mark.parametrize("experiment", [*EQUIVARIANT, *PLAIN])
@pytest.mark.parametrize("augment", ["none", "rotation"])
def test_it_learns_and_acts(experiment: str, augment: str) -> None:
    policy, spec = _policy(experiment, *SMALL, f"augment={augment}")
    batch = random_batch(spec, count=2)
    policy.fit([batch])
    loss = policy.loss(batch)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)
    chunk = policy.eval().act(batch["obs"])
    assert chunk.action.shape == (2, 8, 7)


@pytest.mark.parametrize("experiment", EQUIVARIANT)
def test_the_whole_sampler_is_equivariant_under_quarter_turns(experiment: str) -> None:
    policy, spec = _policy(experiment, *SMALL, "diffusion=ddim_x0")
    batch = random_batch(spec, count=2, dtype=torch.float64)
    policy.fit([batch])
    randomise(policy)
    policy.eval().double()
    noise = torch.randn(2, *policy.noise_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned_noise = spec.action.irreps.rotate(noise, math.pi / 2)
    chunk = policy.act(batch["obs"], noise=noise).predicted
    turned = policy.act(spec.rotate_observation(batch["obs"], math.pi / 2), noise=turned_noise).predicted
    want = spec.rotate_action(chunk, math.pi / 2)
    for field, at in zip(spec.action.fields, spec.action_slices, strict=True):
        left, right = (field.decode({**batch["obs"], field.sources[0].key: x[..., at]}) for x in (turned, want))
        torch.testing.assert_close(left, right, rtol=0, atol=1e-8 * max(1.0, float(right.abs().max())))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "scene", "unet"),
    [("equidiff_image_abs", 4_535_904, 255_289_536), ("equidiff_voxel_abs", 1_301_160, 64_927_168)],
)
def test_full_size(experiment: str, scene: int, unet: int) -> None:
    """Sizes of Wang et al. 2024: scene encoder, wrist encoder and U-Net."""
    policy, _ = _policy(experiment)
    encoders = policy.encoder.encoders
    first, wrist = (encoders["scene"] if "scene" in encoders else encoders["voxels"]), encoders["wrist"]
    assert count_parameters(first) == scene
    assert count_parameters(wrist) == 11_199_744
    assert count_parameters(policy.denoiser.unet) == unet
