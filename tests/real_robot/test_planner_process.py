"""The policy's own process: how it dies, hangs and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from planner_toys import answer, checkpoint, request, until

from real_robot.planner import PlannerError
from real_robot.planners import ProcessPlanner

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("process"))


@pytest.fixture
def planner(saved: Path) -> Iterator[ProcessPlanner]:
    planner = ProcessPlanner(saved, timeout=60.0, threads=1)
    yield planner
    planner.close()


def alive(pid: int) -> bool:
    """Zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_a_hang_and_a_death(planner: ProcessPlanner) -> None:
    """One process for the whole story, because starting one takes seconds."""
    pid = planner.pid
    assert pid is not None

    os.kill(pid, signal.SIGINT)  # the terminal sends it to all; the loop decides
    planner.submit(request(1))
    assert answer(planner).number == 1

    os.kill(pid, signal.SIGSTOP)
    planner._desk._timeout = 0.2
    begin = time.monotonic()
    for number in (2, 3, 4):  # submit never waits for a process that does not read
        planner.submit(request(number))
        with pytest.raises(PlannerError, match=r"no answer within 0.2 s|does not take requests"):
            answer(planner)
    assert time.monotonic() - begin < 20
    planner._desk._timeout = 60.0
    os.kill(pid, signal.SIGCONT)
    until(lambda: not planner._worker.busy)
    planner.submit(request(5))
    assert answer(planner).number == 5  # the answers to 2, 3 and 4 were dropped

    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PlannerError, match=r"ended \(signal 9\)"):  # though nothing is under way
        until(lambda: planner.poll() is not None, within=10)
    with pytest.raises(PlannerError, match="ended"):
        planner.submit(request(6))


@pytest.mark.slow
def test_a_death_while_planning(planner: ProcessPlanner) -> None:
    assert planner.pid is not None
    os.kill(planner.pid, signal.SIGSTOP)
    planner.submit(request(1))
    os.kill(planner.pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(PlannerError, match=r"ended \(signal 9\)"):
        answer(planner)
    assert time.monotonic() - begin < 10  # its time-out is 60 s


@pytest.mark.slow
def test_a_bad_checkpoint_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="no such checkpoint"):
        ProcessPlanner(tmp_path / "nothing")


def test_a_policy_that_is_not_ready_in_time(saved: Path) -> None:
    with pytest.raises(PlannerError, match=r"not ready within 0.01 s"):
        ProcessPlanner(saved, start_timeout=0.01)


@pytest.mark.slow
def test_ends_with_the_process_that_started_it(saved: Path, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, signal\n"
        "from real_robot.planners import ProcessPlanner\n"
        "if __name__ == '__main__':\n"
        f"    planner = ProcessPlanner({str(saved)!r}, threads=1)\n"
        "    print(planner.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not alive(int(done.stdout)), within=20)
