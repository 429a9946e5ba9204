"""Which grid sizes keep a network of convolutions and pools equivariant under quarter turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Conv", "Fits", "Pool", "check_crop", "check_kernel", "check_size", "final_size", "through"]

Fits = Callable[[int], bool]
"""Whether a network can be built for this many cells along a side."""


class Conv:
    """A convolution of odd or even `kernel` and `padding` on both sides: stride 1, symmetric at any size."""

    def __init__(self, kernel: int, padding: int) -> None:
        self.kernel, self.padding = kernel, padding

    def after(self, size: int) -> int | None:
        """Size of the output, None if nothing is left."""
        left = size + 2 * self.padding - self.kernel + 1
        return left if left >= 1 else None


class Pool:
    """Pooling of `width` cells with the same stride; the cells must cover the grid, or it is not symmetric."""

    def __init__(self, width: int) -> None:
        self.width = width

    def after(self, size: int) -> int | None:
        """Size of the output, None if the cells do not cover the grid."""
        return size // self.width if size % self.width == 0 else None


def through(size: int, layers: Sequence[Conv | Pool]) -> int | None:
    """Cells along a side that the layers leave of `size`, None if it breaks the symmetry on its way or nothing is left.

    >>> through(28, [Conv(5, 0), Pool(2), Pool(3)])
    4
    """
    left: int | None = size
    for layer in layers:
        if left is None:
            return None
        left = layer.after(left)
    return left


def final_size(size: int, layers: Sequence[Conv | Pool], largest: int, what: str, crop: int | None = None) -> int:
    """Cells along a side that the last convolution, to one cell, has to cover: at most `largest`.

    size: cells along a side of the picture or grid, of which the layers get the middle `crop`, or all. Raises
    ValueError if they break the symmetry on their way, leave more than `largest`, or two cells, for which escnn has no
    equivariant filter; names the sizes that work.
    """
    usable = [n for n in range(1, largest + 1) if n != 2]
    why = "breaks the symmetry or is too large for its layers"
    if through(size if crop is None else crop, layers) == 2:
        why = "leaves two cells for the last layer, for which there is no equivariant filter"
    used = check_size(size, crop, lambda n: through(n, layers) in usable, what, why)
    left = through(used, layers)
    assert left is not None
    return left


def check_kernel(kernel: int, where: str) -> None:
    """ValueError for a kernel without cells, or of two cells along a side, for which there is no equivariant filter."""
    if kernel < 1 or kernel == 2:
        raise ValueError(f"{where}: expected 1 or at least 3 cells (two have no equivariant filter), got {kernel}")


def check_size(full: int, crop: int | None, fits: Fits, what: str, why: str, named: int = 4) -> int:
    """The size that the layers get: of a picture or grid of `full` cells along a side, or of its `crop`.

    Raises ValueError, naming up to `named` sizes near it that work, unless the cropped middle is the middle of the
    picture and `fits`. why: what is wrong with a size that does not fit.
    """
    size = check_crop(full, crop, what, fits)
    if fits(size):
        return size
    if crop is not None:
        raise ValueError(f"{what}: crop={crop} of {full} cells {why}; {_crops(full, crop, fits)}")
    near = _near(size, [n for n in range(1, 2 * size + 64) if fits(n)], named)
    fix = f"sizes that work near it: {near}" if near else "no size works with these layers"
    raise ValueError(f"{what}: a side of {size} cells {why}; {fix}")


def check_crop(full: int, crop: int | None, what: str, fits: Fits = lambda size: True) -> int:
    """The size after cropping; ValueError unless the cropped middle is the middle of the picture."""
    if crop is None:
        return full
    if not 1 <= crop <= full or (full - crop) % 2:
        raise ValueError(
            f"{what}: crop={crop} of {full} would move the middle, about which the scene turns; "
            f"{_crops(full, crop, fits)}"
        )
    return crop


def _crops(full: int, crop: int, fits: Fits) -> str:
    """Which crops of the picture work, or of a picture with a cell more or less."""
    near = _near(crop, [n for n in range(full, 0, -2) if fits(n)], 2, " or ")
    if near:
        return f"use {near}"
    for other in (full - 1, full + 1):  # the other parity
        near = _near(crop, [n for n in range(other, 0, -2) if fits(n)], 1)
        if near:
            return f"no crop of {full} works with these layers; use {other} cells with crop={near}"
    return "no size works with these layers"


def _near(size: int, fitting: Sequence[int], count: int, joint: str = ", ") -> str:
    closest = sorted(sorted(fitting, key=lambda n: (abs(n - size), n))[:count])
    return joint.join(map(str, closest))
