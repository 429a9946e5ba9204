"""The command line of a comparison: what it says when something fails, and how to go on after that."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from equidiff.checkpoint import CheckpointError
from equidiff.demo.command import from_checkout, run_comparison, to_go_on
from equidiff.demo.settings import load_settings
from equidiff.perception import PerceptionError
from equidiff.sim.backend import SimulatorError
from equidiff.sim.workers import RolloutError

SCRIPT = "scripts/demo.py"


@pytest.fixture
def command(root: Path, evaluation: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], int]:
    """`run_comparison` in the stand-in checkout, without a simulator."""
    evaluation.close = lambda: None
    monkeypatch.setattr("equidiff.demo.evaluation.SimulatedEvaluation", lambda *settings: evaluation)
    monkeypatch.setattr("equidiff.demo.checks.check_policies", lambda settings, root: {"name": "lift"})
    monkeypatch.setattr("equidiff.demo.camera.check_camera", lambda task, camera, root: None)
    monkeypatch.setattr(signal, "signal", lambda *of: None)  # of the process that runs the tests
    return lambda arguments: run_comparison(SCRIPT, "", root / "configs" / "demo", root, arguments)


def printed(text: str) -> list[str]:
    """The command line that goes on."""
    (line,) = (line for line in text.splitlines() if "to go on: " in line)
    return shlex.split(line.partition("to go on: ")[2])


@pytest.mark.parametrize(
    "error",
    [
        RolloutError("rollouts: worker 0 died"),
        SimulatorError("the simulator is not installed"),
        CheckpointError("spec.json: was changed"),
        PerceptionError("camera 'x' does not exist"),
        OSError(errno.ENOSPC, "No space left on device", "/full/result.json"),
    ],
)
def test_what_fails_is_told_in_a_line(
    command: Callable[[Sequence[str]], int],
    evaluation: Any,
    error: Exception,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(type(evaluation), "__call__", fail)
    arguments = ["lift", f"out={root.parent / 'out'}", "film=0", "steps=1", "policies=plain"]
    assert command(arguments) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert str(error.args[-1]) in line
    assert printed(said)[2:] == arguments


def test_a_fault_of_the_program_is_not_hidden(
    command: Callable[[Sequence[str]], int], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise KeyError("loss")

    monkeypatch.setattr("equidiff.demo.run.Demo.run", fail)
    with pytest.raises(KeyError):
        command(["lift", f"out={root.parent / 'out'}"])


def test_an_interrupted_fresh_start_goes_on_where_it_was(
    command: Callable[[Sequence[str]], int],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = root.parent / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    file = root / "configs" / "demo" / "lift.yaml"
    file.write_text(file.read_text().replace("[symmetry=trivial]", "[symmetry=trivial, slow=true]"))
    folder = here / "made" / "lift"

    def interrupt() -> None:
        while not (folder / "plain" / "seed0" / "running").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert command(["lift", "out=made", "film=0", "parallel=1", "fresh=true"]) == 130
    python, script, *arguments = printed(capsys.readouterr().err)
    assert python == sys.executable  # which needs no active environment
    assert Path(script) == root / SCRIPT  # from another folder, its whole path
    assert arguments == ["lift", "out=made", "film=0", "parallel=1"]
    assert command(arguments) == 0
    said = capsys.readouterr()
    assert "reused: 2 demonstrations" in said.err
    assert "reused: training of 'Equivariant'" in said.err
    assert (folder / "plain" / "seed0" / "calls").read_text().endswith("resume=true\n")
    assert "report    made/lift/report.html" in said.out


def test_a_fresh_start_that_deleted_nothing_yet_is_given_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.chdir(root)
    again = to_go_on(root / SCRIPT, ["lift", "fresh=true", "steps=3"], None)
    assert again == "python scripts/demo.py lift fresh=true steps=3"


def test_the_recorded_command_is_for_the_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = root / "configs" / "demo"
    arguments = ["lift", "steps=3", "record=docs/demo.json"]
    monkeypatch.chdir(root)
    here = load_settings(configs, "lift", arguments[1:])
    assert from_checkout(SCRIPT, arguments, here, root) == [SCRIPT, *arguments]
    monkeypatch.chdir(root / "configs")
    there = load_settings(configs, "lift", arguments[1:])
    assert from_checkout(SCRIPT, arguments, there, root) == [
        SCRIPT,
        "lift",
        "steps=3",
        "out=configs/outputs/demo",
        "record=configs/docs/demo.json",
    ]
