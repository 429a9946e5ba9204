"""A strict denoiser with a free path beside it, for scenes that break the symmetry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equidiff.denoisers.base import Denoiser
from equidiff.nn import Project
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SoftEquivariant"]


class SoftEquivariant(Denoiser):
    """denoiser(x) + weight * residual(x): an equivariant path, and a free one that pays for its asymmetry.

    denoiser, residual: factories of denoisers; the residual is built without symmetry and sees the condition's N*C
    numbers as they are. Its output starts at zero, so that training starts from the strict denoiser. weight=0 is the
    strict denoiser: the residual is not built. penalty: factor of the symmetry penalty in the training loss.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        condition_channels: int,
        denoiser: Callable[..., Denoiser],
        residual: Callable[..., Denoiser],
        weight: float = 1.0,
        penalty: float = 1.0,
    ) -> None:
        super().__init__(spec, symmetry, condition_channels)
        if not weight >= 0 or not penalty >= 0:
            raise ValueError(
                f"SoftEquivariant: expected weight and penalty >= 0, got weight={weight}, penalty={penalty}"
            )
        if symmetry.order == 1:
            raise ValueError("SoftEquivariant: without symmetry (order 1) there is nothing to soften; use the denoiser")
        self.weight, self.penalty = weight, penalty
        self.strict = denoiser(spec=spec, symmetry=symmetry, condition_channels=condition_channels)
        self.residual: Denoiser | None = None
        if weight:
            self.residual = residual(
                spec=spec, symmetry=Symmetry(1), condition_channels=condition_channels * symmetry.order
            )
            last = getattr(self.residual, "project", None)
            if not isinstance(last, Project):
                raise ValueError(
                    f"SoftEquivariant.residual: {type(self.residual).__name__} has no last layer `project` that could "
                    "start at zero; use equidiff.denoisers.GroupMLP or FibrewiseUNet"
                )
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.strict(noisy, step, condition)
        return out if self.residual is None else out + self.free(noisy, step, condition)

    def free(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """The free path's part of the output (B, T, E)."""
        if self.residual is None:
            return torch.zeros_like(noisy)
        out: Tensor = self.residual(noisy, step, condition.flatten(-2).unsqueeze(-2))
        return self.weight * out

    def with_penalty(self, noisy: Tensor, step: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the mean squared error of the free path's symmetry at a random element of C_N.

        |r(g a, k, g c) - g r(a, k, c)|^2, a mean over all numbers of the chunk; g is not the identity.
        """
        n = int(torch.randint(1, self.symmetry.order, ()))
        free = self.free(noisy, step, condition)
        return self.strict(noisy, step, condition) + free, self.asymmetry(noisy, step, condition, n, free)

    def asymmetry(self, noisy: Tensor, step: Tensor, condition: Tensor, n: int, free: Tensor | None = None) -> Tensor:
        """Mean squared error of the free path's symmetry under element n of C_N; `free`: its output, if known."""
        angle, irreps = self.symmetry.angles[n], self.spec.action.irreps
        free = self.free(noisy, step, condition) if free is None else free
        turned = self.free(irreps.rotate(noisy, angle), step, self.symmetry.act(condition, n))
        return (turned - irreps.rotate(free, angle)).square().mean()
