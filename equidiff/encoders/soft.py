"""A strict observation encoder with a free path beside it, for scenes that break the symmetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SoftObservationEncoder"]


class SoftObservationEncoder(nn.Module):
    """encoder(x) + weight * L residual(x): an equivariant path, and a free one that pays for its asymmetry.

    encoder, residual: factories of observation encoders; the residual is built without symmetry and the linear layer
    L, which starts at zero, maps its features to all N*C numbers. weight=0 is the strict encoder: the residual is not
    built. penalty: factor of the symmetry penalty in the training loss.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        encoder: Callable[..., nn.Module],
        residual: Callable[..., nn.Module],
        weight: float = 1.0,
        penalty: float = 1.0,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if not weight >= 0 or not penalty >= 0:
            raise ValueError(
                f"SoftObservationEncoder: expected weight and penalty >= 0, got weight={weight}, penalty={penalty}"
            )
        if symmetry.order == 1:
            raise ValueError(
                "SoftObservationEncoder: without symmetry (order 1) there is nothing to soften; use the encoder"
            )
        self.spec, self.symmetry, self.weight, self.penalty = spec, symmetry, weight, penalty
        self.strict = encoder(spec=spec, symmetry=symmetry)
        self.channels = int(self.strict.channels)  # type: ignore[arg-type]
        if channels not in (None, self.channels):
            raise ValueError(f"SoftObservationEncoder.channels: the encoder has {self.channels}, got {channels}")
        self.residual: nn.Module | None = None
        if weight:
            self.residual = residual(spec=spec, symmetry=Symmetry(1))
            width = int(self.residual.channels)  # type: ignore[arg-type]
            self.spread = nn.Linear(width, symmetry.order * self.channels)
            nn.init.zeros_(self.spread.weight)
            nn.init.zeros_(self.spread.bias)
        # turns that interpolate a picture would count its blur as asymmetry
        elements = range(1, symmetry.order)
        arrays = spec.observation.arrays.values()
        exact = [n for n in elements if all(field.exact(symmetry.angles[n]) for field in arrays)]
        self.elements = exact or list(elements)

    def forward(self, features: Tensor, arrays: Mapping[str, Tensor] | None = None) -> Tensor:
        """Normalised vector features (B, To, D) and decoded arrays -> (B, To, N, channels)."""
        out: Tensor = self.strict(features, arrays)
        return out if self.residual is None else out + self.free(features, arrays)

    def free(self, features: Tensor, arrays: Mapping[str, Tensor] | None = None) -> Tensor:
        """The free path's part of the output (B, To, N, channels)."""
        shape = (*features.shape[:2], self.symmetry.order, self.channels)
        if self.residual is None:
            return features.new_zeros(shape)
        return self.weight * self.spread(self.residual(features, arrays)[..., 0, :]).view(shape)

    def with_penalty(self, features: Tensor, arrays: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The output, and the mean squared error of the free path's symmetry at a random element of C_N.

        For pictures and grids, a quarter turn, if C_N has one.
        """
        n = self.elements[int(torch.randint(len(self.elements), ()))]
        free = self.free(features, arrays)
        return self.strict(features, arrays) + free, self.asymmetry(features, arrays, n, free)

    def asymmetry(
        self, features: Tensor, arrays: Mapping[str, Tensor] | None, n: int, free: Tensor | None = None
    ) -> Tensor:
        """Mean squared error of the free path's symmetry under element n of C_N; `free`: its output, if known."""
        angle, space = self.symmetry.angles[n], self.spec.observation
        free = self.free(features, arrays) if free is None else free
        seen = {name: space.arrays[name].turn(x, angle) for name, x in (arrays or {}).items()}
        turned = self.free(space.irreps.rotate(features, angle), seen)
        return (turned - self.symmetry.act(free, n)).square().mean()
