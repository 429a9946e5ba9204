"""One array on disk as a plain .npy file, written step by step and read at random."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["FlatFile", "start_flat"]


class FlatFile:
    """Rows (N, *shape) of a .npy file, read by position and not mapped.

    Mapped pages would count as this process's memory, a file that was cut would kill it (SIGBUS), and every 4 kB
    of a picture would be a page fault of its own; one `preadv` reads a row straight into the batch, without holding
    Python's lock. Threads may read at the same time. Raises ValueError or OSError if the file is not what it was.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.rows, self.shape, self.dtype = path, rows, shape, dtype
        with path.open("rb") as file:
            found = _header(file)
            self._offset = file.tell()
        self._row = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        size = path.stat().st_size
        if found != ((rows, *shape), False, dtype) or size != self._offset + rows * self._row:
            raise ValueError(f"{path}: holds {found} in {size} bytes, expected {(rows, *shape)} of {dtype}")
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        if hasattr(os, "posix_fadvise"):  # rows are read at random: what lies behind them is not needed
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows (...,) in any order -> a new array (..., *shape)."""
        flat = np.ascontiguousarray(rows, dtype=np.int64).ravel()
        out = np.empty((len(flat), *self.shape), self.dtype)
        if not len(flat):
            return out.reshape(*np.shape(rows), *self.shape)
        if flat.min() < 0 or flat.max() >= self.rows:
            raise IndexError(f"{self.path}: rows {flat.min()} to {flat.max()} of {self.rows}")
        into = out.reshape(-1).view(np.uint8).data
        starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 2) != 1)  # consecutive rows are read at once
        ends = np.append(starts[1:], len(flat))
        for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._read(into[first * self._row : end * self._row], self._offset + int(flat[first]) * self._row)
        return out.reshape(*np.shape(rows), *self.shape)

    def all(self) -> NDArray[Any]:
        """The whole array, in memory."""
        return self.take(np.arange(self.rows))

    def _read(self, into: memoryview, offset: int) -> None:
        while into:
            count = os.preadv(self._descriptor, [into], offset)
            if not count:
                raise OSError(f"{self.path}: ends at byte {offset}, expected more; it was cut while in use")
            into, offset = into[count:], offset + count


def start_flat(file: IO[bytes], rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Write the header of a .npy file (rows, *shape); returns where the rows begin."""
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
    )
    return file.tell()


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if npy.read_magic(file) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    return shape, fortran, dtype
