"""A ring of stamped arrays in shared memory: one process writes, any number read, and nobody waits for a lock.

Each slot carries the number of its item twice, written before and after the data. A reader that finds two different
numbers, or another than it asked for, was overtaken by the writer, and reads a newer item. The segment belongs to the
process that made it (the reader's side), so that a killed writer leaves nothing behind.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Item", "Ring", "RingError", "RingInfo", "RingReader", "RingWriter"]

_OPEN, _CLOSED, _FAILED = 0, 1, 2
_MESSAGE = 512  # bytes for the writer's last words
_HEADER = 64 + _MESSAGE
_SLOT = 64  # number (before), number (after), tag, stamp; then the arrays, each on cache lines of its own
_MADE: set[str] = set()  # segments of this process


class RingError(RuntimeError):
    """A ring whose writer ended or failed, that is gone, or data of another shape; the message says which."""


@dataclass(frozen=True)
class RingInfo:
    """Where a ring is and what lies in it: all that another process needs to open it.

    fields: (name, shape, dtype name) of the arrays of an item.
    """

    name: str
    fields: tuple[tuple[str, tuple[int, ...], str], ...]
    slots: int

    @property
    def slot_size(self) -> int:
        """Bytes of a slot."""
        return _SLOT + sum(_line(_bytes(shape, kind)) for _, shape, kind in self.fields)

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return _line(_HEADER) + self.slots * self.slot_size


@dataclass(frozen=True, eq=False)
class Item:
    """Copies of what was written: its number (0, 1, ...), stamp in seconds, a whole number of the writer's, arrays."""

    number: int
    stamp: float
    tag: int
    arrays: dict[str, NDArray[Any]]


class Ring:
    """Makes the segment, and removes it on `close`.

    fields: {name: (shape, dtype name)}, the same for every item. Raises ValueError for what is no ring.
    """

    def __init__(self, fields: Mapping[str, tuple[tuple[int, ...], str]], slots: int) -> None:
        if slots < 3:
            raise ValueError(f"Ring.slots: a reader needs at least 3 of them, got {slots}")
        described = tuple((name, tuple(shape), np.dtype(kind).name) for name, (shape, kind) in fields.items())
        self._memory: SharedMemory | None = SharedMemory(create=True, size=RingInfo("", described, slots).size)
        _MADE.add(self._memory.name)
        self.info = RingInfo(self._memory.name, described, slots)

    def close(self) -> None:
        """Remove the segment; who has it open keeps it until it closes it. Idempotent."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
            memory.unlink()
            _MADE.discard(memory.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Side:
    """What writer and reader share: the segment as numpy views."""

    def __init__(self, info: RingInfo) -> None:
        self.info = info
        self._memory: SharedMemory | None = _attach(info)
        buffer = self._memory.buf
        self._fence_lock = threading.Lock()
        # 0 items written, 1 state, 2 length of the message
        self._counts: NDArray[np.int64] = np.ndarray(3, np.int64, buffer)
        self._beat: NDArray[np.float64] = np.ndarray(1, np.float64, buffer, 24)
        self._message: NDArray[np.uint8] = np.ndarray(_MESSAGE, np.uint8, buffer, 64)
        self._heads: list[NDArray[np.int64]] = []
        self._stamps: list[NDArray[np.float64]] = []
        self._arrays: list[dict[str, NDArray[Any]]] = []
        for slot in range(info.slots):
            at = _line(_HEADER) + slot * info.slot_size
            self._heads.append(np.ndarray(3, np.int64, buffer, at))  # first number, last number, tag
            self._stamps.append(np.ndarray(1, np.float64, buffer, at + 24))
            at += _SLOT
            views: dict[str, NDArray[Any]] = {}
            for name, shape, kind in info.fields:
                views[name] = np.ndarray(shape, kind, buffer, at)
                at += _line(_bytes(shape, kind))
            self._arrays.append(views)

    def close(self) -> None:
        """Let go of the segment; idempotent."""
        memory, self._memory = self._memory, None
        if memory is not None:
            del self._counts, self._beat, self._message
            self._heads, self._stamps, self._arrays = [], [], []
            memory.close()

    def _opened(self) -> None:
        if self._memory is None:
            raise RingError(f"ring {self.info.name}: closed already")

    def _fence(self) -> None:
        """Stores before are seen before those after, on processors other than x86 too: two locked sections do that."""
        for _ in range(2):
            with self._fence_lock:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RingWriter(_Side):
    """The one who writes. A second writer is a mistake that nobody notices: there must be one."""

    def write(self, stamp: float, arrays: Mapping[str, NDArray[Any]], tag: int = 0) -> int:
        """Append an item and return its number; readers are never waited for. ValueError for another shape or dtype."""
        self._opened()
        if not math.isfinite(stamp):
            raise ValueError(f"ring: expected a finite stamp, got {stamp}")
        for name, shape, kind in self.info.fields:
            value = arrays.get(name)
            if value is None or value.shape != shape or value.dtype != kind:
                got = "nothing" if value is None else f"{value.dtype} {value.shape}"
                raise ValueError(f"ring: expected {name!r} as {kind} {shape}, got {got}")
        number = int(self._counts[0])
        slot = number % self.info.slots
        head = self._heads[slot]
        head[0] = number + 1  # 0 is a slot that was never written
        self._fence()
        self._stamps[slot][0] = stamp
        head[2] = tag
        for name, view in self._arrays[slot].items():
            np.copyto(view, arrays[name])
        self._fence()
        head[1] = number + 1
        self._counts[0] = number + 1
        self.beat()
        return number

    def beat(self) -> None:
        """Say that the writer lives."""
        self._opened()
        self._beat[0] = time.monotonic()

    def fail(self, why: str) -> None:
        """Leave the reason for which there will be no more items; readers get it as RingError."""
        self._end(_FAILED, why)

    def finish(self) -> None:
        """Say that there will be no more items."""
        self._end(_CLOSED, "the writer has finished")

    def _end(self, state: int, why: str) -> None:
        self._opened()
        text = why.encode()[:_MESSAGE]
        self._message[: len(text)] = np.frombuffer(text, np.uint8)
        self._counts[2] = len(text)
        self._fence()
        self._counts[1] = state


class RingReader(_Side):
    """One of those who read. Every item is a copy of its own."""

    @property
    def written(self) -> int:
        """How many items were written so far."""
        self._opened()
        return int(self._counts[0])

    @property
    def beat_age(self) -> float:
        """Seconds since the writer last showed life; infinite before the first sign."""
        self._opened()
        beat = float(self._beat[0])
        return time.monotonic() - beat if beat else math.inf

    def check(self) -> None:
        """RingError with the writer's last words when it ended."""
        self._opened()
        if int(self._counts[1]) != _OPEN:
            self._fence()
            text = self._message[: int(self._counts[2])].tobytes().decode(errors="replace")
            raise RingError(text)

    def read(self, number: int, names: tuple[str, ...] | None = None) -> Item | None:
        """The item of that number, or None when it is not there yet or overwritten already. names: only these."""
        self._opened()
        if number < 0:
            return None
        slot = number % self.info.slots
        head = self._heads[slot]
        if int(head[1]) != number + 1:
            return None
        self._fence()
        stamp, tag = float(self._stamps[slot][0]), int(head[2])
        views = self._arrays[slot]
        arrays = {name: views[name].copy() for name in (views if names is None else names)}
        self._fence()
        if int(head[0]) != number + 1:  # the writer came round while we copied
            return None
        return Item(number, stamp, tag, arrays)

    def latest(self, names: tuple[str, ...] | None = None) -> Item | None:
        """The newest item; None when there is none yet. names: only these arrays are copied, () none of them."""
        for _ in range(100):
            written = self.written
            if not written:
                return None
            item = self.read(written - 1, names)
            if item is not None:
                return item
        raise self._overtaken()

    def _overtaken(self) -> RingError:
        return RingError(f"ring {self.info.name}: every read is overtaken; make more slots than {self.info.slots}")

    def heads(self) -> list[Item]:
        """The items that are there, oldest first, without their arrays."""
        written = self.written
        found = (self.read(n, ()) for n in range(max(0, written - self.info.slots), written))
        return [item for item in found if item is not None]

    def stamps(self) -> list[tuple[int, float]]:
        """(number, stamp) of the items that are there, oldest first."""
        return [(item.number, item.stamp) for item in self.heads()]

    def nearest(self, stamp: float) -> Item | None:
        """The item whose stamp is nearest to `stamp`; None when there is none yet."""
        for _ in range(100):
            known = self.stamps()
            if not known:
                return None
            item = self.read(min(known, key=lambda pair: abs(pair[1] - stamp))[0])
            if item is not None:
                return item
        raise self._overtaken()

    def wait(self, number: int, timeout: float, check: Callable[[], None] | None = None) -> Item | None:
        """The newest item with at least that number, or None after `timeout` seconds.

        check: called while waiting; what it raises ends the wait.
        """
        end = time.monotonic() + timeout
        for turn in itertools.count():
            if self.written > number:
                return self.latest()
            if check is not None:
                check()
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, 0.0005 if turn < 20 else 0.002))
        return None


def _attach(info: RingInfo) -> SharedMemory:
    try:
        if sys.version_info >= (3, 13):
            memory = SharedMemory(info.name, track=False)
        else:
            # Before 3.13 whoever opens a segment is taken for its owner, whose tracker removes it at the end. Children
            # by multiprocessing share their parent's tracker, where nothing changes; others take it back.
            memory = SharedMemory(info.name)
            if multiprocessing.parent_process() is None and info.name not in _MADE:
                resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]
    except FileNotFoundError as error:
        raise RingError(f"ring {info.name}: its segment is gone; the process that made it has ended") from error
    if memory.size < info.size:
        memory.close()
        raise RingError(f"ring {info.name}: {memory.size} bytes, expected {info.size}; it was made for other arrays")
    return memory


def _bytes(shape: tuple[int, ...], kind: str) -> int:
    return math.prod(shape) * np.dtype(kind).itemsize


def _line(size: int) -> int:
    return -(-size // 64) * 64
