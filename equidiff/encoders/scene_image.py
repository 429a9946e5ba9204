"""Encoder of pictures of the scene: an equivariant residual network over C_N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.fields import ArrayField, Depth, Image
from equidiff.nn import Conv, Crop, Pool, SteerableConv, check_counts, check_kernel, final_size
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SceneImageEncoder"]

_LARGEST_LAST = 7  # cells that the last convolution may cover


class SceneImageEncoder(ArrayEncoder):
    """Picture (B, To, 1 or 3, S, S) -> regular features (B, To, N, channels).

    A stem convolution, then one stage per entry of `widths` (regular features): `blocks` residual blocks and a
    maximum pool of `pools[i]` cells, and a convolution over what is left. The published size (Wang et al. 2024) is
    channels=128, crop=76 and the default widths, channels / (8, 4, 2, 1). Exact under quarter turns; between them
    as far as a grid of pixels allows. With symmetry order 1 it is the same network without symmetry. Raises
    ValueError for sizes that would break the symmetry, naming those that work.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (Image, Depth)

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str,
        channels: int = 128,
        widths: Sequence[int] | None = None,
        pools: Sequence[int] = (2, 2, 2, 3),
        blocks: int = 2,
        stem: int = 5,
        crop: int | None = None,
        random_crop: bool = False,
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        what = f"{type(self).__name__}({key!r})"
        if widths is None:
            if channels < 8:
                raise ValueError(f"{what}.channels: expected at least 8, of which widths are made, got {channels}")
            widths = [channels // share for share in (8, 4, 2, 1)]
        check_counts(what, widths=widths)
        if self.field.view != "scene":  # type: ignore[attr-defined]
            raise ValueError(
                f"{what}: is for cameras that watch the scene; those on the gripper (view=body) have another"
            )
        if len(widths) != len(pools) or blocks < 1:
            raise ValueError(
                f"{what}: expected as many pools as widths and blocks >= 1, got widths={list(widths)}, "
                f"pools={list(pools)}, blocks={blocks}"
            )
        colours, side = self.field.features[0], self.field.features[-1]
        check_kernel(stem, f"{what}.stem")
        last = final_size(side, [Conv(stem, 0), *map(Pool, pools)], _LARGEST_LAST, what, crop)
        self.crop = Crop(side, crop, 2, random_crop, what)
        self.stem = SteerableConv(symmetry, colours, widths[0], stem, scalars=True)
        sizes = [widths[0], *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Residual(symmetry, before if i == 0 else width, width) for i in range(blocks)))
            for before, width in zip(sizes[:-1], widths, strict=True)
        )
        self.pools = tuple(pools)
        self.last = SteerableConv(symmetry, widths[-1], channels, last)

    def forward(self, picture: Tensor) -> Tensor:
        leading = picture.shape[:2]
        hidden = F.relu(self.stem(self.crop(picture.flatten(0, 1))))
        for stage, pool in zip(self.stages, self.pools, strict=True):
            hidden = F.max_pool2d(stage(hidden), pool)
        hidden = F.relu(self.last(hidden))
        return hidden.view(*leading, self.channels, self.symmetry.order).transpose(-1, -2)


class _Residual(nn.Module):
    """Two 3x3 convolutions and a skip connection, which is a 1x1 convolution where the width changes."""

    def __init__(self, symmetry: Symmetry, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = SteerableConv(symmetry, inputs, outputs, 3, padding=1)
        self.second = SteerableConv(symmetry, outputs, outputs, 3, padding=1)
        self.skip = SteerableConv(symmetry, inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.skip(x))
