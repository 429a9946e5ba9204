"""Augmentation from the spec: random rotation about the workspace centre. Never changes its input."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from equidiff.spec import Spec

__all__ = ["RandomRotation"]


class RandomRotation:
    """Turns each sample by its own uniform angle in [-maximum, maximum] radians.

    It acts on decoded features, which is the same as turning the stored arrays (law 1) and cheaper.
    """

    def __init__(self, maximum: float = math.pi) -> None:
        if not 0 < maximum <= math.pi:
            raise ValueError(f"RandomRotation.maximum: expected 0 < maximum <= pi radians, got {maximum}")
        self.maximum = maximum

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(B, To, D), {name: (B, To, *features)} and (B, T, E) -> the same, turned."""
        angle = (2 * torch.rand(action.shape[0], 1, device=action.device) - 1) * self.maximum
        turned = {name: spec.observation.arrays[name].turn(x, angle.expand(x.shape[:2])) for name, x in arrays.items()}
        return spec.observation.irreps.rotate(observation, angle), turned, spec.action.irreps.rotate(action, angle)
