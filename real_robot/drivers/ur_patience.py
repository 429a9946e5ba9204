"""`within`: a call into ur_rtde that may wait for ever, given up after some seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from real_robot.contract import RobotError

__all__ = ["within"]

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], silent: str, undo: Callable[[T], object] = lambda found: None) -> T:
    """What `call` returns or raises. RobotError(`silent`) when it takes longer; `undo` then gets what still comes.

    >>> within(1.0, lambda: 7, "no answer")
    7
    """
    results: list[T] = []
    errors: list[Exception] = []
    lock = threading.Lock()
    finished, abandoned = threading.Event(), threading.Event()

    def run() -> None:
        try:
            found = call()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)
        else:
            with lock:
                if abandoned.is_set():
                    undo(found)
                else:
                    results.append(found)
        finished.set()

    threading.Thread(target=run, daemon=True, name="ur-within").start()
    finished.wait(seconds)
    with lock:
        abandoned.set()
    if errors:
        raise errors[0]
    if not results:
        raise RobotError(silent)
    return results[0]
