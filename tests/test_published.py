"""The published policies, each one line of overrides: they compose, have their size, and keep the laws."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from law_toys import random_batch, randomise
from omegaconf import OmegaConf
from torch import nn

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.denoisers.fibrewise_unet import ConditionalUNet1D
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


@pytest.fixture
def weightless_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The U-Net without memory for its weights: only its size is asked for."""

    def build(*args: Any, **named: Any) -> nn.Module:
        with torch.device("meta"):
            return ConditionalUNet1D(*args, **named)

    monkeypatch.setattr("equidiff.denoisers.fibrewise_unet.ConditionalUNet1D", build)


SIZES = {  # scene, U-Net, all together
    "equidiff_image_abs": (4_535_904, 255_289_536, 271_175_522),
    "equidiff_image_rel": (4_535_904, 255_289_536, 271_175_909),
    "equidiff_image_se2": (4_535_904, 255_289_536, 271_175_010),
    "equidiff_voxel_abs": (1_301_160, 64_927_168, 77_578_410),
    "equidiff_voxel_rel": (1_301_160, 64_927_168, 77_578_797),
}


@pytest.mark.parametrize("experiment", EQUIVARIANT)
def test_full_size(experiment: str, weightless_unet: None) -> None:
    """Sizes of Wang et al. 2024: scene encoder, wrist encoder, U-Net, and the linear layers between them."""
    scene, unet, total = SIZES[experiment]
    policy, spec = _policy(experiment)
    encoders = policy.encoder.encoders
    assert count_parameters(encoders["scene" if "image" in experiment else "voxels"]) == scene
    assert count_parameters(encoders["wrist"]) == 11_199_744
    assert count_parameters(policy.denoiser.unet) == unet
    # the dimension of the equivariant maps: N from regular to regular, 1 from trivial, and as many as a vector has
    # entries; biases of regular features, and of the entries that no rotation changes
    pose, action = spec.observation.irreps.size, spec.action.irreps
    fused = 128 * (8 * 128 + 128 + pose) + 128
    around = 64 * action.size + 64 + 64 * action.size + action.frequencies.count(0)
    assert count_parameters(policy) == scene + 11_199_744 + unet + fused + around == total


@pytest.mark.parametrize(("experiment", "total"), [("plain_image_abs", 277_694_666), ("plain_voxel_abs", 119_412_746)])
def test_full_size_without_symmetry(experiment: str, total: int, weightless_unet: None) -> None:
    assert count_parameters(_policy(experiment)[0]) == total


def test_reduced_size(weightless_unet: None) -> None:
    """A quarter of the width: 28 million, of which 16.8, 0.3 and 11.2 are the U-Net, the scene and the wrist."""
    words = ("encoder.channels=32", "denoiser.widths=[128,256,512]")
    policy, _ = _policy("equidiff_image_abs", *words)
    scene, wrist = (count_parameters(policy.encoder.encoders[name]) for name in ("scene", "wrist"))
    found = [round(n / 1e6, 1) for n in (count_parameters(policy.denoiser.unet), scene, wrist)]
    assert found == [16.8, 0.3, 11.2]
    assert round(count_parameters(policy) / 1e6) == 28
