"""The one clock of a run: every observation, target and record is stamped with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from real_robot.settings import SettingsError

__all__ = ["Clock", "ManualClock", "MonotonicClock", "every"]


class Clock(Protocol):
    """Seconds that never run backwards."""

    def now(self) -> float:
        """The time, in seconds."""

    def sleep_until(self, when: float) -> None:
        """Return at `when`, at once if that is past."""


@dataclass(frozen=True)
class MonotonicClock:
    """The computer's monotonic clock, which all its processes share; a change of the date does not move it.

    rate: seconds of this clock for each real one, from `origin` on; other than 1 only in simulation.
    """

    rate: float = 1.0
    origin: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise SettingsError(f"clock.rate: expected a factor > 0, got {self.rate}")

    @classmethod
    def starting_now(cls, rate: float = 1.0) -> MonotonicClock:
        """A clock that shows the computer's time now, and runs `rate` times as fast from here on."""
        return cls(rate, time.monotonic())

    def now(self) -> float:
        return self.origin + (time.monotonic() - self.origin) * self.rate

    def sleep_until(self, when: float) -> None:
        left = (when - self.now()) / self.rate
        if left > 0:
            time.sleep(left)


@dataclass
class ManualClock:
    """Time that passes only when somebody sleeps: runs in which every delay is exact, as fast as they compute.

    `listeners` are called with the new time after each step of at most `step` seconds: a simulated arm that moves on.
    """

    time: float = 0.0
    step: float = 0.001
    listeners: list[Callable[[float], None]] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep_until(self, when: float) -> None:
        while self.time < when - 1e-12:
            self.time = min(self.time + self.step, when)
            for listener in self.listeners:
                listener(self.time)


@contextmanager
def every(clock: Clock, period: float, call: Callable[[float], None], name: str) -> Iterator[None]:
    """Within the context `call` hears of the time each `period` seconds of `clock`, and must not raise.

    In a thread called `name`; on a ManualClock in that of whoever sleeps, as time passes. What was missed is left out.

    >>> clock, heard = ManualClock(), []
    >>> with every(clock, 0.5, heard.append, "listener"):
    ...     clock.sleep_until(1.2)
    >>> [round(t, 3) for t in heard]
    [0.001, 0.5, 1.0]
    """
    due = clock.now()

    def tick(now: float) -> None:
        nonlocal due
        if now >= due - 1e-9:
            due = max(due + period, now)
            call(now)

    if isinstance(clock, ManualClock):
        clock.listeners.append(tick)
        try:
            yield
        finally:
            clock.listeners.remove(tick)
        return
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            tick(clock.now())
            clock.sleep_until(due)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)
