"""Fuses the encoders of one observation step to the condition of the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.nn import GroupLinear, Lift, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["ObservationEncoder"]


class ObservationEncoder(nn.Module):
    """Encoders by name, mixed by one equivariant linear layer -> (B, To, N, channels).

    Each entry of `encoders` is a factory called with (spec, symmetry). The module it returns has `channels` and gives
    regular features (B, To, N, channels), or invariant ones (B, To, channels) if it has `invariant`. If it has a `key`,
    it is the name of a picture, grid or cloud among the observations and the module gets that decoded array
    (B, To, *features); otherwise it gets all normalised vector features (B, To, D).

    direct: the vector features go straight into the mixing layer, without an encoder. activation: of the result,
    "silu" or "none". The published policies (Wang et al. 2024) are direct=True, activation="none".
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        encoders: Mapping[str, Callable[..., Any]],
        channels: int = 32,
        direct: bool = False,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("ObservationEncoder: at least one encoder is needed, e.g. encoder=state")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"encoder.activation: expected one of {sorted(_ACTIVATIONS)}, got {activation!r}")
        check_counts("ObservationEncoder", channels=channels)
        self.spec, self.symmetry, self.channels, self.activation = spec, symmetry, channels, activation
        self.encoders = nn.ModuleDict({name: make(spec=spec, symmetry=symmetry) for name, make in encoders.items()})
        self.reads = {name: getattr(encoder, "key", None) for name, encoder in self.encoders.items()}
        _check_reads(spec, self.reads, direct)
        self.invariant = {name for name, encoder in self.encoders.items() if getattr(encoder, "invariant", False)}
        widths = {name: int(encoder.channels) for name, encoder in self.encoders.items()}  # type: ignore[arg-type]
        flat = sum(width for name, width in widths.items() if name in self.invariant)
        regular = sum(widths.values()) - flat
        # the first of these parts that exists has the bias
        self.fuse = GroupLinear(symmetry, regular, channels) if regular else None
        self.fuse_invariant = nn.Linear(flat, channels, bias=not regular) if flat else None
        self.lift = Lift(spec.observation.irreps, symmetry, channels, bias=not widths) if direct else None

    def forward(self, features: Tensor, arrays: Mapping[str, Tensor] | None = None) -> Tensor:
        """Normalised vector features (B, To, D) and decoded arrays {name: (B, To, *features)}."""
        regular: list[Tensor] = []
        flat: list[Tensor] = []
        for name, encoder in self.encoders.items():
            key = self.reads[name]
            encoded = encoder(features if key is None else (arrays or {})[key])
            (flat if name in self.invariant else regular).append(encoded)
        parts = []
        if self.fuse is not None:
            parts.append(self.fuse(torch.cat(regular, -1) if len(regular) > 1 else regular[0]))
        if self.fuse_invariant is not None:
            parts.append(self.fuse_invariant(torch.cat(flat, -1) if len(flat) > 1 else flat[0]).unsqueeze(-2))
        if self.lift is not None:
            parts.append(self.lift(features))
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed + part
        if self.fuse is None and self.lift is None:  # nothing turns: the same for every rotation
            mixed = mixed.expand(*mixed.shape[:-2], self.symmetry.order, self.channels)
        return _ACTIVATIONS[self.activation](mixed)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "none": lambda x: x}


def _check_reads(spec: Spec, reads: Mapping[str, str | None], direct: bool) -> None:
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
    if direct and None in seen:
        raise ValueError("encoder.direct: the vectors have an encoder already; drop it or set direct=false")
    if vectors != (direct or None in seen):
        fix = "add an encoder of vectors, e.g. state, or direct=true" if vectors else "drop what reads vectors"
        raise ValueError(
            f"encoder: {'nothing reads the vector observations' if vectors else 'there are no vectors'}; {fix}"
        )
