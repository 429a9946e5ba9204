"""HDF5 files that are there whole or not at all, whatever happens to the disk or the process."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

__all__ = ["need_room", "put_whole", "whole_file"]

_SPARE = 16 * 2**20  # bytes; what a file system keeps for itself


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


def need_room(folder: Path, size: int) -> None:
    """Raise OSError unless `size` bytes can be written in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise OSError(
            errno.ENOSPC, f"{size / 1e6:.0f} MB are needed in {folder or '.'}, {free / 1e6:.0f} MB are free; make room"
        )
