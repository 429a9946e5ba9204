"""A cache beside a file of demonstrations: one flat array per key, built once, read at random.

    .NAME.cache/<16 hex digits>/   of the file's fingerprint, the demonstrations and the arrays
      header.json                  {"format", "file", "mark", "demonstrations": {name: steps}, "arrays": {key: ...}}
      00_obs_agentview_image.npy, ...  (steps of all demonstrations, *shape), in the order of the header

A cache gets its name by a rename when it is complete, so what is there under such a name can be used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from equidiff.data.alone import alone
from equidiff.data.episode import DataError
from equidiff.data.flat import FlatFile, start_flat
from equidiff.data.needed import ACTIONS, Needed, describe
from equidiff.data.robomimic import DemoFile, content_mark
from equidiff.data.steps import ACTION, CachedEpisode
from equidiff.folders import cache_folder
from equidiff.results import write_json

__all__ = ["cache_folders", "cached_bytes", "open_cache"]

_FORMAT = 1
_HEADER = "header.json"
_PIECE = 16 * 2**20  # bytes taken from the HDF5 file at once
_SPARE = 64 * 2**20  # bytes of the disk that are left free
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_cache(
    file: DemoFile,
    arrays: Mapping[str, Needed],
    names: Sequence[str],
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> list[CachedEpisode]:
    """The demonstrations `names` with `arrays` (see `needed_arrays`), read from a cache that is built if there is none.

    A cache that holds more than is asked for serves as well. folder: where caches are kept; None: beside the file,
    or in the user's cache folder if that may not be written. Values are checked (type, finite) when the cache is
    built. Several processes may call this at once: one builds, the others wait. Caches of what the file was before a
    change are never used, and removed when the new one is built. Raises DataError.
    """
    wanted = _Content(content_mark(file.path), file.check(names, arrays), dict(arrays))
    roots = cache_folders(file.path, folder)
    for root in roots:
        for cache in sorted(root.glob("*/" + _HEADER)):
            if (found := _open(cache.parent, wanted)) is not None:
                return found
    root = _writable(roots)
    with alone(root, f"{root}: another process is building the cache; waiting for it"):
        _tidy(root, wanted)
        target = root / wanted.identity
        found = _open(target, wanted)  # another process may just have built it
        if found is None:
            shutil.rmtree(target, ignore_errors=True)  # damaged
            _build(file, wanted, target, progress)
            found = _open(target, wanted)
    if found is None:
        raise DataError(f"{target}: cannot be read although it was just written; is the disk in order?")
    return found


def cache_folders(path: Path, folder: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """Where the caches of a file may be, in the order in which they are looked for."""
    owner = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    elsewhere = f"{path.name}-{owner}.cache"
    if folder is not None:
        return (Path(folder) / elsewhere,)
    return (path.parent / f".{path.name}.cache", cache_folder() / "data" / elsewhere)


def cached_bytes(steps: int, arrays: Mapping[str, Needed]) -> int:
    """Size of so many steps of the arrays."""
    return steps * sum(need.step_bytes for need in arrays.values())


@dataclass(frozen=True)
class _Content:
    """What a cache holds: of which file, which demonstrations (and their steps), which arrays."""

    mark: str
    steps: Mapping[str, int]
    arrays: Mapping[str, Needed]

    @property
    def identity(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:16]

    @property
    def rows(self) -> int:
        return sum(self.steps.values())

    def to_json(self) -> dict[str, Any]:
        steps = dict(self.steps)
        return {"format": _FORMAT, "mark": self.mark, "demonstrations": steps, "arrays": describe(self.arrays)}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> _Content:
        if tree["format"] != _FORMAT:
            raise ValueError(f"format {tree['format']}")
        steps = {str(name): int(count) for name, count in tree["demonstrations"].items()}
        arrays = {
            str(key): Needed(tuple(int(n) for n in about["shape"]), np.dtype(str(about["dtype"])))
            for key, about in tree["arrays"].items()
        }
        if any(need.dtype.kind not in "fu" for need in arrays.values()):
            raise ValueError("a type that is never stored")
        return cls(str(tree["mark"]), steps, arrays)

    def covers(self, other: _Content) -> bool:
        return (
            self.mark == other.mark
            and other.steps.items() <= dict(self.steps).items()
            and describe(other.arrays).items() <= describe(self.arrays).items()
        )

    def file_names(self) -> dict[str, str]:
        return {key: f"{i:02d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', key)}.npy" for i, key in enumerate(self.arrays)}


def _open(folder: Path, wanted: _Content) -> list[CachedEpisode] | None:
    """The demonstrations if the cache in this folder is whole and has them."""
    try:
        content = _Content.from_json(json.loads((folder / _HEADER).read_text()))
        if not content.covers(wanted):
            return None
        names = content.file_names()
        files = {
            _short(key): FlatFile(folder / names[key], content.rows, need.shape, need.dtype)
            for key, need in wanted.arrays.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, cut or foreign: built again
        return None
    ends = np.cumsum([*content.steps.values()]).tolist()
    first = {name: end - steps for (name, steps), end in zip(content.steps.items(), ends, strict=True)}
    return [CachedEpisode(name, files, first[name], steps) for name, steps in wanted.steps.items()]


def _short(key: str) -> str:
    return ACTION if key in ACTIONS.values() else key.removeprefix("obs/")


def _writable(roots: Sequence[Path]) -> Path:
    for root in roots:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in _LOCKED:
                continue
            raise DataError(f"{root}: cannot be made ({error}); choose a folder by data.cache_dir=...") from error
        if os.access(root, os.W_OK | os.X_OK):
            return root
    raise DataError(
        f"{' and '.join(str(root) for root in roots)} may not be written, and the cache of the demonstrations must be "
        "somewhere; choose a folder by data.cache_dir=..., or data.cache=memory"
    )


def _tidy(root: Path, wanted: _Content) -> None:
    """Remove what killed processes left, and caches of what the file was before it changed."""
    for folder in root.iterdir():
        if folder.name.endswith(".part"):
            shutil.rmtree(folder, ignore_errors=True)
        elif (folder / _HEADER).is_file():
            try:
                mark = json.loads((folder / _HEADER).read_text())["mark"]
            except (OSError, ValueError, KeyError, TypeError):
                mark = None
            if mark != wanted.mark:
                shutil.rmtree(folder, ignore_errors=True)


def _build(file: DemoFile, wanted: _Content, target: Path, progress: bool) -> None:
    size = cached_bytes(wanted.rows, wanted.arrays)
    free = shutil.disk_usage(target.parent).free
    fix = (
        "free some space, choose a folder on another disk by data.cache_dir=..., or fewer demonstrations (data.n_demo)"
    )
    if free < size + _SPARE:
        raise DataError(
            f"{target.parent}: the cache of {file.path.name} needs {size / 1e9:.2f} GB, but only {free / 1e9:.2f} GB "
            f"are free; {fix}"
        )
    temporary = target.with_name(f".{target.name}.part")
    try:
        temporary.mkdir()
        _write(file, wanted, temporary, size, progress)
        if content_mark(file.path) != wanted.mark:
            raise DataError(f"{file.path}: was changed while its cache was built; start again when it is complete")
        write_json(temporary / _HEADER, {"file": file.path.name, **wanted.to_json()})
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        full = error.errno in _FULL
        fix = fix if full else "choose another folder by data.cache_dir=..."
        raise DataError(
            f"{target.parent}: the cache of {file.path.name} ({size / 1e9:.2f} GB) cannot be written "
            f"({'the disk is full' if full else error}); {fix}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(file: DemoFile, wanted: _Content, folder: Path, size: int, progress: bool) -> None:
    names = wanted.file_names()
    with ExitStack() as stack:
        out = {key: stack.enter_context((folder / name).open("wb")) for key, name in names.items()}
        for key, need in wanted.arrays.items():
            start_flat(out[key], wanted.rows, need.shape, need.dtype)
        label = f"cache of {file.path.name}"
        bar = stack.enter_context(tqdm(total=size, desc=label, unit="B", unit_scale=True, disable=not progress))
        for name, steps in wanted.steps.items():
            for key, need in wanted.arrays.items():
                rows = max(1, _PIECE // max(1, need.step_bytes))
                for start in range(0, steps, rows):
                    values = file.read(name, key, need, slice(start, start + rows))
                    _put(out[key], np.ascontiguousarray(values))
                    bar.update(values.nbytes)
        for handle in out.values():
            handle.flush()
            os.fsync(handle.fileno())


def _put(handle: Any, values: np.ndarray) -> None:
    """Write an array's bytes."""
    if math.prod(values.shape):
        handle.write(values.reshape(-1).view(np.uint8).data)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
