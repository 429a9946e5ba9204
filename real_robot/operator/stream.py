"""Bytes of a device file, without ever waiting for them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from real_robot.operator.contract import OperatorError

__all__ = ["Stream", "StreamLostError"]


class StreamLostError(OperatorError):
    """The device is gone."""


class Stream:
    """A device file opened for reading without waiting."""

    def __init__(self, path: Path, advice: str) -> None:
        try:
            self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise OperatorError(f"{path}: {error.strerror}; {advice}") from error
        self.path = path

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" when there are none now. Raises StreamLostError when there will be no more."""
        if self._descriptor is None:
            raise StreamLostError(f"{self.path}: closed")
        try:
            data = os.read(self._descriptor, size)
        except BlockingIOError:
            return b""
        except OSError as error:
            gone = "unplugged" if error.errno in (errno.ENODEV, errno.EIO, errno.ENXIO) else error.strerror
            raise StreamLostError(f"{self.path}: {gone}") from error
        if not data:
            raise StreamLostError(f"{self.path}: closed by the other side")
        return data

    def close(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
