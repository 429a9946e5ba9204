"""Steerable convolutions on pictures and voxel grids, with the weights of escnn's R2Conv and R3Conv.

Regular features on a grid are (B, C*N, ...), channel-major as in escnn: entry c*N + n. The space of equivariant
kernels comes from escnn (Weiler and Cesa 2019, arXiv 1911.08251); the layer holds only the free weights and
expands them at every call, so that no derived filter can be stale or end up in a checkpoint.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.nn.geometry import check_kernel
from equidiff.symmetry import Symmetry

__all__ = ["SteerableConv", "kernel_basis"]


class SteerableConv(nn.Module):
    """Convolution to `outputs` regular features on a grid of 2 or 3 dimensions (turning in the last two).

    inputs: number of regular features, or of scalar channels with scalars=True. With symmetry order 1 it is an
    ordinary convolution. weight (outputs, inputs, size of the basis), in escnn's order; bias (outputs,), which in
    escnn is sqrt(N) times as large. Padding is on both sides, zeros; there is no stride, which would start to count at
    one edge and so break the symmetry at most sizes.
    """

    basis: Tensor

    def __init__(
        self,
        symmetry: Symmetry,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dims: int = 2,
        padding: int = 0,
        scalars: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ValueError(f"SteerableConv.dims: expected 2 (pictures) or 3 (voxels), got {dims}")
        if symmetry.order > 1:
            check_kernel(kernel, "SteerableConv.kernel")
        self.symmetry, self.inputs, self.outputs, self.kernel = symmetry, inputs, outputs, kernel
        self.dims, self.padding, self.scalars = dims, padding, scalars
        basis, spread = kernel_basis(symmetry.order, kernel, dims, scalars)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, len(spread)) * spread.float() / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("basis", basis.to(self.weight), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        exact, _ = kernel_basis(self.symmetry.order, self.kernel, self.dims, self.scalars)
        self.basis = exact.to(self.basis)
        return self

    def filter(self) -> Tensor:
        """(outputs*N, inputs*N or inputs, kernel, ...): the kernel that the weights stand for."""
        count, out, inside = self.basis.shape[:3]
        grid = self.basis.shape[3:]
        blocks = self.weight.flatten(0, 1) @ self.basis.view(count, -1)
        blocks = blocks.view(self.outputs, self.inputs, out, inside, -1).transpose(1, 2)
        return blocks.reshape(self.outputs * out, self.inputs * inside, *grid)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs*N or inputs, ...) -> (B, outputs*N, ...)."""
        bias = None if self.bias is None else self.bias.repeat_interleave(self.symmetry.order)
        convolve = F.conv2d if self.dims == 2 else F.conv3d
        return convolve(x, self.filter(), bias, padding=self.padding)

    def extra_repr(self) -> str:
        kind = "scalars" if self.scalars else "regular"
        return f"C_{self.symmetry.order}, {self.inputs} {kind} -> {self.outputs}, kernel {self.kernel}, {self.dims}-D"


@lru_cache(maxsize=64)
def kernel_basis(order: int, kernel: int, dims: int, scalars: bool) -> tuple[Tensor, Tensor]:
    """Basis (n, N, N or 1, kernel, ...) of the equivariant kernels to one regular feature, float64.

    Also escnn's generalised He standard deviation (n,) of each weight for one input feature; with I of them it is
    1/sqrt(I) times that. Exact under quarter turns to double precision; between, as far as a grid allows.
    """
    shape = (kernel,) * dims
    if order == 1:
        count = kernel**dims
        return torch.eye(count, dtype=torch.float64).view(count, 1, 1, *shape), torch.full((count,), count**-0.5)
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        from escnn import gspaces
        from escnn.nn import FieldType, R2Conv, R3Conv
        from escnn.nn.init import _generalized_he_init_variances

        space = gspaces.rot2dOnR2(order) if dims == 2 else gspaces.rot2dOnR3(order)
        inside = FieldType(space, [space.trivial_repr if scalars else space.regular_repr])
        conv = (R2Conv if dims == 2 else R3Conv)(
            inside, FieldType(space, [space.regular_repr]), kernel_size=kernel, initialize=False
        )
        spread = _generalized_he_init_variances(conv.basisexpansion)
        count = conv.weights.numel()
        rows = [conv.basisexpansion(one) for one in torch.eye(count)]
        basis = torch.stack(rows).detach().double().view(count, order, inside.size, *shape)
    return _symmetrised(basis, order), spread.detach().clone()


def _symmetrised(basis: Tensor, order: int) -> Tensor:
    """Mean over the quarter (or half) turns in C_N of turned kernels: removes the rounding of the basis."""
    turns = math.gcd(order, 4)
    total = torch.zeros_like(basis)
    for k in range(turns):
        turned = torch.rot90(basis, k * 4 // turns, (-2, -1)).roll(k * order // turns, 1)
        total += turned if basis.shape[2] == 1 else turned.roll(k * order // turns, 2)
    return total / turns
