"""Batches for the loop: read ahead in threads, and in pieces that do not fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

from equidiff.data.windows import WindowDataset
from equidiff.spec import Batch, Spec

__all__ = ["ReadAhead", "fitting_batches", "on_device", "pinned", "rows_of_piece", "validation_draws"]

_PIECE = 256 * 2**20  # bytes of a piece of windows that is not a training batch
_DRAWS = 2048  # windows x noises of one validation: always the same ones

_Read = TypeVar("_Read")


class ReadAhead(Generic[_Read]):
    """`read(plan(step))` for one step after the other; the next `depth` ones are read in threads meanwhile.

    plan: which windows a step sees, called in the caller's thread; read: makes the batch and draws nothing at random,
    so that depth changes nothing but the time. depth=0 reads when asked. Steps after `last` are not read. An error of
    `read` is raised at its step.
    """

    def __init__(self, plan: Callable[[int], Tensor], read: Callable[[Tensor], _Read], last: int, depth: int) -> None:
        self._plan, self._read, self._last, self._depth = plan, read, last, depth
        self._waiting: dict[int, Future[_Read]] = {}
        self._pool: ThreadPoolExecutor | None = None
        if depth:
            same = partial(torch.set_num_threads, torch.get_num_threads())  # a new thread would take all cores
            self._pool = ThreadPoolExecutor(depth, "read-ahead", initializer=same)

    def close(self) -> None:
        """End the threads; what they have not begun is not read."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> _Read:
        """What was read for this step."""
        if self._pool is None:
            return self._read(self._plan(step))
        for coming in range(step, min(step + self._depth, max(self._last, step)) + 1):
            if coming not in self._waiting:
                self._waiting[coming] = self._pool.submit(self._read, self._plan(coming))
        return self._waiting.pop(step).result()


def fitting_batches(windows: WindowDataset, spec: Spec, most: int = 4096) -> Iterator[Batch]:
    """All windows in order, for fitting the normaliser; pictures and the like, which have no scale, stay on disk."""
    vectors = {source.key for field in spec.observation.fields if field.vector for source in field.sources}
    blank = [key for key in windows.disk_keys if key not in vectors]
    rows = rows_of_piece(windows, most, blank)
    for first in range(0, len(windows), rows):
        yield windows.batch(range(first, min(first + rows, len(windows))), blank=blank)


def rows_of_piece(windows: WindowDataset, most: int, blank: Collection[str] = ()) -> int:
    """Windows of a piece of at most 256 MiB: from 1 to `most`."""
    return max(1, min(most, _PIECE // max(1, windows.window_bytes(blank))))


def validation_draws(windows: WindowDataset, batch_size: int) -> tuple[Tensor, ...]:
    """The windows of a validation, evenly over all of them or each several times, in pieces: always the same."""
    size = len(windows)
    draws = torch.arange(_DRAWS) % size if size < _DRAWS else torch.linspace(0, size - 1, _DRAWS).long()
    # small windows as ever; of pictures no more than training takes at once
    rows = 512 if 512 * windows.window_bytes() <= _PIECE // 16 else min(512, batch_size)
    return draws.chunk(-(-len(draws) // rows))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    if batch["action"].device == device:
        return batch
    obs = {key: value.to(device, non_blocking=True) for key, value in batch["obs"].items()}
    return {"obs": obs, "action": batch["action"].to(device, non_blocking=True)}


def pinned(batch: Batch) -> Batch:
    """The batch in memory that a GPU copies from while the processor goes on."""
    return {
        "obs": {key: value.pin_memory() for key, value in batch["obs"].items()},
        "action": batch["action"].pin_memory(),
    }
