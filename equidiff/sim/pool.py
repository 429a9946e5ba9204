"""Tasks done by several processes, each with a simulator of its own, answered in their order."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from equidiff.sim.workers import end_with_parent, one_thread

__all__ = ["Maker", "in_order"]

Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)
Work = tuple[Any, ...]


class Maker(Protocol[Made_co]):
    """Does one task after another; holds a simulator."""

    def __call__(self, *task: Any) -> Made_co:
        """The result of a task, the same one whichever process does it."""

    def close(self) -> None:
        """Free the simulator."""


@contextmanager
def in_order(
    make: Callable[[], Maker[Made]], tasks: Iterable[Work], workers: int, died: Callable[[Work], Exception]
) -> Iterator[Iterator[Made]]:
    """An iterator of the results of `tasks`, which may go on for ever, in their order.

    make: picklable; called once in each worker process, or in this process with workers=1. died: the error to raise
    when a worker dies near a task. Leaving the context ends the processes; they also end if this one is killed.
    """
    if workers == 1:
        maker = make()
        try:
            yield (maker(*task) for task in tasks)
        finally:
            maker.close()
        return
    with one_thread():
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (make,))
        todo = iter(tasks)
        # one more than there are workers, so that none waits for this process
        waiting = deque((task, pool.submit(_do, task)) for task in itertools.islice(todo, workers + 1))
    try:
        yield _answers(pool, todo, waiting, died)
    finally:
        pool.shutdown(cancel_futures=True)


def _answers(
    pool: ProcessPoolExecutor,
    todo: Iterator[Work],
    waiting: deque[tuple[Work, Future[Any]]],
    died: Callable[[Work], Exception],
) -> Iterator[Any]:
    while waiting:
        task, future = waiting.popleft()
        try:
            made = future.result()
            for following in itertools.islice(todo, 1):
                waiting.append((following, pool.submit(_do, following)))
        except BrokenProcessPool as error:
            raise died(task) from error
        yield made


_maker: Maker[Any] | None = None


def _start(make: Callable[[], Maker[Any]]) -> None:
    global _maker
    end_with_parent()
    gc.freeze()  # robosuite collects garbage at each scene: not through all of the libraries
    _maker = make()


def _do(task: Work) -> Any:
    assert _maker is not None
    return _maker(*task)
