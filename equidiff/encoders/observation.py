"""Fuses the encoders of one observation step to the condition of the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.nn import GroupLinear
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["ObservationEncoder"]


class ObservationEncoder(nn.Module):
    """Encoders by name, concatenated and mixed by one equivariant layer: (B, To, D) -> (B, To, N, channels).

    Each entry of `encoders` is a factory called with (spec, symmetry); the module it returns has
    `channels` and maps normalised observation features to regular features.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        encoders: Mapping[str, Callable[..., Any]],
        channels: int = 32,
    ) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("ObservationEncoder: at least one encoder is needed, e.g. encoder=state")
        self.spec, self.symmetry, self.channels = spec, symmetry, channels
        self.encoders = nn.ModuleDict({name: make(spec=spec, symmetry=symmetry) for name, make in encoders.items()})
        inputs: int = sum(encoder.channels for encoder in self.encoders.values())  # type: ignore[misc]
        self.fuse = GroupLinear(symmetry, inputs, channels)

    def forward(self, features: Tensor) -> Tensor:
        parts = [encoder(features) for encoder in self.encoders.values()]
        return F.silu(self.fuse(torch.cat(parts, -1) if len(parts) > 1 else parts[0]))
