"""The paper's denoiser: one ordinary conditional 1-D U-Net applied to each of the N fibre entries."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.denoisers.base import Denoiser
from equidiff.nn import Lift, Project, StepEmbedding, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["ConditionalUNet1D", "FibrewiseUNet"]


class FibrewiseUNet(Denoiser):
    """Lift each noisy action to `action_channels` regular features, share a U-Net over the N fibres, project.

    Sharing one network over the fibres commutes with permuting them, and C_N only permutes them, so the
    denoiser is equivariant (Wang et al. 2024). With symmetry order 1 this is the ordinary conditional
    U-Net of Diffusion Policy (Chi et al. 2023) between two linear maps.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        condition_channels: int,
        action_channels: int = 64,
        widths: tuple[int, ...] = (512, 1024, 2048),
        kernel: int = 5,
        groups: int = 8,
        step_embedding: int = 128,
        activation: str = "none",
    ) -> None:
        super().__init__(spec, symmetry, condition_channels)
        if activation not in ("none", "relu"):
            raise ValueError(f"denoiser.activation: expected 'none' or 'relu' after the lift, got {activation!r}")
        check_counts("FibrewiseUNet", action_channels=action_channels, widths=widths, kernel=kernel, groups=groups)
        self.activation = activation
        self.lift = Lift(spec.action.irreps, symmetry, action_channels)
        self.unet = ConditionalUNet1D(
            action_channels,
            condition_channels * spec.horizon.obs,
            widths=tuple(widths),
            kernel=kernel,
            groups=groups,
            step_embedding=step_embedding,
            length=spec.horizon.predict,
        )
        self.project = Project(spec.action.irreps, symmetry, action_channels)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        lifted = self.lift(noisy)
        if self.activation == "relu":  # the published network has it
            lifted = F.relu(lifted)
        fibres = lifted.permute(0, 2, 3, 1)  # (B, N, C, T)
        order = fibres.shape[1]
        per_fibre = condition.transpose(1, 2).flatten(2)  # (B, N, To*C)
        out = self.unet(fibres.flatten(0, 1), step.repeat_interleave(order), per_fibre.flatten(0, 1))
        out = out.reshape(-1, order, *out.shape[1:]).permute(0, 3, 1, 2)  # (B, T, N, C)
        predicted: Tensor = self.project(out)
        return predicted


class ConditionalUNet1D(nn.Module):
    """1-D U-Net over time with FiLM conditioning on the diffusion step and a global vector.

    x (B, channels, T), step (B,), condition (B, D) -> (B, channels, T). T must be divisible by
    2^(levels - 1); the constructor says which lengths work.
    """

    def __init__(
        self,
        channels: int,
        condition: int,
        widths: tuple[int, ...],
        kernel: int,
        groups: int,
        step_embedding: int,
        length: int,
    ) -> None:
        super().__init__()
        factor = 2 ** (len(widths) - 1)
        if length % factor:
            below = length // factor * factor
            raise ValueError(
                f"FibrewiseUNet: horizon.predict = {length} cannot be halved {len(widths) - 1} times; "
                f"use {f'{below} or ' if below else ''}{below + factor}, or fewer widths"
            )
        if kernel % 2 == 0:
            raise ValueError(f"FibrewiseUNet: kernel must be odd to keep the length, got {kernel}")
        if any(w % groups for w in widths):
            raise ValueError(f"FibrewiseUNet: every width must be a multiple of groups = {groups}, got {widths}")
        self.embedding = nn.Sequential(
            StepEmbedding(step_embedding),
            nn.Linear(step_embedding, 4 * step_embedding),
            nn.Mish(),
            nn.Linear(4 * step_embedding, step_embedding),
        )
        known = step_embedding + condition

        def residual(inputs: int, outputs: int) -> _Residual:
            return _Residual(inputs, outputs, known, kernel, groups)

        sizes = (channels, *widths)
        levels = list(pairwise(sizes))
        self.down = nn.ModuleList(nn.ModuleList([residual(a, b), residual(b, b)]) for a, b in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(b, b, 3, stride=2, padding=1) for b in widths[:-1])
        self.middle = nn.ModuleList([residual(widths[-1], widths[-1]), residual(widths[-1], widths[-1])])
        self.up = nn.ModuleList(nn.ModuleList([residual(2 * b, a), residual(a, a)]) for a, b in reversed(levels[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in reversed(levels[1:]))
        self.last = nn.Sequential(_conv_block(widths[0], widths[0], kernel, groups), nn.Conv1d(widths[0], channels, 1))

    def forward(self, x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        known = torch.cat([self.embedding(step), condition], -1)
        skips = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, known)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, known)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([x, skips.pop()], 1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, known)
            x = grow(x)
        out: Tensor = self.last(x)
        return out


def _conv_block(inputs: int, outputs: int, kernel: int, groups: int) -> nn.Sequential:
    conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.GroupNorm(groups, outputs), nn.Mish())


class _Residual(nn.Module):
    """Two convolutions with FiLM between them (Perez et al. 2018) and a skip connection."""

    def __init__(self, inputs: int, outputs: int, known: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = _conv_block(inputs, outputs, kernel, groups)
        self.second = _conv_block(outputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(known, 2 * outputs))
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.film(known)[..., None].chunk(2, 1)
        out: Tensor = self.second(self.first(x) * scale + shift) + self.skip(x)
        return out
