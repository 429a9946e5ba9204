"""Cropping pictures and voxel grids: the middle, or at random places while training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equidiff.nn.geometry import check_crop

__all__ = ["Crop"]


class Crop(nn.Module):
    """Cuts `size` cells along each of the last `dims` dimensions: the middle in eval mode.

    random: in training, each picture is cut at a place of its own. This is what the published policies do. It
    moves the axis of the symmetry away from the middle by up to half of what is cut off, while poses stay, so it
    trades exactness in training for robustness.
    """

    def __init__(self, full: int, size: int | None, dims: int, random: bool, what: str) -> None:
        super().__init__()
        self.full, self.size, self.dims, self.random = full, check_crop(full, size, what), dims, random

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, full, ...) -> (B, C, size, ...)."""
        spare = self.full - self.size
        if not spare:
            return x
        leading = (slice(None), slice(None))
        if not (self.training and self.random):
            return x[leading + (slice(spare // 2, spare // 2 + self.size),) * self.dims]
        starts = torch.randint(spare + 1, (len(x), self.dims)).tolist()
        cuts = [tuple(slice(a, a + self.size) for a in corner) for corner in starts]
        return torch.stack([one[leading[:1] + cut] for one, cut in zip(x, cuts, strict=True)])
