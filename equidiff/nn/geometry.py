"""Which grid sizes keep a network of convolutions and pools equivariant under quarter turns."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Conv", "Pool", "check_crop", "final_size"]


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


def final_size(size: int, layers: Sequence[Conv | Pool], largest: int, what: str) -> int:
    """Cells along a side that the last convolution, to one cell, has to cover: at most `largest`.

    Raises ValueError if `size` breaks the symmetry on its way, leaves more than that, or two cells, for which escnn has
    no equivariant filter; names the sizes that work.
    """
    usable = [n for n in range(1, largest + 1) if n != 2]
    left = _through(size, layers)
    if left in usable:
        assert left is not None
        return left
    fitting = [n for n in range(1, 2 * size + 64) if _through(n, layers) in usable]
    near = sorted(sorted(fitting, key=lambda n: abs(n - size))[:4])
    fix = f"sizes that work near it: {', '.join(map(str, near))}" if near else "no size works with these layers"
    why = "breaks the symmetry or is too large for its layers"
    if left == 2:
        why = "leaves two cells for the last layer, for which there is no equivariant filter"
    raise ValueError(f"{what}: a side of {size} cells {why}; {fix}")


def check_crop(size: int, crop: int | None, what: str) -> int:
    """The size after cropping; ValueError unless the cropped middle is the middle of the picture."""
    if crop is None:
        return size
    if not 1 <= crop <= size or (size - crop) % 2:
        near = [n for n in (crop - 1, crop + 1) if 1 <= n <= size and (size - n) % 2 == 0]
        raise ValueError(
            f"{what}: crop={crop} of {size} would move the middle, about which the scene turns; "
            f"use {' or '.join(map(str, near)) or size}"
        )
    return crop


def _through(size: int, layers: Sequence[Conv | Pool]) -> int | None:
    left: int | None = size
    for layer in layers:
        if left is None:
            return None
        left = layer.after(left)
    return left
