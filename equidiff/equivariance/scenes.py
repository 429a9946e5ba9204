"""Random observations to measure with when there is no data: smooth pictures and grids, points, poses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from equidiff.fields import PointCloud, Position, Source, Voxels
from equidiff.spec import Spec
from equidiff.testing import random_source

__all__ = ["random_observation"]


def random_observation(spec: Spec, count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """{key: (count, To, *shape)}: positions within 0.2 m of the workspace centre, blurred pictures, blobs of voxels.

    The corners of what shows the scene are empty: they would turn out of the picture, and others into it.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = count * spec.horizon.obs
    made = {}
    for key, source in spec.observation.sources.items():
        x = _stored(source, rows, spec, generator)
        made[key] = x.to(torch.get_default_dtype()) if x.is_floating_point() else x
    return {key: x.view(count, spec.horizon.obs, *x.shape[1:]) for key, x in made.items()}


def _stored(source: Source, rows: int, spec: Spec, generator: torch.Generator) -> Tensor:
    centre = torch.tensor([*spec.workspace.centre, _height(spec)], dtype=torch.float64)
    if isinstance(source, Position):
        return centre + 0.1 * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if isinstance(source, PointCloud):
        place = centre + 0.1 * torch.randn(rows, source.points, 3, generator=generator, dtype=torch.float64)
        colour = torch.rand(rows, source.points, source.shape[1] - 3, generator=generator, dtype=torch.float64)
        return torch.cat([place, colour], -1)
    if source.dtype is None:
        return random_source(source, rows, generator)
    if isinstance(source, Voxels):
        coarse = torch.rand(rows, 4, 5, 5, 5, generator=generator)
        smooth = F.interpolate(coarse, size=(source.size,) * 3, mode="trilinear", align_corners=True)
        occupied = (smooth[:, :1] * _disc(source.size) > 0.6).float()
        return ((torch.cat([torch.ones_like(occupied), smooth[:, 1:]], 1) * occupied) * 255).round().to(source.dtype)
    shape = source.shape  # a picture, (H, W, 3) or depth (H, W)
    coarse = torch.rand(rows, 3 if len(shape) == 3 else 1, 7, 7, generator=generator)
    smooth = F.interpolate(coarse, size=shape[:2], mode="bicubic", align_corners=True).clamp(0, 1)
    disc = _disc(shape[0]) if getattr(source, "view", "scene") == "scene" else torch.ones(())
    if len(shape) == 3:
        return ((smooth * disc).movedim(1, -1) * 255).round().to(source.dtype)
    near = 4000 + smooth[:, 0] * 8000  # 0.4 to 1.2 m; beyond 2 m there is nothing
    return (20000 - (20000 - near) * disc).round().to(source.dtype)


def _disc(side: int) -> Tensor:
    """(side, side): 1 in the middle, falling to 0 at the circle that touches the edges."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    radius = (line[:, None] ** 2 + line**2).sqrt()
    return ((0.95 - radius) / 0.25).clamp(0, 1)


def _height(spec: Spec) -> float:
    return sum(spec.workspace.bounds[2]) / 2 if spec.workspace.bounds else 0.0
