"""Pictures and voxel grids: how they are stored, and how they turn with the scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from equidiff.fields.base import ArrayField, FieldError, Source

__all__ = ["Depth", "Image", "Picture", "Voxels", "slide_picture", "turn_picture"]

VIEWS = ("scene", "body")
_LONGEST_SIDE = 4096  # pixels; beyond it a file is damaged or hostile
_MOST_CELLS = 512  # cells along a side of a voxel grid


def turn_picture(x: Tensor, angle: Tensor | float, fill: float = 0.0) -> Tensor:
    """Turn pictures (..., C, S, S) counter-clockwise as seen, about their middle; `angle` scalar or (...), radians.

    Multiples of 90 degrees move pixels, exactly; other angles are interpolated bilinearly and what comes
    from outside is `fill`.
    """
    leading, (channels, rows, columns) = x.shape[:-3], x.shape[-3:]
    if rows != columns:
        raise FieldError(f"turn_picture: only a square picture can turn, got {rows} x {columns}")
    turns = torch.as_tensor(angle, dtype=torch.float64, device=x.device) / (math.pi / 2)
    if turns.ndim == 0 and abs(float(turns) - round(float(turns))) < 1e-9:
        return torch.rot90(x, round(float(turns)) % 4, (-2, -1))
    flat = x.reshape(-1, channels, rows, columns)
    turns = turns.expand(leading).reshape(-1)
    quarters = turns.round()
    # an angle of each sample: float32 holds a quarter turn to seven digits
    near = (turns - quarters).abs() < (1e-6 if isinstance(angle, Tensor) and angle.dtype == torch.float32 else 1e-9)
    out = torch.empty_like(flat)
    for quarter in range(4):
        exact = near & (quarters.remainder(4) == quarter)
        if exact.any():
            out[exact] = torch.rot90(flat[exact], quarter, (-2, -1))
    if not near.all():
        out[~near] = _interpolated(flat[~near], turns[~near] * (math.pi / 2), fill)
    return out.reshape(x.shape)


def _interpolated(flat: Tensor, angle: Tensor, fill: float) -> Tensor:
    phase = angle.to(flat.dtype)
    cos, sin, zero = torch.cos(phase), torch.sin(phase), torch.zeros_like(phase)
    # rows count downwards, so a counter-clockwise turn looks like a clockwise one in their coordinates
    sample = torch.stack([cos, -sin, zero, sin, cos, zero], -1).view(-1, 2, 3)
    grid = F.affine_grid(sample, list(flat.shape), align_corners=False)
    return F.grid_sample(flat - fill, grid, align_corners=False) + fill


def slide_picture(x: Tensor, cells: Tensor, fill: float = 0.0) -> Tensor:
    """Move the content of pictures (..., C, S, S) by cells (..., 2), to the right and upwards; the edge is `fill`.

    Whole cells are moved exactly, others are interpolated bilinearly.
    """
    channels, rows, columns = x.shape[-3:]
    flat = x.reshape(-1, channels, rows, columns)
    right, up = cells.expand(*x.shape[:-3], 2).reshape(-1, 2).to(torch.float64).unbind(-1)
    low_x, low_y = right.add(1e-4).floor(), up.add(1e-4).floor()  # cells as metres / metres per cell round
    part_x, part_y = right - low_x, up - low_y
    out = torch.zeros_like(flat)
    for more_x, share_x in ((0, 1 - part_x), (1, part_x)):
        for more_y, share_y in ((0, 1 - part_y), (1, part_y)):
            share = share_x * share_y
            share = torch.where(share < 1e-3, 0.0, torch.where(share > 1 - 1e-3, 1.0, share)).to(x.dtype)
            if share.any():
                moved = _whole_cells(flat, (low_x + more_x).long(), (low_y + more_y).long(), fill)
                out = out + moved * share[:, None, None, None]
    return out.reshape(x.shape)


def _whole_cells(flat: Tensor, right: Tensor, up: Tensor, fill: float) -> Tensor:
    sides = flat.shape[-2:]
    rows = torch.arange(sides[0], device=flat.device) + up[:, None]
    columns = torch.arange(sides[1], device=flat.device) - right[:, None]
    there = ((rows >= 0) & (rows < sides[0]))[:, :, None] & ((columns >= 0) & (columns < sides[1]))[:, None, :]
    sample = torch.arange(len(flat), device=flat.device)[:, None, None]
    rows, columns = rows.clamp(0, sides[0] - 1), columns.clamp(0, sides[1] - 1)
    found = flat.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return torch.where(there[:, None], found, fill)


def _quarter(angle: float) -> bool:
    turns = angle / (math.pi / 2)
    return abs(turns - round(turns)) < 1e-9


@dataclass(frozen=True)
class Picture(ArrayField, Source):
    """A camera's array: `height` rows from the top, `width` columns, and a view.

    view="scene": the camera looks at the workspace from above and the picture turns with the scene, which is
    exact for a camera above the workspace centre looking straight down, and an approximation for a tilted one;
    `overhead` says which it is. view="body": the camera turns with the gripper, the picture does not change.
    """

    height: int = 84
    width: int = 84
    view: str = "scene"
    overhead: bool = False

    def __post_init__(self) -> None:
        kind = f"{type(self).__name__}({self.key!r})"
        for name, side in (("height", self.height), ("width", self.width)):
            if not isinstance(side, int) or not 1 <= side <= _LONGEST_SIDE:
                raise FieldError(f"{kind}: {name} must be an integer from 1 to {_LONGEST_SIDE} pixels, got {side!r}")
        if self.view not in VIEWS:
            raise FieldError(
                f"{kind}: view must be 'scene' (turns with it) or 'body' (on the gripper), got {self.view!r}"
            )
        if self.view == "scene" and self.height != self.width:
            raise FieldError(
                f"{kind}: a picture of the scene must be square to turn, got height {self.height}, width {self.width}; "
                "render or crop it square"
            )

    def exact(self, angle: float) -> bool:
        return self.view == "body" or _quarter(angle)

    def turn(self, features: Tensor, angle: Tensor | float) -> Tensor:
        return features if self.view == "body" else turn_picture(features, angle, fill=self._fill)

    def slide(self, features: Tensor, cells: Tensor) -> Tensor:
        """Move the content of the decoded picture by cells (..., 2), to the right and upwards."""
        return slide_picture(features, cells, self._fill)

    _fill: ClassVar[float] = -1.0


@dataclass(frozen=True)
class Image(Picture):
    """A colour picture, stored (height, width, 3) uint8; features (3, height, width) in [-1, 1]."""

    dtype: ClassVar[torch.dtype | None] = torch.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, 3)

    @property
    def features(self) -> tuple[int, ...]:
        return (3, self.height, self.width)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return _floating(raw[self.key]).movedim(-1, -3) / 127.5 - 1

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        if self.view == "body":
            return stored
        turned = turn_picture(_floating(stored).movedim(-1, -3), angle).movedim(-3, -1)
        return _like(turned, stored)


@dataclass(frozen=True)
class Depth(Picture):
    """A depth picture, stored (height, width) uint16 in units of 0.1 mm along the optical axis, 0 = nothing seen.

    Features (1, height, width): `near` metres is -1, `far` and beyond, or nothing, is 1.
    """

    near: float = 0.1
    far: float = 2.0
    dtype: ClassVar[torch.dtype | None] = torch.uint16
    _fill: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.near < self.far < 6.5:
            raise FieldError(
                f"Depth({self.key!r}): expected 0 <= near < far < 6.5 metres, got near={self.near}, far={self.far}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width)

    @property
    def features(self) -> tuple[int, ...]:
        return (1, self.height, self.width)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        metres = _floating(raw[self.key]) * 1e-4
        share = ((metres - self.near) / (self.far - self.near)).clamp(0, 1)
        return torch.where(metres == 0, torch.ones_like(share), share).unsqueeze(-3) * 2 - 1

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        if self.view == "body":
            return stored
        return _like(turn_picture(_floating(stored).unsqueeze(-3), angle).squeeze(-3), stored)


@dataclass(frozen=True)
class Voxels(ArrayField, Source):
    """A grid over the workspace, stored (4, size, size, size) uint8: occupancy (0 or 255), red, green, blue.

    Axes: channel, z from top to bottom, y from + to -, x from - to +, so that a layer seen from above is a
    picture (and the grid is what escnn's rot2dOnR3 turns). The grid is centred on the workspace centre.
    Features: the same, in [0, 1].
    """

    size: int = 64
    dtype: ClassVar[torch.dtype | None] = torch.uint8

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 1 <= self.size <= _MOST_CELLS:
            raise FieldError(
                f"Voxels({self.key!r}): size must be an integer from 1 to {_MOST_CELLS} cells, got {self.size!r}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (4, self.size, self.size, self.size)

    @property
    def features(self) -> tuple[int, ...]:
        return self.shape

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return _floating(raw[self.key]) / 255

    def exact(self, angle: float) -> bool:
        return _quarter(angle)

    def turn(self, features: Tensor, angle: Tensor | float) -> Tensor:
        layers = features.flatten(-4, -3)
        return turn_picture(layers, angle).reshape(features.shape)

    def slide(self, features: Tensor, cells: Tensor) -> Tensor:
        """Move the decoded grid by cells (..., 2) along x and y."""
        return slide_picture(features.flatten(-4, -3), cells).reshape(features.shape)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        return _like(self.turn(_floating(stored), angle), stored)


def _floating(stored: Tensor) -> Tensor:
    return stored if stored.is_floating_point() else stored.to(torch.get_default_dtype())


def _like(values: Tensor, stored: Tensor) -> Tensor:
    return values if stored.is_floating_point() else values.round().clamp(min=0).to(stored.dtype)
