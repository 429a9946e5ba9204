"""Residual MLP on continuous SO(2) features: equivariant at any angle, not at N of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equidiff.denoisers.base import Denoiser
from equidiff.nn import (
    Nonlinearity,
    Sampling,
    SO2Activation,
    SO2Linear,
    SO2Norm,
    StepEmbedding,
    band,
    check_counts,
    modulate,
)
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SO2MLP"]


class SO2MLP(Denoiser):
    """The whole chunk becomes `channels` functions on the circle of frequencies 0..`frequencies`, refined by `blocks`.

    Built as GroupMLP, with irreps in the place of regular features. The condition, N samples of functions on the
    circle, enters by its Fourier transform. The denoiser is equivariant at every angle; a policy is, if its encoder
    gives functions of frequencies below N/2 (SO2StateEncoder), otherwise at the encoder's N angles. nonlinearity:
    "product" is exact, "fourier" approximate with `samples` points (equidiff.nn.SO2Activation).
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        condition_channels: int,
        channels: int = 32,
        frequencies: int = 4,
        blocks: int = 3,
        step_embedding: int = 32,
        nonlinearity: Nonlinearity = "product",
        samples: int | None = None,
    ) -> None:
        super().__init__(spec, symmetry, condition_channels)
        check_counts("SO2MLP", channels=channels, blocks=blocks)
        chunk = spec.action.irreps * spec.horizon.predict
        highest = max(chunk.frequencies)
        if frequencies < max(highest, 1):
            raise ValueError(
                f"SO2MLP.frequencies: the action {spec.action.irreps} has blocks of frequency {highest}; set it to "
                f"{max(highest, 1)} or more, got {frequencies}"
            )
        if symmetry.order == 1:
            raise ValueError("SO2MLP: without symmetry (order 1) the condition has no law; use denoiser=group_mlp")
        self.frequencies, self.channels = frequencies, channels
        # a function of frequency N/2 is one number at N points, which C_N turns as the pair (x, 0)
        seen = min(frequencies, symmetry.order // 2)
        self.fourier = Sampling(seen, symmetry.order)
        hidden = band(frequencies, channels)
        self.lift = SO2Linear(chunk, hidden)
        self.embedding = nn.Sequential(
            StepEmbedding(step_embedding), nn.Linear(step_embedding, 2 * step_embedding), nn.SiLU()
        )
        self.modulation = nn.Linear(2 * step_embedding, channels * (1 + (frequencies + 2) * blocks))
        activations = [SO2Activation(frequencies, channels, nonlinearity, samples) for _ in range(blocks + 1)]
        self.condition = nn.Sequential(
            SO2Linear(band(seen, condition_channels * spec.horizon.obs), band(frequencies, activations[-1].inputs)),
            activations[-1],
        )
        self.blocks = nn.ModuleList(_Block(frequencies, channels, activation) for activation in activations[:-1])
        self.norm = SO2Norm(frequencies, channels)
        self.project = SO2Linear(hidden, chunk, zero=True)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        functions = condition.movedim(-2, -1).flatten(1, 2)  # (B, To*C, N)
        known = self.condition(self.fourier.coefficients(functions).flatten(1))
        modulation = self.modulation(self.embedding(step)).unflatten(-1, (self.channels, -1))
        first, modulation = modulation[..., 0], modulation[..., 1:]
        ones = torch.ones(self.channels, self.frequencies + 1, device=noisy.device, dtype=noisy.dtype)
        hidden = modulate(self.lift(noisy.flatten(1)) + known, ones, first)
        for block, part in zip(self.blocks, modulation.chunk(len(self.blocks), -1), strict=True):
            hidden = block(hidden, known, part[..., :-1], part[..., -1])
        out: Tensor = self.project(self.norm(hidden))
        return out.view_as(noisy)


class _Block(nn.Module):
    def __init__(self, frequencies: int, channels: int, activation: SO2Activation) -> None:
        super().__init__()
        self.norm = SO2Norm(frequencies, channels)
        self.inner = SO2Linear(band(frequencies, 2 * channels), band(frequencies, activation.inputs))
        self.activation = activation
        self.outer = SO2Linear(band(frequencies, channels), band(frequencies, channels))

    def forward(self, hidden: Tensor, known: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        modulated = modulate(self.norm(hidden), 1 + scale, shift)
        out: Tensor = hidden + self.outer(self.activation(self.inner(torch.cat([modulated, known], -1))))
        return out
