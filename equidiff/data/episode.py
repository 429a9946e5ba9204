"""`Episode`: one demonstration in memory, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "Episode"]


class DataError(ValueError):
    """Demonstrations that are missing, damaged or do not fit the spec; says where, what and the fix."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of T control steps; action t follows observation t.

    obs: {key: (T, *shape)}, raw storage form: float32, pictures and grids uint8, depth uint16. action: (T, A) float32.
    """

    name: str
    obs: Mapping[str, NDArray[Any]]
    action: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {"action": len(self.action), **{key: len(value) for key, value in self.obs.items()}}
        if len(set(lengths.values())) != 1 or not len(self.action):
            raise DataError(f"{self.name}: expected arrays of one length > 0, got {lengths}")

    def __len__(self) -> int:
        return len(self.action)
