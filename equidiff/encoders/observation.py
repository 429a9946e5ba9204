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
    """Encoders by name, concatenated and mixed by one equivariant layer -> (B, To, N, channels).

    Each entry of `encoders` is a factory called with (spec, symmetry). The module it returns has `channels`
    and gives regular features (B, To, N, channels). If it has a `key`, it is the name of a picture, grid or
    cloud among the observations and the module gets that decoded array (B, To, *features); otherwise it gets
    all normalised vector features (B, To, D).
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
        self.reads = {name: getattr(encoder, "key", None) for name, encoder in self.encoders.items()}
        _check_reads(spec, self.reads)
        inputs: int = sum(encoder.channels for encoder in self.encoders.values())  # type: ignore[misc]
        self.fuse = GroupLinear(symmetry, inputs, channels)

    def forward(self, features: Tensor, arrays: Mapping[str, Tensor] | None = None) -> Tensor:
        """Normalised vector features (B, To, D) and decoded arrays {name: (B, To, *features)}."""
        parts = []
        for name, encoder in self.encoders.items():
            key = self.reads[name]
            parts.append(encoder(features if key is None else (arrays or {})[key]))
        return F.silu(self.fuse(torch.cat(parts, -1) if len(parts) > 1 else parts[0]))


def _check_reads(spec: Spec, reads: Mapping[str, str | None]) -> None:
    """Every encoder finds what it reads, and everything that is observed is read."""
    arrays, seen = spec.observation.arrays, set(reads.values())
    for name, key in reads.items():
        if key is not None and key not in arrays:
            have = ", ".join(arrays) or "none"
            raise ValueError(f"encoder.encoders.{name}: reads {key!r}, but the pictures, grids and clouds are: {have}")
    unread = [key for key in arrays if key not in seen]
    if unread:
        raise ValueError(f"encoder: nothing reads the observation {unread[0]!r}; add an encoder or drop the field")
    vectors = spec.observation.irreps.size > 0
    if vectors != (None in seen):
        fix = "add an encoder of vectors, e.g. state" if vectors else "drop the encoder of vectors"
        raise ValueError(
            f"encoder: {'nothing reads the vector observations' if vectors else 'there are no vectors'}; {fix}"
        )
