"""Plain networks with as many parameters as an equivariant one, for a fair comparison."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["count_parameters", "match_width"]


def count_parameters(module: nn.Module) -> int:
    """Number of trained values.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def match_width(build: Callable[[int], nn.Module], parameters: int, *, multiple: int = 1, largest: int = 16384) -> int:
    """The width at which `build(width)` has the number of parameters nearest to `parameters`.

    Only multiples of `multiple` are tried; the number must grow with the width. ValueError if even
    `largest` is too small.

    >>> match_width(lambda width: nn.Linear(width, width, bias=False), 10_100)
    100
    """
    if multiple < 1 or parameters < 1:
        raise ValueError(f"match_width: expected multiple and parameters >= 1, got {multiple} and {parameters}")

    def size(units: int) -> int:
        return count_parameters(build(units * multiple))

    low, high = 1, 1
    # doubling first: a bisection that starts in the middle would build networks far too large
    while size(high) < parameters:
        if high * multiple >= largest:
            raise ValueError(f"match_width: width {largest} has fewer than {parameters} parameters; raise largest")
        low, high = high, min(2 * high, -(-largest // multiple))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    return min((low, high), key=lambda units: abs(size(units) - parameters)) * multiple
