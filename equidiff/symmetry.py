"""Rotations about the vertical axis: the values (`Irreps`) and the finite group (`Symmetry`).

A quantity that rotates with the scene splits into blocks. A block of frequency 0 is a scalar that does
not change; a block of frequency k >= 1 is a pair (x, y) that turns by k*theta when the scene turns by
theta. `Irreps` is the ordered list of those frequencies: it holds no data, so it can be compared,
printed, added and stored in a config.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from escnn.group import Representation
    from escnn.nn import FieldType

__all__ = ["Irreps", "Symmetry"]

_MOST_BLOCKS = 100_000  # beyond it a config is damaged or hostile


@dataclass(frozen=True)
class Irreps:
    """Frequencies of the blocks of a vector, in storage order.

    >>> position = Irreps((1, 0))          # (x, y) turns, z stays
    >>> position.size
    3
    >>> position + Irreps((0,)) * 2
    1x1+3x0
    """

    frequencies: tuple[int, ...]

    def __post_init__(self) -> None:
        bad = [k for k in self.frequencies if not isinstance(k, int) or k < 0]
        if bad:
            raise ValueError(f"Irreps: frequencies must be integers >= 0, got {bad[0]!r}")
        if len(self.frequencies) > _MOST_BLOCKS:
            raise ValueError(f"Irreps: at most {_MOST_BLOCKS} blocks, got {len(self.frequencies)}")

    @cached_property
    def size(self) -> int:
        """Number of entries of the vector: one per scalar, two per pair."""
        return sum(1 if k == 0 else 2 for k in self.frequencies)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of the first entry of each block."""
        starts, at = [], 0
        for k in self.frequencies:
            starts.append(at)
            at += 1 if k == 0 else 2
        return tuple(starts)

    @cached_property
    def block_of_entry(self) -> tuple[int, ...]:
        """For each entry of the vector, the index of its block."""
        return tuple(b for b, k in enumerate(self.frequencies) for _ in range(1 if k == 0 else 2))

    @cached_property
    def frequency_of_entry(self) -> tuple[int, ...]:
        """For each entry of the vector, the frequency of its block."""
        return tuple(self.frequencies[b] for b in self.block_of_entry)

    def rotate(self, x: Tensor, angle: Tensor | float) -> Tensor:
        """Turn `x` (..., size) by `angle` (scalar or broadcastable to x.shape[:-1]) radians."""
        if x.shape[-1] != self.size:
            raise ValueError(f"Irreps.rotate: last dimension must be {self.size} for {self}, got {tuple(x.shape)}")
        angle = torch.as_tensor(angle, dtype=x.dtype, device=x.device)
        frequency, partner, sign = _rotation_tables(self, x.device)
        phase = angle[..., None] * frequency.to(x.dtype)
        return x * torch.cos(phase) + x[..., partner] * (torch.sin(phase) * sign.to(x.dtype))

    def matrix(self, angle: float, dtype: torch.dtype = torch.float64) -> Tensor:
        """Orthogonal (size, size) matrix of the rotation by `angle` radians."""
        return self.rotate(torch.eye(self.size, dtype=dtype), angle).T.contiguous()

    def block_norms(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., blocks): absolute value of scalars, length of pairs."""
        index = torch.tensor(self.block_of_entry, device=x.device)
        out = x.new_zeros((*x.shape[:-1], len(self.frequencies)))
        return out.index_add_(-1, index, x * x).sqrt()

    def per_entry(self, per_block: Tensor) -> Tensor:
        """(..., blocks) -> (..., size): repeat a value of each block over its entries."""
        return per_block[..., torch.tensor(self.block_of_entry, device=per_block.device)]

    def is_trivial(self, order: int) -> tuple[bool, ...]:
        """For each entry, whether C_order leaves it unchanged (every frequency does under C_1)."""
        return tuple(k % order == 0 for k in self.frequency_of_entry)

    def representation(self, symmetry: Symmetry) -> Representation:
        """The escnn representation of C_N in exactly this storage layout."""
        return _representation(self, symmetry.order)

    def __add__(self, other: Irreps) -> Irreps:
        return Irreps(self.frequencies + other.frequencies)

    def __mul__(self, times: int) -> Irreps:
        if len(self.frequencies) * times > _MOST_BLOCKS:
            raise ValueError(f"Irreps: at most {_MOST_BLOCKS} blocks, got {len(self.frequencies)} x {times}")
        return Irreps(self.frequencies * times)

    def __repr__(self) -> str:
        return "+".join(f"{len(list(run))}x{k}" for k, run in groupby(self.frequencies)) or "nothing"


@lru_cache(maxsize=256)
def _rotation_tables(irreps: Irreps, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    partner, sign = [], []
    for start, k in zip(irreps.starts, irreps.frequencies, strict=True):
        partner += [start] if k == 0 else [start + 1, start]
        sign += [0.0] if k == 0 else [-1.0, 1.0]
    # tensors made in inference mode could not be used for training later
    with torch.inference_mode(False):
        return (
            torch.tensor(irreps.frequency_of_entry, dtype=torch.float64, device=device),
            torch.tensor(partner, dtype=torch.long, device=device),
            torch.tensor(sign, dtype=torch.float64, device=device),
        )


@lru_cache(maxsize=64)
def _representation(irreps: Irreps, order: int) -> Representation:
    group = _escnn().group
    if order == 1:
        return group.directsum([group.cyclic_group(1).trivial_representation] * irreps.size)
    so2 = group.so2_group(max(*irreps.frequencies, 1))
    # SO(2) irreps restricted to C_N carry the change of basis where a frequency aliases (k >= N/2)
    return group.directsum([so2.irrep(k).restrict(order) for k in irreps.frequencies])


def _escnn() -> Any:
    """escnn, without the remarks it makes when it is imported (seconds; only representations need it)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import escnn.group
        import escnn.gspaces
        import escnn.nn
    return escnn


@dataclass(frozen=True)
class Symmetry:
    """C_N: the N rotations by multiples of 2*pi/N about the vertical; N = 1 means no symmetry.

    Regular features are tensors (..., N, C): entry n of the group axis belongs to the rotation by
    2*pi*n/N. Turning the scene by one step rolls the group axis by one.
    """

    order: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or isinstance(self.order, bool) or not 1 <= self.order <= 1024:
            raise ValueError(
                "Symmetry.order: expected an integer >= 1 and <= 1024 (1 = no symmetry, the paper uses 8), "
                f"got {self.order!r}"
            )

    @property
    def angles(self) -> tuple[float, ...]:
        """The N angles in radians, starting at 0."""
        return tuple(2 * math.pi * n / self.order for n in range(self.order))

    @cached_property
    def gspace(self) -> Any:
        """escnn's base space for features without spatial extent."""
        escnn = _escnn()
        return escnn.gspaces.no_base_space(escnn.group.cyclic_group(self.order))

    def regular(self, channels: int) -> FieldType:
        """escnn field type of `channels` regular features (escnn's layout: channel-major)."""
        return _escnn().nn.FieldType(self.gspace, [self.gspace.regular_repr] * channels)

    def vector(self, irreps: Irreps) -> FieldType:
        """escnn field type of a vector with these irreps."""
        return _escnn().nn.FieldType(self.gspace, [irreps.representation(self)])

    def act(self, features: Tensor, steps: int) -> Tensor:
        """Turn regular features (..., N, C) by `steps` group elements."""
        if features.shape[-2] != self.order:
            raise ValueError(
                f"Symmetry.act: features must be (..., {self.order}, C) for C_{self.order}, got {tuple(features.shape)}"
            )
        return features.roll(steps, dims=-2)
