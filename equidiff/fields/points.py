"""Point clouds: points in the world frame, with or without colour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equidiff.fields.base import ArrayField, FieldError, Source
from equidiff.fields.vectors import Position
from equidiff.rotations import rotation_about_z

__all__ = ["PointCloud"]

_MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class PointCloud(ArrayField, Source):
    """`points` points, stored (points, 6): x, y, z in metres (world) and red, green, blue in [0, 1]; without
    colour (points, 3).

    Features (points, 6 or 3): the position seen from `origin`, in units of `scale` metres, and the colour in
    [-1, 1]. origin: key of an observed position, usually the gripper's, or "" for the workspace centre at the
    height `floor_z` (metres).
    """

    points: int = 1024
    colour: bool = True
    origin: str = ""
    scale: float = 0.2
    floor_z: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not isinstance(self.points, int) or not 1 <= self.points <= _MOST_POINTS:
            raise FieldError(
                f"PointCloud({self.key!r}): points must be an integer from 1 to {_MOST_POINTS}, got {self.points!r}"
            )
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise FieldError(f"PointCloud({self.key!r}): scale must be > 0 metres, got {self.scale}")

    @property
    def sources(self) -> tuple[Source, ...]:
        cloud = replace(self, origin="", scale=0.2, floor_z=0.0)
        return (cloud, Position(self.origin, centre=self.centre)) if self.origin else (cloud,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.points, 6 if self.colour else 3)

    @property
    def features(self) -> tuple[int, ...]:
        return self.shape

    def with_centre(self, centre: tuple[float, float]) -> PointCloud:
        return replace(self, centre=centre)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        stored = raw[self.key]
        seen_from = raw[self.origin].unsqueeze(-2) if self.origin else stored.new_tensor([*self.centre, self.floor_z])
        return torch.cat([(stored[..., :3] - seen_from) / self.scale, stored[..., 3:] * 2 - 1], -1)

    def exact(self, angle: float) -> bool:
        return True

    def turn(self, features: Tensor, angle: Tensor | float) -> Tensor:
        matrix = rotation_about_z(angle, like=features)
        if matrix.ndim > 2:
            matrix = matrix.expand(*features.shape[:-2], 3, 3)
        return torch.cat([features[..., :3] @ matrix.transpose(-1, -2), features[..., 3:]], -1)

    def translate(self, features: Tensor, metres: Tensor) -> Tensor:
        if self.origin:  # seen from a position that moves as well
            return features
        moved = features[..., :2] + (metres / self.scale).to(features).unsqueeze(-2)
        return torch.cat([moved, features[..., 2:]], -1)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        centre = stored.new_tensor([*self.centre, 0.0])
        moved = torch.cat([stored[..., :3] - centre, stored[..., 3:]], -1)
        turned = self.turn(moved, angle)
        return torch.cat([turned[..., :3] + centre, turned[..., 3:]], -1)
