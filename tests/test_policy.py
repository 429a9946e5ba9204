"""The policy as its users call it."""

import re

import pytest
import torch
from law_toys import config, make, random_batch

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.policy import Policy
from equidiff.spec import SpecError


@pytest.mark.parametrize("action", ["absolute", "relative_trajectory", "gripper_trajectory"])
def test_act_gives_chunks_and_leaves_its_input_alone(action: str) -> None:
    policy = make(4, ["obs.horizon=2"], action=action)
    assert isinstance(policy, Policy)
    obs = {**random_batch(policy.spec, 3)["obs"], "camera": torch.zeros(3, 2, 4, 4, dtype=torch.uint8)}
    noise = torch.randn(3, *policy.noise_shape)
    kept = {key: value.clone() for key, value in obs.items()}
    kept_noise, keys = noise.clone(), list(obs)
    chunk = policy.act(obs, noise=noise)
    assert chunk.predicted.shape == (3, 8, 7)
    assert torch.equal(chunk.action, chunk.predicted[:, 1:5])
    chunk.predicted.zero_()
    assert list(obs) == keys
    assert all(torch.equal(kept[key], obs[key]) for key in obs)
    assert torch.equal(noise, kept_noise)
    assert not chunk.predicted.requires_grad


def test_loss_leaves_the_batch_alone_and_trains() -> None:
    policy = make(4, augment="rotation").train()
    batch = random_batch(policy.spec)
    kept = {key: value.clone() for key, value in {**batch["obs"], "action": batch["action"]}.items()}
    loss = policy.loss(batch)
    loss.backward()
    assert all(torch.equal(kept[key], value) for key, value in {**batch["obs"], "action": batch["action"]}.items())
    missing = [name for name, p in policy.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not missing


@pytest.mark.parametrize(("order", "denoiser"), [(1, "group_mlp"), (4, "group_mlp"), (4, "fibrewise_unet_small")])
def test_a_policy_learns_one_chunk(order: int, denoiser: str) -> None:
    composed = config(order, ["encoder.channels=16"], denoiser=denoiser, action="relative")
    policy = make_policy(policy_tree(composed), make_spec(composed))
    batch = random_batch(policy.spec, count=4)
    policy.fit([batch])
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = policy.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def test_the_same_generators_give_the_same_chunk() -> None:
    policy = make(4, ["diffusion.inference_steps=5"], diffusion="ddpm", normalizer="range")
    obs = random_batch(policy.spec, 2)["obs"]

    def act(seeds: list[int]) -> torch.Tensor:
        return policy.act(obs, generator=[torch.Generator().manual_seed(seed) for seed in seeds]).predicted

    assert torch.equal(act([1, 2]), act([1, 2]))
    assert not torch.allclose(act([1, 2]), act([3, 4]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("double", [False, True])
def test_observations_in_any_precision(dtype: torch.dtype, double: bool) -> None:
    policy = make(4)
    policy = policy.double() if double else policy
    obs = random_batch(policy.spec, 2, dtype=dtype)["obs"]
    noise = torch.randn(2, *policy.noise_shape, generator=torch.Generator().manual_seed(0))
    chunk = policy.act(obs, noise=noise)
    assert chunk.predicted.dtype == (torch.float64 if double else torch.float32)
    want = policy.act({key: value.float() for key, value in obs.items()}, noise=noise).predicted
    torch.testing.assert_close(chunk.predicted, want, rtol=0, atol=1e-3)


def test_wrong_use_is_explained() -> None:
    policy = make(4)
    obs = random_batch(policy.spec, 2)["obs"]
    cases = {
        "cube_pos": (torch.zeros(2, 3), "'cube_pos' has shape (2, 3), expected (B, 1, 3)"),
        "mug_quat": (torch.zeros(2, 1, 3), "'mug_quat' has shape (2, 1, 3), expected (B, 1, 4)"),
        "bar_pos": (torch.full((2, 1, 3), torch.nan), "'bar_pos' is nan at index (0, 0, 0)"),
    }
    for key, (value, message) in cases.items():
        with pytest.raises(SpecError, match=re.escape(message)):
            policy.act({**obs, key: value})
    with pytest.raises(SpecError, match=r"'cube_quat' .* is missing"):
        policy.act({key: value for key, value in obs.items() if key != "cube_quat"})
    with pytest.raises(ValueError, match=r"noise: expected \(B, T, E\) = \(2, 8, 10\), got \(2, 8, 7\)"):
        policy.act(obs, noise=torch.zeros(2, 8, 7))
    with pytest.raises(ValueError, match=r"step_noise: expected \(steps, \*\(2, 8, 10\)\)"):
        policy.act(obs, noise=torch.zeros(2, 8, 10), step_noise=torch.zeros(5, 2, 8, 7))
    composed = config()
    with pytest.raises(RuntimeError, match=r"not fitted; call fit\(\) or load a checkpoint"):
        make_policy(policy_tree(composed), policy.spec).act(obs)


def test_acting_draws_nothing_from_the_global_generator_if_given_one() -> None:
    policy = make(4)
    obs = random_batch(policy.spec, 2)["obs"]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    policy.act(obs, generator=torch.Generator().manual_seed(1))
    assert torch.equal(before, torch.get_rng_state())
