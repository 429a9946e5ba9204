"""Small encoders of pictures that end in keypoints instead of pools: they train on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.encoders.wrist_image import SpatialSoftmax
from equidiff.fields import ArrayField, Depth, Image
from equidiff.nn import Conv, GroupLinear, Pool, SteerableConv, check_kernel, check_size, through
from equidiff.spec import Spec
from equidiff.symmetry import Irreps, Symmetry

__all__ = ["KeypointEncoder", "SceneKeypointEncoder"]


class SceneKeypointEncoder(ArrayEncoder):
    """Picture (B, To, 1 or 3, S, S) of the scene -> regular features (B, To, N, channels).

    Steerable convolutions: a stem and a maximum pool of `pool` cells, then one 3x3 layer per further entry of `widths`
    (regular features), and `keypoints` regular maps. The softmax of each of the N entries of a map has an expected
    position (Finn et al. 2016, arXiv 1509.06113); seen in the frame of its own rotation, that position is a regular
    feature again: if the picture turns, entries move on by one and their positions turn with them, so in their frames
    they stay. The largest value of a map is given beside it, since a keypoint is somewhere even if there is nothing to
    see. Exact under quarter turns; with symmetry order 1 it is the ordinary spatial softmax. Raises ValueError for
    sizes that would break the symmetry.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (Image, Depth)
    frames: Tensor

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str,
        channels: int = 32,
        widths: Sequence[int] = (3, 3, 6),
        keypoints: int = 8,
        stem: int = 5,
        pool: int = 2,
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        what = f"{type(self).__name__}({key!r})"
        if self.field.view != "scene":  # type: ignore[attr-defined]
            raise ValueError(f"{what}: is for cameras that watch the scene; those on the gripper have another")
        if not widths or min(*widths, keypoints, pool) < 1:
            raise ValueError(
                f"{what}: expected widths, keypoints and pool >= 1, got widths={list(widths)}, keypoints={keypoints}, "
                f"pool={pool}"
            )
        colours, side = self.field.features[0], self.field.features[-1]
        check_kernel(stem, f"{what}.stem")
        layers: list[Conv | Pool] = [Conv(stem, 0), Pool(pool)]
        check_size(
            side,
            None,
            lambda size: (through(size, layers) or 0) >= 2,
            what,
            "breaks the symmetry or leaves a single cell",
            named=2,
        )
        self.cells = through(side, layers) or 0
        self.pool = pool
        self.stem = SteerableConv(symmetry, colours, widths[0], stem, scalars=True)
        self.layers = nn.ModuleList(SteerableConv(symmetry, a, b, 3, padding=1) for a, b in pairwise(widths))
        self.maps = SteerableConv(symmetry, widths[-1], keypoints, 1)
        self.mix = GroupLinear(symmetry, 3 * keypoints, channels)
        self.register_buffer("frames", _frames(symmetry, self.cells).to(self.mix.weight), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.frames = _frames(self.symmetry, self.cells).to(self.frames)  # not by way of float32
        return self

    def forward(self, picture: Tensor) -> Tensor:
        leading, order = picture.shape[:2], self.symmetry.order
        hidden = F.max_pool2d(F.relu(self.stem(picture.flatten(0, 1))), self.pool)
        for layer in self.layers:
            new = F.relu(layer(hidden))
            hidden = hidden + new if new.shape == hidden.shape else new
        maps = self.maps(hidden).flatten(2).unflatten(1, (-1, order)).transpose(1, 2)  # (B, N, K, cells)
        place = maps.softmax(-1) @ self.frames  # (B, N, K, 2)
        found = torch.cat([place.flatten(2), maps.amax(-1)], -1)
        return F.silu(self.mix(found.view(*leading, order, -1)))


class KeypointEncoder(ArrayEncoder):
    """Picture (B, To, 1 or 3, H, W) of a camera on the gripper -> invariant features (B, To, channels).

    One convolution of stride 2 per entry of `widths`, then the expected positions of `channels / 2` soft maxima: the
    small counterpart of WristImageEncoder. Without symmetry (order 1) it reads the scene's cameras, too. Raises
    ValueError for sizes that leave less than two cells along a side, where a keypoint has no place.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (Image, Depth)
    invariant: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str,
        channels: int = 32,
        widths: Sequence[int] = (16, 32),
        kernel: int = 5,
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        what = f"{type(self).__name__}({key!r})"
        if self.field.view != "body" and symmetry.order > 1:  # type: ignore[attr-defined]
            raise ValueError(f"{what}: is for a camera on the gripper (view=body); the scene's cameras need another")
        if not widths or min(widths) < 1 or kernel < 1 or kernel % 2 == 0 or channels < 2 or channels % 2:
            raise ValueError(
                f"{what}: expected widths >= 1, an odd kernel and an even number of channels, got "
                f"widths={list(widths)}, kernel={kernel}, channels={channels}"
            )
        colours, rows, columns = self.field.features
        cells = tuple(-(-side // 2 ** len(widths)) for side in (rows, columns))
        if min(cells) < 2:
            raise ValueError(
                f"{what}: {rows} x {columns} pixels halved {len(widths)} times are a single cell; use fewer widths"
            )
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2) for a, b in pairwise((colours, *widths))
        )
        self.keypoints = SpatialSoftmax(widths[-1], channels // 2, (cells[0], cells[1]))

    def forward(self, picture: Tensor) -> Tensor:
        leading, hidden = picture.shape[:2], picture.flatten(0, 1)
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        out: Tensor = self.keypoints(hidden)
        return out.view(*leading, self.channels)


def _frames(symmetry: Symmetry, cells: int) -> Tensor:
    """(N, cells^2, 2): where the cells are, x to the right, y up, from -1 to 1, seen in the frame of each rotation."""
    line = torch.linspace(-1, 1, cells, dtype=torch.float64)
    y, x = torch.meshgrid(-line, line, indexing="ij")
    places = torch.stack([x.flatten(), y.flatten()], -1)
    turns = Irreps((1,))
    return torch.stack([places @ turns.matrix(angle) for angle in symmetry.angles])  # rows: R^T p
