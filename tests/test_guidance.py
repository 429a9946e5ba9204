"""Real-time chunking: what is frozen is met, what is free stays free, and the gradient is that of the denoiser."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from law_toys import make, random_batch
from torch import Tensor

from equidiff.diffusion import Diffusion
from equidiff.guidance import Guide, Overlap, soft_mask
from equidiff.symmetry import Irreps

IRREPS, STEPS = Irreps((1, 0, 1)), 6
SHAPE = (4, STEPS, IRREPS.size)
SCHEDULERS = {
    "sample": lambda: DDIMScheduler(50, prediction_type="sample", clip_sample=False, timestep_spacing="trailing"),
    "epsilon": lambda: DDIMScheduler(50, prediction_type="epsilon", clip_sample=False, timestep_spacing="trailing"),
    "velocity": lambda: DDIMScheduler(
        50, prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing"
    ),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(50),
}


def _noise(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gaussian(diffusion: Diffusion, coupling: float) -> Any:
    """The exact denoiser of chunks that are normal with covariance (1 - c) 1 + c (all steps alike)."""
    covariance = (1 - coupling) * torch.eye(STEPS, dtype=torch.float64) + coupling

    def denoise(noisy: Tensor, step: Tensor) -> Tensor:
        signal, spread = diffusion._levels(step[0])
        gain = (
            signal
            * covariance
            @ torch.linalg.inv(signal**2 * covariance + spread**2 * torch.eye(STEPS, dtype=torch.float64))
        )
        return diffusion._from_clean(torch.einsum("ts,bsd->btd", gain, noisy), noisy, signal, spread)

    return denoise


def _sample(diffusion: Diffusion, denoise: Any, guide: Guide | None) -> Tensor:
    return diffusion.sample(denoise, _noise(0), IRREPS, torch.ones(STEPS, 3), guide=guide)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_frozen_actions_are_met_and_the_others_follow_them(kind: str) -> None:
    diffusion = Diffusion(SCHEDULERS[kind](), inference_steps=25, clip="none")
    denoise = _gaussian(diffusion, coupling=0.9)
    target = _noise(1)[:, :1].expand(SHAPE)  # like the chunks: the same in all steps
    free = _sample(diffusion, denoise, None)
    guided = _sample(diffusion, denoise, Guide(target, soft_mask(STEPS, 0, 2, 2).double(), 5.0))
    before, after = (free - target).abs(), (guided - target).abs()
    assert after[:, :2].mean() < 0.1 * before[:, :2].mean()
    assert after[:, 2:].mean() < 0.8 * before[:, 2:].mean()  # they are not guided: the denoiser brings them along


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_weights_of_zero_change_nothing(kind: str) -> None:
    diffusion = Diffusion(SCHEDULERS[kind](), inference_steps=10, clip="none")
    denoise = _gaussian(diffusion, coupling=0.5)
    guided = _sample(diffusion, denoise, Guide(_noise(1), torch.zeros(STEPS, dtype=torch.float64), 5.0))
    assert (guided - _sample(diffusion, denoise, None)).abs().max() < 1e-9


def test_the_gradient_is_the_denoisers_own() -> None:
    target, weights, noisy = _noise(1), torch.linspace(1, 0, STEPS, dtype=torch.float64), _noise(2)

    def predict(x: Tensor) -> Tensor:
        return torch.tanh(x.cumsum(1))

    signal, spread = 0.8, 0.6
    steered = Guide(target, weights, 5.0).clean(predict, noisy, signal, spread)
    error, step, want = weights[:, None] * (target - predict(noisy)), 1e-6, torch.zeros(SHAPE, dtype=torch.float64)
    for index in range(noisy[0].numel()):
        change = torch.zeros(SHAPE[1:], dtype=torch.float64).flatten()
        change[index] = step
        moved = (predict(noisy + change.view(SHAPE[1:])) - predict(noisy - change.view(SHAPE[1:]))) / (2 * step)
        want.view(SHAPE[0], -1)[:, index] = (moved * error).sum((1, 2))
    assert (steered - predict(noisy) - want / signal).abs().max() < 1e-8
    assert not steered.requires_grad


@pytest.mark.parametrize("action", ["absolute", "gripper_trajectory"])
def test_the_sampler_is_guided_by_the_normalised_features_of_the_overlap(
    action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make(8, action=action).double()
    spec, seen = policy.spec, {}
    batch = random_batch(spec, 4, seed=1, dtype=torch.float64)
    given, sample = batch["action"].clone(), policy.diffusion.sample

    def spy(*arguments: Any, guide: Guide | None, **settings: Any) -> Tensor:
        seen["guide"] = guide
        return sample(*arguments, guide=guide, **settings)

    monkeypatch.setattr(policy.diffusion, "sample", spy)
    weights = soft_mask(spec.horizon.predict, 0, 2, 5)
    policy.act(batch["obs"], overlap=Overlap(batch["action"], weights, cap=3.0))
    guide = seen["guide"]
    assert guide is not None
    stored = spec.encode_action(policy.normalizer.invert_action(guide.target), batch["obs"])
    assert (stored - spec.encode_action(spec.decode_action(given, batch["obs"]), batch["obs"])).abs().max() < 1e-9
    assert torch.equal(guide.weights, weights)
    assert guide.cap == 3.0
    assert torch.equal(given, batch["action"])
    assert all(p.grad is None for p in policy.parameters())
    policy.act(batch["obs"])
    assert seen["guide"] is None


def test_overlaps_of_another_shape_are_refused() -> None:
    policy = make(4)
    obs, steps = random_batch(policy.spec, 2)["obs"], policy.spec.horizon.predict
    with pytest.raises(ValueError, match=r"overlap: expected actions \(B, T, A\) = \(2, 8, 7\)"):
        policy.act(obs, overlap=Overlap(torch.zeros(2, 3, 7), torch.zeros(steps)))
    with pytest.raises(ValueError, match="weights"):
        policy.act(obs, overlap=Overlap(torch.zeros(2, steps, 7), torch.zeros(2)))


@pytest.mark.parametrize("bad", [(4, -1, 0, 0), (4, 0, 3, 2), (4, 2, 1, 3)])
def test_masks_that_do_not_fit_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="soft_mask: expected"):
        soft_mask(*bad)
