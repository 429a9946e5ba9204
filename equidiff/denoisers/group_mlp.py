"""Residual MLP on regular features with group mixing: trains on a CPU in minutes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.denoisers.base import Denoiser
from equidiff.nn import GroupLayerNorm, GroupLinear, Lift, Project, StepEmbedding, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["GroupMLP"]


class GroupMLP(Denoiser):
    """The whole chunk is lifted to `channels` regular features and refined by `blocks` residual blocks.

    Each block normalises over group and channels, is modulated by the diffusion step (the same for
    every group element) and sees the condition through its own group-mixing layer. With symmetry
    order 1 all layers are ordinary linear layers: the plain twin.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        condition_channels: int,
        channels: int = 32,
        blocks: int = 3,
        step_embedding: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, symmetry, condition_channels)
        check_counts("GroupMLP", channels=channels)
        check_counts("GroupMLP", least=0, blocks=blocks)
        chunk = spec.action.irreps * spec.horizon.predict
        self.lift = Lift(chunk, symmetry, channels)
        self.embedding = nn.Sequential(
            StepEmbedding(step_embedding), nn.Linear(step_embedding, 2 * step_embedding), nn.SiLU()
        )
        self.modulation = nn.Linear(2 * step_embedding, channels * (1 + 2 * blocks))
        self.condition = GroupLinear(symmetry, condition_channels * spec.horizon.obs, channels)
        self.blocks = nn.ModuleList(_Block(symmetry, channels, dropout) for _ in range(blocks))
        self.norm = GroupLayerNorm(symmetry, channels)
        self.project = Project(chunk, symmetry, channels, zero=True)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        stacked = condition.transpose(1, 2).flatten(2)  # (B, N, To*C)
        known = F.silu(self.condition(stacked))
        first, *modulation = self.modulation(self.embedding(step)).unsqueeze(1).chunk(1 + 2 * len(self.blocks), -1)
        hidden = self.lift(noisy.flatten(1)) + first + known
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, known, modulation[2 * i], modulation[2 * i + 1])
        out: Tensor = self.project(self.norm(hidden))
        return out.view_as(noisy)


class _Block(nn.Module):
    def __init__(self, symmetry: Symmetry, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = GroupLayerNorm(symmetry, channels)
        self.inner = GroupLinear(symmetry, 2 * channels, channels)
        self.outer = GroupLinear(symmetry, channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, known: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        modulated = self.norm(hidden) * (1 + scale) + shift
        inner = self.dropout(F.silu(self.inner(torch.cat([modulated, known], -1))))
        out: Tensor = hidden + self.outer(inner)
        return out
