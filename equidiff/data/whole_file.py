"""HDF5 files that are there whole or not at all, whatever happens to the disk or the process."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

__all__ = ["edited_copy", "need_room", "put_whole", "whole_file"]

_SPARE = 16 * 2**20  # bytes; what a file system keeps for itself
_OBJECT = 16 * 2**10  # bytes; more than HDF5 takes for a data set beside its values


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new file to write to, which appears at `path` when the block ends without an exception.

    It is made in memory: when the disk is full, HDF5 reports it where Python cannot see it, and may crash. Here it is
    an OSError like any other. For files that fit in memory.
    """
    target = Path(path)
    with h5py.File(target.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    with put_whole(target) as temporary:
        temporary.write_bytes(content)


@contextmanager
def put_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what is there when the block ends gets the final name, safely on the disk."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def edited_copy(source: Path, path: Path, arrays: Mapping[str, NDArray[Any] | None]) -> Iterator[h5py.File]:
    """A copy of an HDF5 file with data sets put in or replaced, which appears at `path` when the block ends well.

    arrays: {name: values; None removes what is there}, in their order. The block may add attributes. What this needs is
    reserved before HDF5 opens the copy: on a full disk it would not raise an OSError, and may crash. `path` may be
    `source`.
    """
    size = source.stat().st_size + _SPARE + sum(_OBJECT + (0 if v is None else v.nbytes) for v in arrays.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    need_room(path.parent, size)
    with put_whole(path) as temporary:
        shutil.copyfile(source, temporary)
        with temporary.open("r+b") as written:
            os.posix_fallocate(written.fileno(), 0, size)  # HDF5 gives back what it does not use
        with h5py.File(temporary, "r+") as file:
            for name, values in arrays.items():
                if name in file:
                    del file[name]
                if values is not None:
                    file.create_dataset(name, data=values)
            yield file
            file.flush()


def need_room(folder: Path, size: int) -> None:
    """Raise OSError unless `size` bytes can be written in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise OSError(
            errno.ENOSPC, f"{size / 1e6:.0f} MB are needed in {folder or '.'}, {free / 1e6:.0f} MB are free; make room"
        )
