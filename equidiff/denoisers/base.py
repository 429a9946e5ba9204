"""The contract of a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["Denoiser"]


class Denoiser(nn.Module, ABC):
    """Predicts the clean chunk, the noise or the velocity; equivariant: f(g a, k, g c) = g f(a, k, c).

    A denoiser is built with (spec, symmetry, condition_channels) and its own arguments; the first three
    are attributes.
    """

    def __init__(self, spec: Spec, symmetry: Symmetry, condition_channels: int) -> None:
        super().__init__()
        self.spec, self.symmetry, self.condition_channels = spec, symmetry, condition_channels

    @abstractmethod
    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """noisy (B, T, E) normalised action features, step (B,), condition (B, To, N, C) -> (B, T, E)."""
