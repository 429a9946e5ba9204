"""Law 4: rotated observation and rotated noise give rotated actions, through the whole sampler."""

import math

import pytest
import torch
from law_toys import ACTIONS, ORDERS, make, random_batch

from equidiff.guidance import Overlap, soft_mask
from equidiff.policy import DiffusionPolicy

DIFFUSIONS = {
    "ddim": ("ddim", []),
    "ddim_x0": ("ddim_x0", []),
    "ddim_velocity": ("ddim", ["diffusion.scheduler.prediction_type=v_prediction"]),
    "ddpm": ("ddpm", ["diffusion.clip=irrep", "diffusion.inference_steps=12"]),
    "flow": ("flow", []),
    "unclipped": ("ddim_x0", ["diffusion.clip=none"]),
}


def _error(policy: DiffusionPolicy, angle: float, count: int = 3) -> float:
    """Largest difference of the two orders, relative to the largest feature; in float64."""
    spec, policy = policy.spec, policy.double()
    obs = random_batch(spec, count, seed=3, dtype=torch.float64)["obs"]
    generator = torch.Generator().manual_seed(4)
    shape = (policy.diffusion.inference_steps + 1, count, *policy.noise_shape)
    noise, *steps = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    turn = spec.action.irreps.rotate
    turned_obs, step_noise = spec.rotate_observation(obs, angle), torch.stack(steps)
    before = policy.act(obs, noise=noise, step_noise=step_noise).predicted
    after = policy.act(turned_obs, noise=turn(noise, angle), step_noise=turn(step_noise, angle)).predicted
    want = spec.decode_action(spec.rotate_action(before, angle), turned_obs)
    got = spec.decode_action(after, turned_obs)
    assert before.std() > 1e-3
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("diffusion", ["ddim", "ddim_x0", "ddpm"])
def test_every_order(order: int, diffusion: str) -> None:
    name, settings = DIFFUSIONS[diffusion]
    policy = make(order, settings, diffusion=name)
    for angle in {*policy.symmetry.angles[:4], policy.symmetry.angles[-1]}:
        assert _error(policy, angle) < 1e-8


@pytest.mark.parametrize("denoiser", ["group_mlp", "fibrewise_unet_small"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_for_every_kind_of_action(order: int, action: str, denoiser: str) -> None:
    policy = make(order, ["diffusion.inference_steps=3"], action=action, denoiser=denoiser)
    for angle in {policy.symmetry.angles[order // 2], policy.symmetry.angles[-1]}:
        assert _error(policy, angle) < 1e-8


@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_eighth_turn_for_every_kind_of_action(action: str, diffusion: str) -> None:
    name, settings = DIFFUSIONS[diffusion]
    assert _error(make(8, settings, diffusion=name, action=action), math.pi / 4) < 1e-8


@pytest.mark.parametrize("action", ["absolute", "relative"])
def test_the_shared_unet_with_a_history(action: str) -> None:
    policy = make(8, ["obs.horizon=2", "diffusion.inference_steps=4"], denoiser="fibrewise_unet_small", action=action)
    assert _error(policy, math.pi / 4) < 1e-8


def test_the_published_hundred_steps() -> None:
    policy = make(8, ["diffusion.clip=irrep"], diffusion="ddpm", normalizer="range")
    assert policy.diffusion.inference_steps == 100
    assert _error(policy, math.pi / 4, count=1) < 1e-8


def test_clipping_x_and_y_one_by_one_breaks_eighth_turns_only() -> None:
    policy = make(8, ["diffusion.inference_steps=12"], diffusion="ddpm", normalizer="range")
    assert policy.diffusion.clip == "elementwise"
    assert _error(policy, math.pi / 2) < 1e-8
    assert _error(policy, math.pi / 4) > 1e-3


def test_a_plain_policy_breaks_the_law() -> None:
    assert _error(make(1), math.pi / 2) > 1e-2


def test_an_invariant_chunk_makes_a_plain_policy_equivariant_where_it_sees_invariants_only() -> None:
    """What the gripper-frame action buys: its features do not turn, so only the observation breaks the law."""
    policy = make(1, action="gripper_trajectory")
    assert set(policy.spec.action.irreps.frequencies) == {0}
    with torch.no_grad():
        turning = torch.tensor(policy.spec.observation.irreps.frequency_of_entry) > 0
        policy.encoder.encoders["state"].lift.weight[:, turning] = 0
    assert _error(policy, 1.234) < 1e-8


def test_float32_stays_close() -> None:
    policy = make(8)
    obs = random_batch(policy.spec, seed=3)["obs"]
    noise = torch.randn(5, *policy.noise_shape, generator=torch.Generator().manual_seed(0))
    before = policy.act(obs, noise=noise).predicted
    turned_obs = policy.spec.rotate_observation(obs, math.pi / 4)
    after = policy.act(turned_obs, noise=policy.spec.action.irreps.rotate(noise, math.pi / 4)).predicted
    want = policy.spec.rotate_action(before, math.pi / 4)
    error = policy.spec.decode_action(after, turned_obs) - policy.spec.decode_action(want, turned_obs)
    assert error.abs().max() < 1e-3


@pytest.mark.parametrize("diffusion", ["ddim", "ddim_x0", "ddpm", "flow"])
@pytest.mark.parametrize("action", ACTIONS)
def test_real_time_chunking_keeps_the_law(action: str, diffusion: str) -> None:
    name, settings = DIFFUSIONS[diffusion]
    policy = make(8, settings, diffusion=name, action=action).double()
    spec, angle, count = policy.spec, math.pi / 4, 3
    batch = random_batch(spec, count, seed=3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    shape = (policy.diffusion.inference_steps + 1, count, *policy.noise_shape)
    noise, *steps = torch.randn(shape, generator=generator, dtype=torch.float64)
    turn, step_noise = spec.action.irreps.rotate, torch.stack(steps)
    overlap = Overlap(batch["action"], soft_mask(spec.horizon.predict, 0, 2, 6))
    free = policy.act(batch["obs"], noise=noise, step_noise=step_noise).predicted
    before = policy.act(batch["obs"], noise=noise, step_noise=step_noise, overlap=overlap).predicted
    turned_obs = spec.rotate_observation(batch["obs"], angle)
    turned = Overlap(spec.rotate_action(overlap.actions, angle), overlap.weights)
    after = policy.act(
        turned_obs, noise=turn(noise, angle), step_noise=turn(step_noise, angle), overlap=turned
    ).predicted
    want = spec.decode_action(spec.rotate_action(before, angle), turned_obs)
    got = spec.decode_action(after, turned_obs)
    assert (free - before).abs().max() > 1e-2
    assert float((got - want).abs().max() / want.abs().max()) < 1e-8
