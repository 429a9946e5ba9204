"""Sinusoidal embedding of the diffusion step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["StepEmbedding"]


class StepEmbedding(nn.Module):
    """(B,) step -> (B, size): sines and cosines of geometric frequencies from 1 to 1/10000 (Vaswani et al. 2017)."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 4 or size % 2:
            raise ValueError(f"StepEmbedding: size must be an even number >= 4, got {size}")
        half = size // 2
        frequencies = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, step: Tensor) -> Tensor:
        phase = step[:, None].to(self.frequencies.dtype) * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], -1)
