"""The steps of all demonstrations, one after the other: in memory, or the large arrays on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from equidiff.data.episode import DataError, Episode
from equidiff.data.flat import FlatFile

__all__ = ["ACTION", "CachedEpisode", "DiskSteps", "MemorySteps", "Steps", "steps_of"]

ACTION = "action"
_SMALL = 512  # bytes of a step up to which an array is read into memory: poses and the like


class Steps(Protocol):
    """Rows of arrays; demonstration i is the rows first[i] to first[i] + lengths[i] - 1."""

    first: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys."""

    @property
    def device(self) -> torch.device:
        """Where `take` gives its arrays."""

    @property
    def nbytes(self) -> int:
        """Memory that is held."""

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of one step."""

    def dtype(self, key: str) -> torch.dtype:
        """Type as stored."""

    def on_disk(self, key: str) -> bool:
        """Whether `take` reads from disk."""

    def take(self, key: str, rows: Tensor) -> Tensor:
        """Rows (...,) of an observation key or of ACTION: a new array (..., *shape) as it is stored."""

    def to(self, device: torch.device | str) -> None:
        """Move what is in memory; raises DataError if something is on disk."""


class MemorySteps:
    """All arrays in memory, on any device."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self.lengths = tuple(len(e) for e in episodes)
        self.first = tuple(int(n) for n in np.cumsum([0, *self.lengths[:-1]]))
        obs = {key: np.concatenate([e.obs[key] for e in episodes]) for key in episodes[0].obs}
        self._arrays = {key: torch.from_numpy(value) for key, value in obs.items()}
        self._action = torch.from_numpy(np.concatenate([e.action for e in episodes]))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    @property
    def device(self) -> torch.device:
        return self._action.device

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (*self._arrays.values(), self._action))

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._of(key).shape[1:])

    def dtype(self, key: str) -> torch.dtype:
        return self._of(key).dtype

    def on_disk(self, key: str) -> bool:
        return False

    def take(self, key: str, rows: Tensor) -> Tensor:
        return _take(self._of(key), rows)

    def to(self, device: torch.device | str) -> None:
        self._action = self._action.to(device)
        self._arrays = {key: value.to(device) for key, value in self._arrays.items()}

    def _of(self, key: str) -> Tensor:
        return self._action if key == ACTION else self._arrays[key]


class CachedEpisode:
    """One demonstration whose arrays lie in a cache on disk: `len` gives its steps, its values are read by windows."""

    def __init__(self, name: str, files: Mapping[str, FlatFile], first: int, length: int) -> None:
        self.name, self.files, self.first, self._length = name, files, first, length

    def __len__(self) -> int:
        return self._length


class DiskSteps:
    """Large arrays (pictures, grids, clouds) stay in the files of a cache, small ones are read into memory."""

    device = torch.device("cpu")

    def __init__(self, episodes: Sequence[CachedEpisode]) -> None:
        files = episodes[0].files
        if any(e.files is not files for e in episodes):
            raise DataError("windows: the demonstrations are from different caches; open them together")
        self.first = tuple(e.first for e in episodes)
        self.lengths = tuple(len(e) for e in episodes)
        self._files = {key: file for key, file in files.items() if _bytes(file) > _SMALL}
        self._small = {key: torch.from_numpy(file.all()) for key, file in files.items() if _bytes(file) <= _SMALL}
        self.keys = tuple(key for key in files if key != ACTION)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self._small.values())

    def shape(self, key: str) -> tuple[int, ...]:
        return self._files[key].shape if key in self._files else tuple(self._small[key].shape[1:])

    def dtype(self, key: str) -> torch.dtype:
        if key in self._small:
            return self._small[key].dtype
        return torch.from_numpy(np.empty(0, self._files[key].dtype)).dtype

    def on_disk(self, key: str) -> bool:
        return key in self._files

    def take(self, key: str, rows: Tensor) -> Tensor:
        if key in self._small:
            return _take(self._small[key], rows)
        return torch.from_numpy(self._files[key].take(rows.numpy()))

    def to(self, device: torch.device | str) -> None:
        if torch.device(device) != self.device:
            raise DataError(f"windows read from disk cannot be moved to {device}; move their batches")


def steps_of(episodes: Sequence[Episode] | Sequence[CachedEpisode]) -> Steps:
    """Episodes in memory or in a cache, not both. Raises DataError."""
    if not episodes:
        raise DataError("WindowDataset: no episodes were given")
    cached = [e for e in episodes if isinstance(e, CachedEpisode)]
    loaded: list[Any] = [e for e in episodes if not isinstance(e, CachedEpisode)]
    if cached and loaded:
        raise DataError("windows: some demonstrations are in memory, others in a cache; read them alike")
    return DiskSteps(cached) if cached else MemorySteps(loaded)


def _take(array: Tensor, rows: Tensor) -> Tensor:
    """array[rows], but copied row by row: ten times as fast for pictures."""
    return array.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *array.shape[1:])


def _bytes(file: FlatFile) -> int:
    return int(np.prod(file.shape, dtype=np.int64)) * file.dtype.itemsize
