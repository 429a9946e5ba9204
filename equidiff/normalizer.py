"""Normaliser: one affine map per irrep block, fitted on data, that commutes with every rotation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from equidiff.fields import Moments
from equidiff.fields.base import Mode
from equidiff.spec import Batch, Space, Spec

__all__ = ["Normalizer"]


class Normalizer(nn.Module):
    """Scales features of observations (per entry) and actions (per entry and, by default, per step).

    Pairs are only scaled, by one number, so that normalising and turning can be exchanged; scalars are
    centred and scaled. `mode` is "gaussian" (unit variance) or "range" (into [-1, 1], which the
    elementwise clipping of the published sampler needs). `bound` is the largest norm of each
    normalised action block seen in the data: what per-irrep clipping clips to.

    Shapes: observation features (B, To, D), action features (B, T, E).
    """

    observation_offset: Tensor
    observation_scale: Tensor
    action_offset: Tensor
    action_scale: Tensor
    bound: Tensor
    fitted: Tensor

    def __init__(self, spec: Spec, mode: Mode = "gaussian", per_step: bool = True) -> None:
        super().__init__()
        if mode not in ("gaussian", "range"):
            raise ValueError(f"normalizer.mode: expected 'gaussian' or 'range', got {mode!r}")
        self.spec, self.mode, self.per_step = spec, mode, per_step
        size, steps, width = spec.observation.irreps.size, spec.horizon.predict, spec.action.irreps.size
        self.register_buffer("observation_offset", torch.zeros(size))
        self.register_buffer("observation_scale", torch.ones(size))
        self.register_buffer("action_offset", torch.zeros(steps, width))
        self.register_buffer("action_scale", torch.ones(steps, width))
        self.register_buffer("bound", torch.ones(steps, len(spec.action.irreps.frequencies)))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit on raw batches (all of them are read once and their features kept in memory)."""
        spec, observed, acted = self.spec, [], []
        for batch in batches:
            spec.check(batch)
            observed.append(spec.observation.decode(batch["obs"]).flatten(0, 1))
            acted.append(spec.decode_action(batch["action"], batch["obs"]))
        if not observed:
            raise ValueError("Normalizer.fit: no batch was given; is the training set empty?")
        self._set("observation", spec.observation, torch.cat(observed))
        action = torch.cat(acted)
        steps = action.shape[1]
        if not self.per_step:
            action = action.flatten(0, 1)[:, None]
        self._set("action", spec.action, action)
        normalised = self.action(torch.cat(acted))
        norms = spec.action.irreps.block_norms(normalised).amax(0)
        self.bound.copy_(norms if self.per_step else norms.amax(0).expand(steps, -1))
        self.fitted.fill_(True)

    def _set(self, name: str, space: Space, samples: Tensor) -> None:
        offset, scale = getattr(self, f"{name}_offset"), getattr(self, f"{name}_scale")
        for field, at in zip(space.fields, space.slices(), strict=True):
            if not field.vector:
                continue  # pictures, grids and clouds are decoded to a fixed scale
            affine = field.fit(Moments.of(samples[..., at], field.irreps), self.mode)
            offset[..., at] = affine.offset.to(offset)
            scale[..., at] = affine.scale.to(scale)

    def observation(self, features: Tensor) -> Tensor:
        """Normalise observation features (B, To, D)."""
        return (features - self.observation_offset) / self.observation_scale

    def action(self, features: Tensor) -> Tensor:
        """Normalise action features (B, T, E)."""
        return (features - self.action_offset) / self.action_scale

    def invert_action(self, normalised: Tensor) -> Tensor:
        """Back from normalised to action features (B, T, E)."""
        return normalised * self.action_scale + self.action_offset
