"""Point clouds and voxel grids from points with colour. Deterministic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from equidiff.perception.settings import Bounds

__all__ = ["crop", "farthest_points", "fixed_size", "thinned", "voxel_grid"]

Points = NDArray[np.float32]


def crop(points: Points, colours: NDArray[np.uint8], bounds: Bounds) -> tuple[Points, NDArray[np.uint8]]:
    """The points (n, 3) within the bounds, and their colours (n, 3)."""
    low, high = np.array(bounds, np.float32).T
    inside = ((points >= low) & (points < high)).all(-1)
    return points[inside], colours[inside]


def thinned(points: Points, cell: float) -> NDArray[np.int64]:
    """Indices of the first point in each cube of side `cell` metres that holds any, in the order of the points."""
    if not len(points):
        return np.zeros(0, np.int64)
    cells = np.floor(points / np.float32(cell)).astype(np.int64)
    cells -= cells.min(0)
    size = cells.max(0) + 1
    flat = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    return np.sort(np.unique(flat, return_index=True)[1])


def farthest_points(points: Points, count: int) -> NDArray[np.int64]:
    """Indices of `count` points, each the farthest from those before; starts with the one farthest from the mean."""
    n = len(points)
    if n <= count:
        return np.arange(n)
    x, y, z = (np.ascontiguousarray(points[:, i]) for i in range(3))
    chosen = np.empty(count, np.int64)
    distance = np.full(n, np.inf, np.float32)
    last = int((((points - points.mean(0)) ** 2).sum(-1)).argmax())
    for i in range(count):
        chosen[i] = last
        np.minimum(distance, (x - x[last]) ** 2 + (y - y[last]) ** 2 + (z - z[last]) ** 2, out=distance)
        last = int(distance.argmax())
    return chosen


def fixed_size(
    points: Points,
    colours: NDArray[np.uint8],
    count: int,
    method: str,
    empty: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float32]:
    """(count, 6): `count` of the points with their colours in [0, 1]; repeated if there are fewer.

    method: "farthest" or "voxel", see PointCloudSettings. empty: where all lie, black, if there is no point.
    """
    out = np.zeros((count, 6), np.float32)
    if not len(points):
        out[:, :3] = empty
        return out
    if method == "farthest":
        kept = thinned(points, 0.004)  # what is closer together than a few millimetres costs time and adds nothing
        kept = kept[farthest_points(points[kept], count)]
    else:
        cell = 0.002
        kept = thinned(points, cell)
        while len(kept) > count:
            cell *= 1.1
            kept = thinned(points, cell)
    kept = np.resize(kept, count)
    out[:, :3] = points[kept]
    out[:, 3:] = colours[kept].astype(np.float32) / np.float32(255)
    return out


def voxel_grid(points: Points, colours: NDArray[np.uint8], bounds: Bounds, size: int) -> NDArray[np.uint8]:
    """(4, size, size, size): occupancy (0 or 255) and mean colour of the points in each cell.

    Axes: channel, z from top to bottom, y from + to -, x from - to +.
    """
    low, high = np.array(bounds, np.float32).T
    cell = np.floor((points - low) / (high - low) * np.float32(size)).astype(np.int64)
    inside = ((cell >= 0) & (cell < size)).all(-1)
    x, y, z = cell[inside].T
    flat = ((size - 1 - z) * size + (size - 1 - y)) * size + x
    cells = size**3
    count = np.bincount(flat, minlength=cells)
    grid = np.zeros((4, cells), np.uint8)
    full = count > 0
    grid[0, full] = 255
    for channel in range(3):
        total = np.bincount(flat, weights=colours[inside, channel].astype(np.float64), minlength=cells)
        grid[1 + channel, full] = np.rint(total[full] / count[full]).astype(np.uint8)
    return grid.reshape(4, size, size, size)
