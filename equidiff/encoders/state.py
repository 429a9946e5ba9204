"""Encoder of everything that is a vector: proprioception and object poses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.nn import GroupLinear, Lift, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["StateEncoder"]


class StateEncoder(nn.Module):
    """Normalised observation features (B, To, D) -> regular features (B, To, N, channels).

    A lift followed by `layers` group-mixing layers; with symmetry order 1 it is an ordinary MLP.
    """

    def __init__(self, spec: Spec, symmetry: Symmetry, channels: int = 32, layers: int = 0) -> None:
        super().__init__()
        check_counts("StateEncoder", channels=channels)
        check_counts("StateEncoder", least=0, layers=layers)
        self.spec, self.symmetry, self.channels = spec, symmetry, channels
        self.lift = Lift(spec.observation.irreps, symmetry, channels)
        self.layers = nn.ModuleList(GroupLinear(symmetry, channels, channels) for _ in range(layers))

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.silu(self.lift(features))
        for layer in self.layers:
            hidden = F.silu(layer(hidden))
        return hidden
