"""Trainings side by side: scripts/train.py as processes of one thread each, their metrics shown as bars."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from equidiff.demo.progress import ended, say, tail
from equidiff.demo.settings import DemoError

__all__ = ["Training", "train_all"]

_PATIENCE_S = 60.0  # for a training to save when it is told to stop
_DRAW_S = 0.5  # between redrawn bars
_REPORT_S = 5.0  # between lines where there is no terminal


@dataclass
class Training:
    """One run of scripts/train.py. `folder`: its run_dir."""

    label: str
    folder: Path
    command: Sequence[str]
    steps: int
    step: int = 0
    loss: float | None = None
    wall_s: float = 0.0
    _started: float = 0.0
    _read: int = field(default=0, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.folder / "train.log"

    def start(self, cwd: Path) -> None:
        """Start the process, with one thread for numerical work."""
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._started = time.monotonic()
        with self.log.open("ab") as log:
            # a session of its own: Ctrl-C reaches only this process, which then asks the trainings to save
            self._process = subprocess.Popen(
                self.command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def poll(self) -> bool:
        """Read new metrics; whether the process has ended. Raises DemoError if it failed."""
        assert self._process is not None
        code = self._process.poll()
        self._tail()
        if code is None:
            return False
        self.wall_s = time.monotonic() - self._started
        if code != 0:
            raise DemoError(
                f"training of {self.label!r} failed ({ended(code)}). The command was\n  {shlex.join(self.command)}\n"
                f"{tail(self.log)}"
            )
        return True

    def stop(self) -> None:
        """Ask the process to save and end."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait for the end of the process, then insist."""
        if self._process is not None:
            try:
                self._process.wait(max(0.0, seconds))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _tail(self) -> None:
        file = self.folder / "metrics.jsonl"
        if not file.is_file():
            return
        if file.stat().st_size < self._read:  # a resumed run has dropped lines
            self._read = 0
        with file.open("rb") as stream:
            stream.seek(self._read)
            *lines, rest = stream.read().split(b"\n")
            self._read = stream.tell() - len(rest)
        for line in lines:
            row: Mapping[str, Any] = json.loads(line) if line.strip() else {}
            if "train/loss" in row:
                self.step, self.loss = int(row["step"]), float(row["train/loss"])


def train_all(
    trainings: Sequence[Training],
    *,
    parallel: int,
    cwd: Path,
    finished: Callable[[Training], None] = lambda _: None,
    poll_s: float = 0.25,
) -> None:
    """Run all trainings, `parallel` at a time, with live bars (lines where there is no terminal).

    finished: called with each training that has ended well. If one fails, or on an interrupt, the others
    are told to save and end. Raises DemoError.
    """
    todo, active = list(trainings), list[Training]()
    show = _Bars(trainings) if sys.stderr.isatty() else _Lines()
    try:
        while todo or active:
            while todo and len(active) < parallel:
                active.append(todo.pop(0))
                active[-1].start(cwd)
            time.sleep(poll_s)
            for training in list(active):
                if training.poll():
                    active.remove(training)
                    training.step = training.steps
                    finished(training)
                    show.done(training)
            show.update(active)
    finally:
        show.close()
        if active:
            say("telling the trainings to save and end ...")
        for training in active:
            training.stop()
        deadline = time.monotonic() + _PATIENCE_S
        for training in active:
            training.wait(deadline - time.monotonic())


def _end_with_parent() -> None:
    """Linux: get SIGTERM when the demo is killed, instead of training on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class _Bars:
    def __init__(self, trainings: Sequence[Training]) -> None:
        width = max(len(training.label) for training in trainings)
        self.bars = {
            id(training): tqdm(
                total=training.steps,
                desc=training.label.ljust(width),
                unit="step",
                position=i,
                dynamic_ncols=True,
                file=sys.stderr,
                postfix="waiting",
            )
            for i, training in enumerate(trainings)
        }
        self.begun: set[int] = set()
        self.drawn = 0.0

    def update(self, active: Sequence[Training]) -> None:
        if time.monotonic() - self.drawn < _DRAW_S:
            return
        self.drawn = time.monotonic()
        for training in active:
            bar = self.bars[id(training)]
            if id(training) not in self.begun:
                self.begun.add(id(training))
                bar.reset()  # its clock starts now
            if training.loss is None:
                bar.set_postfix_str("starting", refresh=False)
            else:
                bar.n = training.step
                bar.set_postfix_str(f"loss {training.loss:.4f}", refresh=False)
            bar.refresh()

    def done(self, training: Training) -> None:
        bar = self.bars[id(training)]
        bar.n = training.steps
        bar.set_postfix_str("done" if training.loss is None else f"loss {training.loss:.4f}, done", refresh=False)
        bar.refresh()
        bar.bar_format = str(bar).replace("{", "{{").replace("}", "}}")  # its clock stops

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()


class _Lines:
    """For logs: a line every few seconds."""

    def __init__(self) -> None:
        self.last = time.monotonic() - _REPORT_S

    def update(self, active: Sequence[Training]) -> None:
        if active and time.monotonic() - self.last >= _REPORT_S:
            self.last = time.monotonic()
            say("  " + " | ".join(_state(training) for training in active))

    def done(self, training: Training) -> None:
        say(f"  {training.label}: {training.steps} steps in {training.wall_s:.0f} s")

    def close(self) -> None:
        """Nothing is left open."""


def _state(training: Training) -> str:
    if training.loss is None:
        return f"{training.label}: starting"
    return f"{training.label}: {training.step}/{training.steps}, loss {training.loss:.4f}"
