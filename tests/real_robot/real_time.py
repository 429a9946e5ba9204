"""Tests that keep real time, on a computer that has other things to do.

Where the threads of a driver wait for a core, its measurements are old and its commands late: the arm is rightly
stopped, and a test of something else fails. So such a test, marked `realtime`, is judged together with the computer:
one that fails while programs waited for a core much more than its own ever do, or while the whole computer stood still,
is run again, at most `TRIES` times in all. A failure on a computer that had time for it counts at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

__all__ = ["LIMIT", "STANDSTILL", "TRIES", "Metronome", "StarvedError", "judged", "waited"]

TRIES = 3
LIMIT = 0.25
"""Share of a test's time; alone on two idle cores each test of half a second or more stayed below 0.15."""
STANDSTILL = 0.05
"""Seconds. Beside one busy core a program that wakes up 200 times a second was 5 ms late at most in a minute; drivers
stop an arm whose measurements are 100 ms old."""


class StarvedError(Exception):
    """A test failed on a computer that was too busy to keep time; its cause is the failure."""


def waited() -> float:
    """Seconds, since the computer was switched on, in which a program waited for a core or the host kept one away.

    From Linux's pressure stall information and its count of stolen time; 0 where there is no such information.
    """
    try:
        first = Path("/proc/pressure/cpu").read_text().partition("\n")[0]
        stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
    return int(first.rpartition("total=")[2]) / 1e6 + stolen


class Metronome:
    """A process that does nothing but wake up every 5 ms and note when it was late: then nobody else had a core either.

    Not a thread: what keeps this process from its work may be the fault that a test is to find.
    """

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="metronome")
        os.close(handle)
        self._notes = Path(name)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TICKS, name, str(STANDSTILL)],
            start_new_session=True,  # tests send Ctrl-C to whole groups
        )

    def standstill(self, since: float) -> float:
        """The longest since that monotonic time, in seconds; 0 if none was longer than STANDSTILL."""
        notes = [map(float, line.split()) for line in self._notes.read_text().splitlines()]
        return max((late for at, late in notes if at >= since), default=0.0)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._notes.unlink()


_TICKS = """
import os, sys, time
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # not that of a test in real time
with open(sys.argv[1], "a", buffering=1) as notes:
    parent = os.getppid()
    notes.write(f"{time.monotonic()} 0\\n")  # it has begun
    while os.getppid() == parent:
        before = time.monotonic()
        time.sleep(0.005)
        late = time.monotonic() - before - 0.005
        if late > float(sys.argv[2]):
            notes.write(f"{before + late} {late}\\n")
"""


@contextmanager
def judged(
    measure: Callable[[], float],
    standstill: Callable[[float], float],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Turn a failure within into StarvedError, if the computer was too busy meanwhile.

    measure, standstill: as `waited` and `Metronome.standstill`.
    """
    begin, before = clock(), measure()
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        took, waits = clock() - begin, measure() - before
        longest = standstill(begin)
        if waits > LIMIT * took or longest > STANDSTILL:
            why = f"programs waited for a core in {waits:.2f} of {took:.2f} s, all at once for up to {longest:.2f} s"
            raise StarvedError(f"{why}: {error!r}") from error
        raise


@cache
def _metronome() -> Metronome:
    return Metronome()


def pytest_unconfigure() -> None:
    """Leave no process behind."""
    if _metronome.cache_info().currsize:
        _metronome().close()
        _metronome.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have starved tests repeated by pytest-rerunfailures, which starts their fixtures anew."""
    for item in items:
        if item.get_closest_marker("realtime"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1, only_rerun=StarvedError.__name__))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Fixtures connect to devices, which takes its time too."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """The test itself."""
    return (yield from _watched(item))


def _watched(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("realtime") is None:
        return (yield)
    with judged(waited, _metronome().standstill):
        return (yield)
