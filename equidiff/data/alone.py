"""One process at a time in a folder; the system frees the lock of a process that was killed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from equidiff.data.episode import DataError

__all__ = ["alone", "alone_in_parts", "clear_folder", "lock_folder"]

_LOCK = ".lock"
_PATIENCE = 0.5  # seconds after which it is said that another process is waited for


def lock_folder(folder: Path, waiting: str | None = None) -> FileLock:
    """The lock of a folder, which is made if it is not there; held until `release`, or until it is forgotten.

    waiting: what to print, once, if another process has it, before waiting for that one; None: raise DataError.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, thread_local=False)  # may be released by another thread of the process
        try:
            if waiting is None:
                lock.acquire(timeout=0)
            else:
                _wait(lock, waiting)
        except Timeout as error:
            raise DataError(
                f"{folder}: another process is at work there; wait for it, or choose another out="
            ) from error
        except FileNotFoundError:  # the process that was waited for has removed the folder
            continue
        if (folder / _LOCK).exists():
            return lock
        lock.release()  # of a file that was removed: it keeps nobody out


@contextmanager
def alone(folder: Path, waiting: str | None = None) -> Iterator[None]:
    """`lock_folder` while the block lasts."""
    lock = lock_folder(folder, waiting)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in_parts(out: Path, waiting: str | None = None) -> Iterator[Path]:
    """`.NAME.parts` beside an output, for one process; removed at the end unless there are finished parts in it."""
    parts = out.parent / f".{out.name}.parts"
    with alone(parts, waiting):
        try:
            yield parts
        finally:
            if not any(parts.glob("*.hdf5")):
                clear_folder(parts)


def clear_folder(folder: Path) -> None:
    """Remove a folder whose lock this process has. The lock goes last: then another process may begin there."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()
    (folder / _LOCK).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):  # another process has begun, or even finished
            raise


def _wait(lock: FileLock, waiting: str) -> None:
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        print(waiting, flush=True)
        lock.acquire()
