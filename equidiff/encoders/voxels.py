"""Encoder of voxel grids: equivariant 3-D convolutions over C_N about the vertical."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.fields import ArrayField, Voxels
from equidiff.nn import Conv, Crop, Pool, SteerableConv, check_counts, final_size
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["VoxelEncoder"]

_LARGEST_LAST = 5  # cells that the last convolution may cover


class VoxelEncoder(ArrayEncoder):
    """Grid (B, To, 4, S, S, S) -> regular features (B, To, N, channels).

    One stage per entry of `widths` (regular features): a 3x3x3 convolution for each padding in `paddings[i]`, then
    a maximum pool of 2; at the end a convolution over what is left. The published sizes (Wang et al. 2024) are
    channels=128 and the default widths, channels / (16, 8, 4, 2), with crop=58 and paddings ((0,), (1, 1), (0, 1),
    (1, 1)), or without a crop and ((1,), (1, 1), (1, 1), (0, 1)). Exact under quarter turns. Raises ValueError for
    sizes that would break the symmetry, naming those that work.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (Voxels,)

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str = "voxels",
        channels: int = 128,
        widths: Sequence[int] | None = None,
        paddings: Sequence[Sequence[int]] = ((1,), (1, 1), (1, 1), (0, 1)),
        crop: int | None = None,
        random_crop: bool = False,
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        what = f"{type(self).__name__}({key!r})"
        if widths is None:
            if channels < 16:
                raise ValueError(f"{what}.channels: expected at least 16, of which widths are made, got {channels}")
            widths = [channels // share for share in (16, 8, 4, 2)]
        check_counts(what, widths=widths)
        if len(widths) != len(paddings) or not all(paddings):
            raise ValueError(
                f"{what}: expected a list of paddings for each width, got widths={list(widths)}, "
                f"paddings={[list(p) for p in paddings]}"
            )
        steps: list[Conv | Pool] = []
        for stage in paddings:
            steps += [*(Conv(3, padding) for padding in stage), Pool(2)]
        side = self.field.features[-1]
        last = final_size(side, steps, _LARGEST_LAST, what, crop)
        self.crop = Crop(side, crop, 3, random_crop, what)
        before, scalars = self.field.features[0], True
        self.stages = nn.ModuleList()
        for width, stage in zip(widths, paddings, strict=True):
            convolutions = []
            for padding in stage:
                convolutions.append(SteerableConv(symmetry, before, width, 3, dims=3, padding=padding, scalars=scalars))
                before, scalars = width, False
            self.stages.append(nn.ModuleList(convolutions))
        self.last = SteerableConv(symmetry, before, channels, last, dims=3)

    def forward(self, grid: Tensor) -> Tensor:
        leading = grid.shape[:2]
        hidden = self.crop(grid.flatten(0, 1))
        for stage in self.stages:
            for convolution in stage:  # type: ignore[attr-defined]
                hidden = F.relu(convolution(hidden))
            hidden = F.max_pool3d(hidden, 2)
        hidden = F.relu(self.last(hidden))
        return hidden.view(*leading, self.channels, self.symmetry.order).transpose(-1, -2)
