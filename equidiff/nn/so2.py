"""Layers on continuous SO(2) features: irreps of frequencies 0..K, equivariant at any angle.

`channels` features of frequencies 0..K are a vector with `band(K, channels)`: each channel is a scalar and K pairs,
the Fourier coefficients of a real function on the circle (with the basis 1, sqrt(2) cos(k t), sqrt(2) sin(k t)).
Turning the scene shifts the function. Regular features of C_N are N samples of such a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equidiff.symmetry import Irreps

__all__ = ["Nonlinearity", "SO2Activation", "SO2Linear", "SO2Norm", "Sampling", "band", "modulate"]

Nonlinearity = Literal["product", "fourier"]


def band(frequencies: int, channels: int) -> Irreps:
    """Irreps of `channels` functions on the circle with frequencies 0..`frequencies`.

    >>> band(2, 2)
    1x0+1x1+1x2+1x0+1x1+1x2
    """
    return Irreps(tuple(range(frequencies + 1))) * channels


class SO2Linear(nn.Module):
    """Every SO(2)-equivariant linear map between two vectors: a complex matrix for each frequency >= 1 they share.

    (..., inputs.size) -> (..., outputs.size). The bias lives on scalars. `zero` starts at the zero map.
    """

    order_in: Tensor
    order_out: Tensor

    def __init__(self, inputs: Irreps, outputs: Irreps, bias: bool = True, zero: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.shared = sorted(set(inputs.frequencies) & set(outputs.frequencies))
        spread = 0.0 if zero else 1.0
        self.weights = nn.ParameterList()
        gather, scatter = [], []
        for k in self.shared:
            ins, outs = _starts(inputs, k), _starts(outputs, k)
            shape = (len(outs), len(ins)) if k == 0 else (2, len(outs), len(ins))
            parts = 1 if k == 0 else 2
            self.weights.append(nn.Parameter(torch.randn(shape) * (spread / math.sqrt(parts * len(ins)))))
            gather.append([s + i for i in range(parts) for s in ins])
            scatter += [s + i for i in range(parts) for s in outs]
        self.widths = [len(part) for part in gather]
        rest = sorted(set(range(outputs.size)) - set(scatter))  # frequencies that the input lacks: zero
        self.missing = len(rest)
        place = torch.tensor([*scatter, *rest], dtype=torch.long)
        self.bias = nn.Parameter(torch.zeros(outputs.frequencies.count(0))) if bias and 0 in self.shared else None
        # channels with the same frequencies are sorted by a transposition, whose gradient is cheaper than a gather's
        self.band_in = _channels(inputs) if len(self.shared) == len(set(inputs.frequencies)) else None
        self.band_out = None if rest else _channels(outputs)
        self.register_buffer("order_in", torch.tensor([*chain(*gather)], dtype=torch.long), persistent=False)
        self.register_buffer("order_out", torch.argsort(place), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = _by_frequency(x, self.band_in, self.order_in).split(self.widths, -1)
        out = []
        for k, weight, part in zip(self.shared, self.weights, parts, strict=True):
            if k == 0:
                out.append(F.linear(part, weight, self.bias))
                continue
            real, imaginary = weight.unbind(0)
            matrix = torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)], 0)
            out.append(F.linear(part, matrix))
        if self.missing:
            out.append(x.new_zeros((*x.shape[:-1], self.missing)))
        joined = torch.cat(out, -1)
        if self.band_out is None:
            return joined.index_select(-1, self.order_out)
        return joined.unflatten(-1, (-1, self.band_out)).transpose(-1, -2).flatten(-2)

    def extra_repr(self) -> str:
        return f"{self.inputs.size} -> {self.outputs.size}, frequencies {self.shared}"


class SO2Norm(nn.Module):
    """Divides by the root mean square of the whole vector, which no turn changes; gain per channel and frequency."""

    def __init__(self, frequencies: int, channels: int) -> None:
        super().__init__()
        self.frequencies, self.channels = frequencies, channels
        self.gain = nn.Parameter(torch.ones(channels, frequencies + 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., band(K, channels).size) -> the same."""
        scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        return modulate(scaled, self.gain, self.bias)


class SO2Activation(nn.Module):
    """Nonlinearity that mixes frequencies.

    "product": the input has 2 * `channels` functions u, v; the result is the Fourier coefficients 0..K of u + u*v,
    scalars through SiLU, pairs times the sigmoid of their scalar. The product of two functions of frequencies up to K
    has frequencies up to 2K, so 3K + 1 samples give the coefficients 0..K without aliasing: exactly equivariant.
    "fourier": SiLU at `samples` points of the circle (de Haan et al. 2021, arXiv 2003.05425, section 5). Exactly
    equivariant at multiples of 2*pi/samples, between them approximately; see docs/symmetry.md for the error.
    """

    def __init__(
        self, frequencies: int, channels: int, kind: Nonlinearity = "product", samples: int | None = None
    ) -> None:
        super().__init__()
        if kind not in ("product", "fourier"):
            raise ValueError(f"nonlinearity: expected 'product' (exact) or 'fourier' (approximate), got {kind!r}")
        least = 3 * frequencies + 1 if kind == "product" else 2 * frequencies + 1
        count = samples if samples is not None else least if kind == "product" else 4 * frequencies + 2
        if count < least:
            raise ValueError(
                f"samples: {kind} with frequencies up to {frequencies} needs at least {least}, got {count}"
            )
        self.frequencies, self.channels, self.kind = frequencies, channels, kind
        self.sampling = Sampling(frequencies, count)

    @property
    def inputs(self) -> int:
        """Number of input functions."""
        return 2 * self.channels if self.kind == "product" else self.channels

    def forward(self, x: Tensor) -> Tensor:
        """(..., band(K, inputs).size) -> (..., band(K, channels).size)."""
        functions = x.unflatten(-1, (self.inputs, -1))
        if self.kind == "fourier":
            return self.sampling.coefficients(F.silu(self.sampling.values(functions))).flatten(-2)
        u, v = functions.split(self.channels, -2)
        product = self.sampling.coefficients(self.sampling.values(u) * self.sampling.values(v))
        mixed = u + product / math.sqrt(self.frequencies + 0.5)  # as large as u where both are standard normal
        scalar, pairs = mixed[..., :1], mixed[..., 1:]
        return torch.cat([F.silu(scalar), pairs * torch.sigmoid(scalar)], -1).flatten(-2)


class Sampling(nn.Module):
    """Between the coefficients (..., 2K + 1) of functions on the circle and their values (..., points)."""

    basis: Tensor

    def __init__(self, frequencies: int, points: int) -> None:
        super().__init__()
        self.frequencies, self.points = frequencies, points
        self.register_buffer("basis", _basis(frequencies, points).to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.basis = _basis(self.frequencies, self.points).to(self.basis)
        return self

    def values(self, coefficients: Tensor) -> Tensor:
        """(..., 2K + 1) -> (..., points), at the angles 2*pi*n/points."""
        return F.linear(coefficients, self.basis)

    def coefficients(self, values: Tensor) -> Tensor:
        """(..., points) -> (..., 2K + 1); inverse of `values` if points > 2K."""
        return F.linear(values, self.basis.T) / self.points


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale (..., channels, K + 1) and shift the scalars (..., channels) of features (..., band(K, channels).size)."""
    channels, width = scale.shape[-2:]
    functions = x.unflatten(-1, (channels, 2 * width - 1))
    scalar = functions[..., :1] * scale[..., :1] + shift[..., None]
    pairs = functions[..., 1:] * scale[..., 1:].repeat_interleave(2, -1)
    return torch.cat([scalar, pairs], -1).flatten(-2)


def _by_frequency(x: Tensor, channels: int | None, order: Tensor) -> Tensor:
    if channels is None:
        return x.index_select(-1, order)
    return x.unflatten(-1, (channels, -1)).transpose(-1, -2).flatten(-2)


def _channels(irreps: Irreps) -> int | None:
    """How many channels of frequencies 0..K the vector consists of, None if it is something else."""
    highest = max(irreps.frequencies)
    count = len(irreps.frequencies) // (highest + 1)
    return count if irreps == band(highest, count) else None


def _starts(irreps: Irreps, frequency: int) -> list[int]:
    return [start for start, k in zip(irreps.starts, irreps.frequencies, strict=True) if k == frequency]


@lru_cache(maxsize=64)
def _basis(frequencies: int, points: int) -> Tensor:
    """(points, 2K + 1), float64: the basis functions at 2*pi*n/points."""
    with torch.inference_mode(False):
        angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
        columns = [torch.ones_like(angle)]
        for k in range(1, frequencies + 1):
            columns += [math.sqrt(2) * torch.cos(k * angle), math.sqrt(2) * torch.sin(k * angle)]
        return torch.stack(columns, -1)
