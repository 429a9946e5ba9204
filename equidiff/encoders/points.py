"""Encoder of a point cloud: a network of single points, shared by the N turned clouds, and a pool over the points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.fields import ArrayField, PointCloud
from equidiff.nn import GroupLinear, Lift, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Irreps, Symmetry

__all__ = ["PointCloudEncoder"]


class PointCloudEncoder(ArrayEncoder):
    """Point cloud (B, To, P, 6 or 3) -> regular features (B, To, N, channels); exact at all N angles.

    Every point is lifted to the N rotations of the cloud (its position turns, its colour does not), passes
    through layers of `widths` that each rotation shares, and the largest value over the points is kept
    (PointNet, Qi et al. 2017, arXiv 1612.00593, on each rotated copy); one layer then mixes the group. With
    symmetry order 1 it is an ordinary PointNet.

    near: radii in units of the field's scale. For each of them a second position, bent to stay within the
    radius, is given as well, so that small distances about the origin are seen as well as large ones.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (PointCloud,)

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str = "point_cloud",
        channels: int = 64,
        widths: Sequence[int] = (32, 64),
        near: Sequence[float] = (),
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        assert isinstance(self.field, PointCloud)
        check_counts("PointCloudEncoder", widths=widths)
        if any(not radius > 0 for radius in near):
            raise ValueError(f"PointCloudEncoder.near: radii must be > 0, got {list(near)}")
        self.near = tuple(float(radius) for radius in near)
        self.lift = Lift(Irreps((1, 0) * (1 + len(self.near)) + (0, 0, 0) * self.field.colour), symmetry, widths[0])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.mix = GroupLinear(symmetry, widths[-1], channels)

    def forward(self, cloud: Tensor) -> Tensor:
        position, colour = cloud[..., :3], cloud[..., 3:]
        # a length does not change when the scene turns about the vertical
        length = position.norm(dim=-1, keepdim=True)
        bent = [position / torch.sqrt(radius**2 + length**2) for radius in self.near]
        hidden = F.silu(self.norms[0](self.lift(torch.cat([position, *bent, colour], -1))))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            hidden = F.silu(norm(layer(hidden)))
        return F.silu(self.mix(hidden.amax(-3)))
