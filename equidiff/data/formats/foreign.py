"""What the importer needs to know of a foreign dataset, whatever its format."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from equidiff.data.episode import DataError
from equidiff.data.robomimic import content_mark

__all__ = ["Feature", "ForeignDataset", "mark_of", "need", "refuse_non_finite", "writing"]


@dataclass(frozen=True)
class Feature:
    """One array of a foreign dataset: shape of a step, dtype, names of a vector's entries, whether it is a picture."""

    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...] = ()
    picture: bool = False

    def __str__(self) -> str:
        return f"{'picture' if self.picture else self.dtype} {self.shape}"


class ForeignDataset(Protocol):
    """A dataset opened for reading; nothing of it is ever changed."""

    where: Path
    kind: str
    features: Mapping[str, Feature]
    hz: float | None
    lengths: tuple[int, ...]

    @property
    def about(self) -> Mapping[str, Any]:
        """What an imported file keeps of its origin; datasets of different content differ in it, copies do not."""
        ...

    @property
    def valid(self) -> int:
        """Number of episodes at the end that are meant for validation."""
        ...

    def read(self, episode: int, keys: Collection[str]) -> dict[str, NDArray[Any]]:
        """Arrays {key: (T, *shape)} of one episode; raises DataError if they are damaged."""
        ...

    def close(self) -> None:
        """Close what is open; may be called twice."""
        ...


def need(module: str) -> Any:
    """Import a library of the extra `formats`, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"{module.partition('.')[0]} is not installed: pip install 'equidiff[formats]'") from error


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """A full disk, a missing right: DataError with the place and the fix instead of a trace."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{out}: cannot be written ({reason}). Free space or choose another place, and run the command again"
        ) from error


def mark_of(folder: Path, *parts: str) -> str:
    """Depends on the names and the content of all files in these folders of a folder.

    Reading them takes a small part of what decoding them takes. Raises DataError.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for part in parts for path in (folder / part).rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder).as_posix()} {content_mark(path)}\n".encode())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error
    return digest.hexdigest()[:16]


def refuse_non_finite(values: NDArray[Any], key: str, at: str) -> None:
    """DataError that names the first value that is not a finite number."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"{at}: {key!r} is {values[index]} at index {index}; repair or drop this episode")
