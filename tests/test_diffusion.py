"""Loss and sampler against diffusers' own, clipping, and noise that does not depend on the batch."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from equidiff.diffusion import Diffusion, draw
from equidiff.symmetry import Irreps

IRREPS = Irreps((1, 0, 1))
SHAPE = (3, 6, IRREPS.size)
BOUND = torch.ones(6, 3)
COMMON = {"num_train_timesteps": 50, "beta_schedule": "squaredcos_cap_v2"}
VP = {**COMMON, "clip_sample": False}


def _scheduler(kind: Any, **arguments: Any) -> Any:
    return kind(**{**(VP if kind in (DDPMScheduler, DDIMScheduler) else COMMON), **arguments})


def _noise(count: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _perfect(clean: torch.Tensor, prediction: str, scheduler: Any) -> Any:
    """The denoiser that knows the answer."""

    def denoise(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        alpha = scheduler.alphas_cumprod[step.long()].double()[:, None, None]
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return {"sample": clean, "epsilon": noise, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * clean}[
            prediction
        ]

    return denoise


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize("clip", ["none", "elementwise", "irrep"])
@pytest.mark.parametrize(
    "kind",
    [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler],
    ids=lambda k: k.__name__,
)
def test_a_perfect_denoiser_gives_the_clean_chunk(kind: Any, clip: str, prediction: str) -> None:
    scheduler = _scheduler(kind, prediction_type=prediction)
    diffusion = Diffusion(scheduler, inference_steps=10, clip=clip)  # type: ignore[arg-type]
    clean = 0.9 * torch.tanh(_noise()[0])
    bound = IRREPS.block_norms(clean).amax(0)
    out = diffusion.sample(_perfect(clean, prediction, scheduler), _noise(seed=1)[0], IRREPS, bound)
    assert (out - clean).abs().max() < 0.05
    assert out.dtype == torch.float64


@pytest.mark.parametrize("clip", ["none", "elementwise", "irrep"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_follows_the_straight_line(clip: str, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=50, shift=shift)
    diffusion = Diffusion(scheduler, inference_steps=6, clip=clip)  # type: ignore[arg-type]
    clean, noise = 0.9 * torch.tanh(_noise()[0]), _noise(seed=1)[0]
    seen: list[tuple[float, torch.Tensor]] = []

    def velocity(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        share = float(step[0]) / 50
        seen.append((share, noisy))
        return (noisy - clean) / share

    out = diffusion.sample(velocity, noise, IRREPS, IRREPS.block_norms(clean).amax(0))
    assert (out - clean).abs().max() < 1e-5
    for share, noisy in seen:
        assert (noisy - (share * noise + (1 - share) * clean)).abs().max() < 1e-5


def test_flow_matching_takes_the_steps_of_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=50, shift=2.0)
    start = _noise()[0].float()
    ours = Diffusion(scheduler, inference_steps=6, clip="none").sample(lambda x, t: torch.tanh(x), start, IRREPS, BOUND)
    scheduler.set_timesteps(6)
    theirs = start
    for t in scheduler.timesteps:
        theirs = scheduler.step(torch.tanh(theirs), t, theirs).prev_sample
    assert (ours - theirs).abs().max() < 1e-6
    with pytest.raises(ValueError, match="stochastic_sampling"):
        Diffusion(FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), inference_steps=6)


def test_flow_matching_learns_the_difference_of_noise_and_chunk() -> None:
    diffusion = Diffusion(FlowMatchEulerDiscreteScheduler(num_train_timesteps=50), inference_steps=6)
    clean = torch.tanh(_noise()[0])

    def velocity(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        assert (step > 0).all()
        assert (step <= 50).all()
        return (noisy - clean) / (step / 50)[:, None, None]

    assert diffusion.loss(velocity, clean) < 1e-20
    assert diffusion.loss(lambda noisy, step: velocity(noisy, step) + 1, clean).item() == pytest.approx(1)


def test_sde_solver_takes_given_noise() -> None:
    scheduler = _scheduler(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++", prediction_type="sample")
    diffusion = Diffusion(scheduler, inference_steps=8, clip="none")
    start, steps = _noise()[0].float(), _noise(8, seed=2).float()

    def denoise(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return torch.tanh(noisy)

    first = diffusion.sample(denoise, start, IRREPS, BOUND, step_noise=steps)
    assert torch.equal(first, diffusion.sample(denoise, start, IRREPS, BOUND, step_noise=steps))
    assert not torch.equal(first, diffusion.sample(denoise, start, IRREPS, BOUND, step_noise=-steps))


def test_euler_runs_from_its_own_noise_scale() -> None:
    scheduler = _scheduler(EulerDiscreteScheduler, prediction_type="epsilon", timestep_spacing="trailing")
    diffusion = Diffusion(scheduler, inference_steps=10, clip="none")
    clean = 0.5 * torch.tanh(_noise()[0])
    out = diffusion.sample(_perfect(clean, "epsilon", scheduler), _noise(seed=1)[0], IRREPS, BOUND)
    assert (out - clean).abs().max() < 0.05


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_the_loss_of_a_perfect_denoiser_is_zero(prediction: str) -> None:
    scheduler = _scheduler(DDPMScheduler, prediction_type=prediction)
    diffusion = Diffusion(scheduler, inference_steps=50)
    clean = _noise()[0]
    generator = torch.Generator().manual_seed(0)
    assert diffusion.loss(_perfect(clean, prediction, scheduler), clean, generator) < 1e-6
    zero = diffusion.loss(lambda noisy, step: torch.zeros_like(noisy), clean, generator)
    assert zero == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_irrep_clipping_bounds_each_block(prediction: str) -> None:
    scheduler = _scheduler(DDIMScheduler, prediction_type=prediction)
    diffusion = Diffusion(scheduler, inference_steps=10, clip="irrep", margin=1.05)
    bound = torch.tensor([0.5, 0.2, 0.0]).double().expand(6, 3)
    clean = 10 * _noise()[0]
    out = diffusion.sample(_perfect(clean, prediction, scheduler), _noise(seed=1)[0], IRREPS, bound)
    norms = IRREPS.block_norms(out)
    assert (norms <= 1.05 * bound + 1e-4).all()
    assert norms[..., 0].max() > 0.5
    direction = torch.nn.functional.cosine_similarity(out[..., :2], clean[..., :2], dim=-1)
    assert direction.min() > 0.999


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("clip", ["none", "elementwise"])
def test_ancestral_sampling_is_diffusers_own(variance: str, clip: str) -> None:
    """Our noise in exchange for what DDPM draws, and our clipping for its own: the published sampler."""
    ours = Diffusion(_scheduler(DDPMScheduler, variance_type=variance), inference_steps=20, clip=clip)  # type: ignore[arg-type]
    theirs = _scheduler(DDPMScheduler, variance_type=variance, clip_sample=clip == "elementwise")

    def denoise(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return torch.cos(3 * noisy)

    start = 2 * _noise()[0]
    theirs.set_timesteps(20)
    current, generator, steps = start, torch.Generator().manual_seed(3), []
    for t in theirs.timesteps:
        state = generator.get_state()
        steps.append(torch.randn(start.shape, generator=generator, dtype=start.dtype))
        generator.set_state(state)
        current = theirs.step(denoise(current, t.expand(3)), t, current, generator=generator).prev_sample
    got = ours.sample(denoise, start, IRREPS, BOUND, step_noise=torch.stack(steps))
    torch.testing.assert_close(got, current, rtol=1e-5, atol=1e-5)


def test_entries_are_clipped_in_their_own_basis() -> None:
    """Clipping what an orthogonal map leads to the chunk: elementwise clipping, seen from there."""
    entries = torch.linalg.qr(
        torch.randn(IRREPS.size, IRREPS.size, generator=torch.Generator().manual_seed(2)).double()
    ).Q
    start, steps = 2 * _noise()[0], torch.stack([_noise(seed=i)[0] for i in range(10)])
    inside = Diffusion(_scheduler(DDPMScheduler), 10, clip="elementwise").sample(
        lambda x, t: torch.cos(3 * x), start, IRREPS, BOUND, step_noise=steps
    )
    ours = Diffusion(_scheduler(DDPMScheduler), 10, clip="entries")
    got = ours.sample(
        lambda x, t: torch.cos(3 * (x @ entries)) @ entries.T,
        start @ entries.T,
        IRREPS,
        BOUND,
        step_noise=steps @ entries.T,
        entries=entries,
    )
    torch.testing.assert_close(got @ entries, inside, rtol=1e-5, atol=1e-5)
    alike = ours.sample(lambda x, t: torch.cos(3 * x), start, IRREPS, BOUND, step_noise=steps)
    torch.testing.assert_close(alike, inside)


def test_noise_per_sample_does_not_depend_on_the_batch() -> None:
    def generators(seeds: list[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both, second = draw((2, 4, 3), generators([7, 8])), draw((1, 4, 3), generators([8]))
    assert torch.equal(both[1:], second)
    diffusion = Diffusion(_scheduler(DDPMScheduler), inference_steps=10, clip="none")

    def run(seeds: list[int]) -> torch.Tensor:
        noise = torch.zeros(len(seeds), 6, 5)
        return diffusion.sample(lambda x, step: torch.tanh(x), noise, IRREPS, BOUND, generator=generators(seeds))

    torch.testing.assert_close(run([7, 8])[1:], run([8]))
    assert not torch.allclose(run([7]), run([8]))
    with pytest.raises(ValueError, match=r"expected one per sample \(3\), got 2"):
        draw((3, 1), generators([1, 2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diffusion(_scheduler(DDPMScheduler), 10, clip="norm"), "diffusion.clip: expected 'none'"),
        (lambda: Diffusion(_scheduler(DDPMScheduler, clip_sample=True), 10), "set clip_sample=false"),
        (lambda: Diffusion(_scheduler(DDPMScheduler), 51), r"expected 1 to 50 \(num_train_timesteps\), got 51"),
        (lambda: Diffusion(_scheduler(DDPMScheduler), 0), "expected 1 to 50"),
        (lambda: Diffusion(_scheduler(DDPMScheduler), 10, margin=-1.0), "margin: expected a factor > 0"),
        (lambda: Diffusion(_scheduler(DDPMScheduler, prediction_type="flow"), 10), "'flow' is not supported"),
        (lambda: Diffusion(_scheduler(EulerAncestralDiscreteScheduler), 10), "cannot be reproduced per episode"),
        (lambda: Diffusion(_scheduler(DDPMScheduler, variance_type="learned"), 10), "cannot be reproduced"),
    ],
)  # fmt: skip
def test_settings_that_do_not_work_say_so(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
