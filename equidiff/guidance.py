"""Real-time chunking: a new chunk that agrees with the one whose execution goes on while it is computed.

Black, Galliker, Levine, "Real-Time Execution of Action Chunking Flow Policies" (2025): the actions that are executed
anyway are frozen, those after them guide with a weight that falls off, and the sampler is steered by the gradient of
the weighted difference through the denoiser (a vector-Jacobian product; Song et al., "Pseudoinverse-Guided Diffusion
Models", 2023). There for flow matching; here for any noise level x = signal * clean + spread * noise, of which flow
matching (signal = 1 - t, spread = t) and diffusion (signal^2 + spread^2 = 1) are cases. Weights depend on the time in
the chunk alone, so that a guided sampler is as equivariant as the one that it guides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Guide", "Overlap", "soft_mask"]


def soft_mask(steps: int, first: int, frozen: int, known: int) -> Tensor:
    """Weights (steps,) of the previous chunk's actions in a new one.

    first: index in the new chunk of the first known action; `frozen` of the `known` actions get weight 1, the others
    fall off as c (e^c - 1) / (e - 1) with c from 1 to 0 over them; what is not known gets 0, and so does what lies
    before `first`.

    >>> soft_mask(8, first=1, frozen=2, known=5).round(decimals=2).tolist()
    [0.0, 1.0, 1.0, 0.49, 0.19, 0.04, 0.0, 0.0]
    """
    if not (0 <= first <= first + frozen <= first + known <= steps):
        raise ValueError(
            f"soft_mask: expected 0 <= first, frozen <= known and first + known <= steps, got steps={steps}, "
            f"first={first}, frozen={frozen}, known={known}"
        )
    weights = torch.zeros(steps, dtype=torch.float64)
    weights[first : first + frozen] = 1
    left = known - frozen
    falling = torch.arange(left, 0, -1, dtype=torch.float64) / (left + 1)
    weights[first + frozen : first + known] = falling * torch.expm1(falling) / math.expm1(1)
    return weights


@dataclass(frozen=True, eq=False)
class Overlap:
    """Actions (B, T, A) in storage form that a new chunk shall agree with, and how much: weights (T,) in [0, 1].

    cap: largest factor of the gradient (the beta of the paper); it acts where nearly everything is noise.
    """

    actions: Tensor
    weights: Tensor
    cap: float = 5.0


@dataclass(frozen=True, eq=False)
class Guide:
    """`Overlap` in the normalised features of the sampler: target (B, T, E), weights (T,)."""

    target: Tensor
    weights: Tensor
    cap: float

    def clean(self, predict: Callable[[Tensor], Tensor], noisy: Tensor, signal: float, spread: float) -> Tensor:
        """The steered prediction of the clean chunk; predict: noisy (B, T, E) -> clean (B, T, E), differentiable."""
        with torch.enable_grad():
            given = noisy.detach().requires_grad_()
            clean = predict(given)
            error = self.weights[:, None] * (self.target - clean.detach())
            (gradient,) = torch.autograd.grad(clean, given, error)
        factor = min((signal**2 + spread**2) / signal, self.cap) if signal > 0 else self.cap
        return clean.detach() + factor * gradient
