"""Linear layers between vectors and regular features of C_N; they know representations, not fields.

Regular features are (..., N, C). Each layer holds the free weights of the whole space of equivariant
maps (tests compare the dimension with escnn's basis), expanded to one matrix per call: no derived
buffer that could go stale, and one plain GEMM instead of a basis expansion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.symmetry import Irreps, Symmetry

__all__ = ["GroupLayerNorm", "GroupLinear", "Lift", "Project"]


class Lift(nn.Module):
    """Vector with `irreps` -> regular features: out[n] = W rho(g_n)^-1 x + b. (..., D) -> (..., N, C)."""

    rho: Tensor

    def __init__(self, irreps: Irreps, symmetry: Symmetry, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.irreps, self.symmetry, self.channels = irreps, symmetry, channels
        self.weight = nn.Parameter(torch.randn(channels, irreps.size) / math.sqrt(irreps.size))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.register_buffer("rho", _turns(irreps, symmetry).to(self.weight), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.rho = _turns(self.irreps, self.symmetry).to(self.rho)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.symmetry.order == 1:
            return F.linear(x, self.weight, self.bias).unsqueeze(-2)
        # W rho^-1 = (rho W^T)^T. A product of two matrices: a batched one may round differently once the
        # weights no longer require a gradient, and a reloaded policy would not be the same bit for bit
        turned = (self.rho.flatten(0, 1) @ self.weight.T).view(*self.rho.shape[:2], self.channels)
        weight = turned.transpose(1, 2).flatten(0, 1)
        out = F.linear(x, weight, None if self.bias is None else self.bias.repeat(self.symmetry.order))
        return out.view(*out.shape[:-1], self.symmetry.order, self.channels)


class Project(nn.Module):
    """Regular features -> vector with `irreps`: sum_n rho(g_n) W x[n] / sqrt(N) + b. (..., N, C) -> (..., D).

    The bias lives on the entries that C_N leaves unchanged. `zero` starts at the zero map.
    """

    rho: Tensor
    free: Tensor

    def __init__(self, irreps: Irreps, symmetry: Symmetry, channels: int, zero: bool = False) -> None:
        super().__init__()
        self.irreps, self.symmetry, self.channels = irreps, symmetry, channels
        init = torch.zeros if zero else torch.randn
        self.weight = nn.Parameter(init(irreps.size, channels) / math.sqrt(channels))
        free = [i for i, trivial in enumerate(irreps.is_trivial(symmetry.order)) if trivial]
        self.bias = nn.Parameter(torch.zeros(len(free)))
        self.register_buffer("rho", _turns(irreps, symmetry).to(self.weight), persistent=False)
        self.register_buffer("free", torch.tensor(free, dtype=torch.long), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.rho = _turns(self.irreps, self.symmetry).to(self.rho)
        return self

    def forward(self, x: Tensor) -> Tensor:
        order = self.symmetry.order
        bias = torch.zeros_like(self.rho[0, 0]).index_add(0, self.free, self.bias)
        turned = (self.rho.flatten(0, 1) @ self.weight).view(*self.rho.shape[:2], self.channels)
        weight = turned.transpose(0, 1).flatten(1) / math.sqrt(order)
        return F.linear(x.flatten(-2), weight, bias)


class GroupLinear(nn.Module):
    """Regular -> regular, mixing the group: out[n] = sum_m W[m - n] x[m] + b. (..., N, Ci) -> (..., N, Co)."""

    index: Tensor

    def __init__(self, symmetry: Symmetry, inputs: int, outputs: int) -> None:
        super().__init__()
        self.symmetry, self.inputs, self.outputs = symmetry, inputs, outputs
        order = symmetry.order
        self.weight = nn.Parameter(torch.randn(order, outputs, inputs) / math.sqrt(order * inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        n = torch.arange(order)
        self.register_buffer("index", ((n[None, :] - n[:, None]) % order).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        order = self.symmetry.order
        if order == 1:
            return F.linear(x, self.weight[0], self.bias)
        grid = self.weight.index_select(0, self.index).view(order, order, self.outputs, self.inputs)
        weight = grid.transpose(1, 2).reshape(order * self.outputs, order * self.inputs)
        out = F.linear(x.flatten(-2), weight, self.bias.repeat(order))
        return out.view(*out.shape[:-1], order, self.outputs)


class GroupLayerNorm(nn.Module):
    """Layer norm over group and channels together, with gain and bias per channel. (..., N, C)."""

    def __init__(self, symmetry: Symmetry, channels: int) -> None:
        super().__init__()
        self.symmetry, self.channels = symmetry, channels
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (self.symmetry.order, self.channels)
        return F.layer_norm(x, shape, self.gain.expand(shape), self.bias.expand(shape))


def _turns(irreps: Irreps, symmetry: Symmetry) -> Tensor:
    """(N, D, D) matrices of the N rotations.

    In float64: converting a float32 copy to float64 would leave the layer equivariant to seven digits only.
    """
    return torch.stack([irreps.matrix(angle) for angle in symmetry.angles])
