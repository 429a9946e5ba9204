"""A failure is the computer's only where programs were measured to wait for a core; every other one counts at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from planner_toys import until
from real_time import LIMIT, STANDSTILL, TRIES, Metronome, StarvedError, judged, waited


def counter(*values: float) -> Iterator[float]:
    return iter(values)


def judge(share: float, error: BaseException | None, standstill: float = 0.0) -> None:
    """Ten seconds of a test, `share` of them waited."""
    times, waits = counter(20.0, 30.0), counter(5.0, 5.0 + 10 * share)

    def longest(since: float) -> float:
        assert since == 20.0
        return standstill

    with judged(lambda: next(waits), longest, lambda: next(times)):
        if error is not None:
            raise error


def test_a_failure_on_a_computer_with_time_for_it_stays_what_it_is() -> None:
    with pytest.raises(AssertionError, match="too late"):
        judge(0.9 * LIMIT, AssertionError("too late"), 0.9 * STANDSTILL)


@pytest.mark.parametrize("kind", [AssertionError, RuntimeError, pytest.fail.Exception])
def test_a_failure_on_a_starved_computer_is_told_as_such(kind: type[BaseException]) -> None:
    with pytest.raises(StarvedError, match=r"in 4\.00 of 10\.00 s, .*too late") as told:
        judge(0.4, kind("too late"))
    assert isinstance(told.value.__cause__, kind)


def test_a_failure_on_a_computer_that_stood_still_is_told_as_such() -> None:
    with pytest.raises(StarvedError, match=r"up to 0\.11 s: .*too late"):
        judge(0.0, AssertionError("too late"), 0.11)


def test_a_standstill_is_heard() -> None:
    metronome = Metronome()
    try:
        until(metronome._notes.read_text)
        time.sleep(0.1)
        begin = time.monotonic()
        os.kill(metronome._process.pid, signal.SIGSTOP)  # as all programs are, where the host keeps the cores
        time.sleep(0.3)
        os.kill(metronome._process.pid, signal.SIGCONT)
        until(lambda: metronome.standstill(begin) > 0.2, within=10)
        assert metronome.standstill(time.monotonic()) == 0
    finally:
        metronome.close()
    assert not metronome._notes.exists()


def test_passing_skipping_and_interrupting_are_no_failures() -> None:
    judge(0.9, None)
    for kind in (pytest.skip.Exception, KeyboardInterrupt):
        with pytest.raises(kind):
            judge(0.9, kind("so"))


# at ordinary priority, whatever that of the tests is, and for a while: beside real-time ones nothing else gets a core
BUSY = """
import os, time
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
end = time.monotonic() + 5
while time.monotonic() < end:
    pass
"""


def test_waiting_is_measured() -> None:
    """More programs than cores wait; how much an idle computer waits, no test can know of this one."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.2)
        begin, before = time.monotonic(), waited()
        time.sleep(1.0)
        share = (waited() - before) / (time.monotonic() - begin)
    finally:
        for program in busy:
            program.kill()
            program.wait()
    if not Path("/proc/pressure/cpu").exists():
        pytest.skip("this system tells nothing of waiting (/proc/pressure/cpu)")
    assert share > 2 * LIMIT


TESTS = """
import itertools
import real_time

tries = itertools.count(1)
waits = itertools.count(1.0, 100.0)
real_time.waited = lambda: next(waits) if STARVED else 0.0
real_time.Metronome.standstill = lambda self, since: 0.0

def test_this():
    assert next(tries) > FAILURES
"""


@pytest.mark.parametrize(
    ("mark", "starved", "failures", "passes", "runs"),
    [
        ("realtime", True, 1, True, 2),
        ("realtime", True, TRIES - 1, True, TRIES),
        ("realtime", True, TRIES, False, TRIES),
        ("realtime", False, 1, False, 1),
        ("slow", True, 1, False, 1),
    ],
)
def test_starved_tests_are_run_again_and_others_are_not(
    tmp_path: Path, mark: str, starved: bool, failures: int, passes: bool, runs: int
) -> None:
    text = TESTS.replace("STARVED", str(starved)).replace("FAILURES", str(failures))
    (tmp_path / "test_it.py").write_text(f"{text}\npytestmark = __import__('pytest').mark.{mark}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = \n    realtime: it\n    slow: it\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "real_time", "-p", "no:xdist", "--rerun-show-tracebacks", "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert (done.returncode == 0) is passes, done.stdout
    assert done.stdout.count("RERUN test_it.py") == runs - 1, done.stdout
    assert ("StarvedError" in done.stdout) is (starved and mark == "realtime"), done.stdout
