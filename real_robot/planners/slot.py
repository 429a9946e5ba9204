"""`Slot`: the one request under way and what became of it, shared by the loop's thread and a worker's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from real_robot.planner import PlannerError
from real_robot.settings import SettingsError
from real_robot.types import PlanRequest

__all__ = ["Slot"]

T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    why: str


class Slot(Generic[T]):
    """Numbers the requests, so that the late answer to one that timed out is never taken for the next one's.

    timeout: seconds from `begin` until `poll` gives up on a request.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not timeout > 0:
            raise SettingsError(f"timeout: expected seconds > 0, got {timeout}")
        self._timeout, self._clock = timeout, clock
        self._lock = threading.Lock()
        self._count = 0
        self._request: PlanRequest | None = None
        self._since = 0.0
        self._outcome: T | _Failed | None = None
        self._gone: str | None = None
        self._closed = False

    @property
    def gone(self) -> str | None:
        """Why no request is taken now, or None."""
        return self._gone

    def begin(self, request: PlanRequest) -> int:
        """Put a request under way; returns its number for `end` and `fail`."""
        with self._lock:
            if self._gone is not None:
                raise PlannerError(self._gone)
            if self._request is not None:
                raise ValueError(f"request {request.number}: {self._request.number} is still under way; poll for it")
            self._count += 1
            self._request, self._since, self._outcome = request, self._clock(), None
            return self._count

    def waiting(self, number: int) -> PlanRequest | None:
        """The request under way, if it still is the one of that number."""
        with self._lock:
            return self._request if number == self._count else None

    def end(self, number: int, outcome: T) -> None:
        """The answer; one that nobody waits for any more is dropped."""
        self._put(number, outcome)

    def fail(self, number: int, why: str) -> None:
        """No answer to this request; the next one is taken."""
        self._put(number, _Failed(why))

    def _put(self, number: int, outcome: T | _Failed) -> None:
        with self._lock:
            if self._request is not None and number == self._count:
                self._outcome = outcome

    def drop(self) -> None:
        """Wait for the request under way no more."""
        with self._lock:
            self._request = self._outcome = None

    def lose(self, why: str) -> None:
        """No answers until `regain`."""
        with self._lock:
            if not self._closed:
                self._gone = why
                if self._request is not None:
                    self._outcome = _Failed(why)

    def regain(self) -> None:
        """Requests are taken again."""
        with self._lock:
            if not self._closed:
                self._gone = None

    def close(self) -> None:
        """No answers any more; for good."""
        self.lose("the planner is closed")
        with self._lock:
            self._closed = True

    def poll(self) -> T | None:
        """The answer, once. PlannerError, once for each request that failed or is late, and always while lost."""
        with self._lock:
            if self._gone is not None:
                self._request = None
                raise PlannerError(self._gone)
            if self._request is None:
                return None
            request, outcome = self._request, self._outcome
            if outcome is None and self._clock() - self._since <= self._timeout:
                return None
            self._request = self._outcome = None
            if outcome is None:
                raise PlannerError(f"request {request.number}: no answer within {self._timeout:g} s")
            if isinstance(outcome, _Failed):
                raise PlannerError(f"request {request.number}: {outcome.why}")
            return outcome
