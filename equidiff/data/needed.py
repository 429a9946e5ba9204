"""What a spec reads from a file of demonstrations: which arrays, of which shape, stored as what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equidiff.data.episode import DataError
from equidiff.spec import Spec

__all__ = ["ACTIONS", "Needed", "action_key", "as_stored", "describe", "how_to_get", "mixed", "needed_arrays"]

ACTIONS = {"absolute": "actions_abs", "relative": "actions"}
"""Data set that holds the actions of each kind of control."""

_DTYPES = {None: "float32", torch.uint8: "uint8", torch.uint16: "uint16"}


@dataclass(frozen=True)
class Needed:
    """One array of every demonstration: (T, *shape) of this type; `perceived`: a picture, a grid or a cloud."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    perceived: bool = False

    @property
    def step_bytes(self) -> int:
        """Bytes of one step."""
        return math.prod(self.shape) * self.dtype.itemsize


def action_key(control: str) -> str:
    """Data set of the actions for this control. Raises DataError."""
    if control not in ACTIONS:
        raise DataError(f"control: expected 'absolute' or 'relative', got {control!r}")
    return ACTIONS[control]


def needed_arrays(spec: Spec, control: str) -> dict[str, Needed]:
    """{data set within a demonstration, e.g. "obs/cube_pos" or "actions_abs": what it must be}."""
    of_vectors = {source.key for field in spec.observation.fields if field.vector for source in field.sources}
    arrays = {
        f"obs/{key}": Needed(source.shape, np.dtype(_DTYPES[source.dtype]), key not in of_vectors)
        for key, source in spec.observation.sources.items()
    }
    return {**arrays, action_key(control): Needed((spec.action_size,), np.dtype("float32"))}


def as_stored(values: NDArray[Any], need: Needed, at: str, first: int = 0) -> NDArray[Any]:
    """`values` as the type that is needed, all finite. Raises DataError.

    at: name of the array in errors; first: step of the demonstration at which `values` begins.
    """
    if need.dtype.kind == "u" and values.dtype != need.dtype:
        limits = np.iinfo(need.dtype)
        fits = values.dtype.kind in "ui" and (
            not values.size or limits.min <= values.min() <= values.max() <= limits.max
        )
        if not fits:
            raise DataError(
                f"{at} is stored as {values.dtype}, expected {need.dtype}: whole numbers from {limits.min} to "
                f"{limits.max}. {_RENDER}"
            )
    try:
        values = values.astype(need.dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{at} holds {values.dtype}, expected numbers ({error})") from error
    if need.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            where = (index[0] + first, *index[1:])
            raise DataError(f"{at} is {values[index]} at index {where}; repair or drop this demonstration")
    return values


def how_to_get(need: Needed) -> str:
    """What to do if the array is missing or of another shape."""
    return _RENDER if need.perceived else _PREPARE


def mixed(name: str, first: str) -> str:
    """End of a message about a demonstration that differs from the first one."""
    return (
        f"{first} has it as expected: the file mixes demonstrations that were made differently. Make all of them "
        f"alike, or leave {name} out by a mask (data.mask=...)"
    )


def describe(arrays: Mapping[str, Needed]) -> dict[str, Any]:
    """JSON form."""
    return {key: {"shape": list(need.shape), "dtype": need.dtype.name} for key, need in arrays.items()}


_PREPARE = (
    "Files from elsewhere hold the simulator's states: training derives the missing arrays from them "
    "if the simulator is installed (pip install 'equidiff[sim]')."
)
_RENDER = (
    "Pictures, depth, voxels and point clouds of the size that the policy reads are made from the stored states: "
    "python scripts/prepare_data.py data=FILE obs=image (or depth, voxel, point_cloud); or set obs.fields.size=... "
    "and the like to what the file has."
)
