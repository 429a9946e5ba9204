"""Loss and sampler round a diffusers scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from equidiff.guidance import Guide
from equidiff.symmetry import Irreps

__all__ = ["Clip", "Diffusion", "Generators", "draw"]

Clip = Literal["none", "elementwise", "entries", "irrep"]
Generators = torch.Generator | Sequence[torch.Generator] | None
Denoise = Callable[[Tensor, Tensor], Tensor]
"""(noisy (B, T, E), step (B,)) -> prediction (B, T, E)"""


class Diffusion:
    """Denoising diffusion on normalised action chunks (B, T, E).

    `scheduler` is any diffusers scheduler with `add_noise`, `set_timesteps` and `step` that predicts
    epsilon, sample or v_prediction, or a FlowMatchEulerDiscreteScheduler (flow matching; the prediction is
    noise - clean). The clean chunk predicted at each sampling step is clipped:

    - "elementwise" to [-1, 1]: the published sampler (`clip_sample=True`). Cutting x and y one by one
      does not commute with a turn that is not a multiple of 90 degrees.
    - "entries": the same, but a relative rotation is clipped as the nine entries of its matrix, as in the published
      relative policies; it needs a normaliser that leaves rotations as they are.
    - "irrep": the norm of each block to `margin` times the largest one in the training data: commutes
      with every rotation.
    - "none".

    Clipping is done here, not in the scheduler, so that it works with every scheduler.
    """

    def __init__(
        self,
        scheduler: Any,
        inference_steps: int,
        clip: Clip = "irrep",
        margin: float = 1.05,
    ) -> None:
        if clip not in get_args(Clip):
            raise ValueError(f"diffusion.clip: expected 'none', 'elementwise', 'entries' or 'irrep', got {clip!r}")
        config = scheduler.config
        flow = hasattr(scheduler, "scale_noise") and not hasattr(scheduler, "add_noise")
        self.prediction = "flow" if flow else str(getattr(config, "prediction_type", "epsilon"))
        if not flow and self.prediction not in ("epsilon", "sample", "v_prediction"):
            raise ValueError(
                f"diffusion.scheduler: prediction_type {self.prediction!r} is not supported; "
                "use 'epsilon', 'sample' or 'v_prediction'"
            )
        if getattr(config, "stochastic_sampling", False):
            raise ValueError(
                "diffusion.scheduler: stochastic_sampling=true of flow matching is not supported; leave it out"
            )
        if getattr(config, "clip_sample", False) or getattr(config, "thresholding", False):
            raise ValueError(
                "diffusion.scheduler: set clip_sample=false and thresholding=false; clipping is chosen by "
                "diffusion.clip ('elementwise' is the published one, 'irrep' keeps the symmetry)"
            )
        self.training_steps = int(config.num_train_timesteps)
        if not 1 <= inference_steps <= self.training_steps:
            raise ValueError(
                f"diffusion.inference_steps: expected 1 to {self.training_steps} (num_train_timesteps), "
                f"got {inference_steps}"
            )
        if not margin > 0:
            raise ValueError(f"diffusion.margin: expected a factor > 0, got {margin}")
        if clip != "none" and not flow and not hasattr(scheduler, "alphas_cumprod"):
            raise ValueError(f"diffusion.clip: {type(scheduler).__name__} has no alphas_cumprod; use clip='none'")
        self.scheduler, self.inference_steps, self.clip, self.margin = scheduler, inference_steps, clip, margin
        self._added_noise = _added_noise(scheduler)

    def loss(self, denoise: Denoise, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the prediction at a random step for each sample; a scalar."""
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        step = torch.randint(self.training_steps, clean.shape[:1], generator=generator, device=clean.device)
        if self.prediction == "flow":
            share = ((step + 1) / self.training_steps).to(clean)[:, None, None]  # of noise: 0 is never asked for
            return F.mse_loss(
                denoise(clean + share * (noise - clean), share[:, 0, 0] * self.training_steps), noise - clean
            )
        noisy = self.scheduler.add_noise(clean, noise, step)
        if self.prediction == "sample":
            target = clean
        elif self.prediction == "epsilon":
            target = noise
        else:
            target = self.scheduler.get_velocity(clean, noise, step)
        return F.mse_loss(denoise(noisy, step), target)

    def sample(
        self,
        denoise: Denoise,
        noise: Tensor,
        irreps: Irreps,
        bound: Tensor,
        generator: Generators = None,
        step_noise: Tensor | None = None,
        entries: Tensor | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Denoise `noise` (B, T, E) to a chunk (B, T, E).

        bound (T, blocks): largest block norms of the training data, used by clip="irrep".
        entries (E, E): orthogonal map from the numbers that clip="entries" clips to the chunk's; None: the same.
        generator: one, or one per sample, for schedulers that add noise at each step (DDPM).
        step_noise (steps, B, T, E): that noise itself, e.g. a turned copy to test the whole sampler.
        guide: steers each step's clean chunk; needs a scheduler whose noise levels are known, as clipping does.
        """
        scheduler = self.scheduler
        scheduler.set_timesteps(self.inference_steps, device=noise.device)
        current = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for i, t in enumerate(scheduler.timesteps):
            given = current if self.prediction == "flow" else scheduler.scale_model_input(current, t)
            at = t.expand(noise.shape[0])
            if guide is None:
                out = denoise(given, at)
            else:
                levels = self._levels(t)
                clean = guide.clean(partial(self._predict_clean, denoise, at, levels), given, *levels)
                out = self._from_clean(clean, given, *levels)
            if self.clip != "none":
                out = self._clipped(out, given, t, irreps, bound, entries)
            if self.prediction == "flow":  # Euler in the chunk's own precision: diffusers rounds to float32
                current = current + (scheduler.sigmas[i + 1] - scheduler.sigmas[i]) * out
                continue
            if self._added_noise == "none":
                current = scheduler.step(out, t, current).prev_sample
                continue
            fresh = draw(noise.shape, generator, like=noise) if step_noise is None else step_noise[i]
            current = self._step(out, t, current, fresh)
        return current

    def _predict_clean(self, denoise: Denoise, step: Tensor, levels: tuple[float, float], noisy: Tensor) -> Tensor:
        return self._to_clean(denoise(noisy, step), noisy, *levels)

    def _step(self, out: Tensor, t: Tensor, current: Tensor, fresh: Tensor) -> Tensor:
        """One scheduler step whose random part is `fresh` (standard normal, shaped like the sample)."""
        step: Callable[..., Any] = self.scheduler.step
        following: Tensor
        if self._added_noise == "given":
            following = step(out, t, current, variance_noise=fresh).prev_sample
            return following
        # DDPM draws its own noise: let it draw a known one, then exchange it
        known = torch.Generator(device=current.device).manual_seed(0)
        drawn = torch.randn(current.shape, generator=known, device=current.device, dtype=current.dtype)
        following = step(out, t, current, generator=known.manual_seed(0)).prev_sample
        if int(t) == 0:
            return following
        return following + self._sigma(int(t)) * (fresh - drawn)

    def _sigma(self, t: int) -> float:
        # the root in the scheduler's own precision: a rest of the exchanged noise would stay otherwise
        variance = self.scheduler._get_variance(t)
        return float(variance if self.scheduler.config.variance_type == "fixed_small_log" else variance**0.5)

    def _levels(self, t: Tensor) -> tuple[float, float]:
        """(signal, spread) of the noisy chunk signal * clean + spread * noise at a step of the scheduler."""
        if self.prediction == "flow":
            spread = float(t) / self.training_steps
            return 1 - spread, spread
        if not hasattr(self.scheduler, "alphas_cumprod"):
            raise ValueError(f"{type(self.scheduler).__name__} has no alphas_cumprod: its sampling cannot be guided")
        signal: float = float(self.scheduler.alphas_cumprod[int(t)]) ** 0.5
        return signal, max(1 - signal**2, 0.0) ** 0.5

    def _to_clean(self, out: Tensor, noisy: Tensor, signal: float, spread: float) -> Tensor:
        """The clean chunk that a prediction stands for."""
        if self.prediction == "sample":
            return out
        if self.prediction == "epsilon":
            return (noisy - spread * out) / signal
        if self.prediction == "flow":
            return noisy - spread * out
        return signal * noisy - spread * out

    def _from_clean(self, clean: Tensor, noisy: Tensor, signal: float, spread: float) -> Tensor:
        """The prediction that stands for a clean chunk; inverse of `_to_clean`."""
        if self.prediction == "sample":
            return clean
        if self.prediction == "epsilon":
            return (noisy - signal * clean) / spread
        if self.prediction == "flow":
            return (noisy - clean) / spread
        return (signal * noisy - clean) / spread

    def _clipped(
        self, out: Tensor, noisy: Tensor, t: Tensor, irreps: Irreps, bound: Tensor, entries: Tensor | None
    ) -> Tensor:
        """The prediction that corresponds to the clipped clean chunk."""
        levels = self._levels(t)
        clean = self._to_clean(out, noisy, *levels)
        if self.clip == "elementwise" or (self.clip == "entries" and entries is None):
            clean = clean.clamp(-1, 1)
        elif self.clip == "entries":
            turn = entries.to(clean)  # type: ignore[union-attr]
            clean = (clean @ turn).clamp(-1, 1) @ turn.T
        else:
            norms = irreps.block_norms(clean).clamp(min=1e-12)
            clean = clean * irreps.per_entry((self.margin * bound / norms).clamp(max=1))
        return self._from_clean(clean, noisy, *levels)


def _added_noise(scheduler: Any) -> Literal["none", "given", "exchanged"]:
    """How the noise that a scheduler adds at each step is controlled; ValueError if it cannot be."""
    accepted, config = inspect.signature(scheduler.step).parameters, scheduler.config
    if "generator" not in accepted or "s_churn" in accepted:  # s_churn is 0 unless asked for
        return "none"
    if "variance_noise" in accepted:
        if "eta" in accepted:  # DDIM: 0 unless asked for
            return "none"
        return "given" if str(getattr(config, "algorithm_type", "")).startswith("sde") else "none"
    if hasattr(scheduler, "_get_variance") and "learned" not in str(getattr(config, "variance_type", "")):
        return "exchanged"
    raise ValueError(
        f"diffusion.scheduler: the noise that {type(scheduler).__name__} adds at each step cannot be "
        "reproduced per episode; use a DDPM with a fixed variance, DDIM, DPMSolverMultistep or a deterministic solver"
    )


def draw(shape: Sequence[int], generator: Generators = None, like: Tensor | None = None) -> Tensor:
    """Standard normal noise; with one generator per sample (first dimension), independent of the batching."""
    device = like.device if like is not None else None
    dtype = like.dtype if like is not None else None
    if isinstance(generator, Sequence):
        if len(generator) != shape[0]:
            raise ValueError(f"generator: expected one per sample ({shape[0]}), got {len(generator)}")
        rows = [torch.randn(tuple(shape[1:]), generator=g, dtype=dtype) for g in generator]
        return torch.stack(rows).to(device)
    return torch.randn(tuple(shape), generator=generator, device=device, dtype=dtype)
