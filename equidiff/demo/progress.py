"""Signs of life: while modules load, while a script is silent, while workers start."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from equidiff.demo.settings import DemoError

__all__ = ["ended", "follow", "heartbeat", "say", "tail", "tail_of"]

_QUIET_S = 2.0


def say(text: str = "") -> None:
    """One line to the terminal, above any progress bar."""
    tqdm.write(text, file=sys.stderr)


@contextmanager
def heartbeat(what: str | None = None) -> Iterator[None]:
    """Show that time goes by: a line with seconds for `what`, or the clocks of the bars that exist."""
    period = 1.0 if sys.stderr.isatty() else 5.0
    over = threading.Event()
    line = tqdm(total=0, desc=what, bar_format="{desc} {elapsed}", leave=False, file=sys.stderr) if what else None

    def beat() -> None:
        while not over.wait(period):
            for bar in list(getattr(tqdm, "_instances", ())):
                bar.refresh()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if line is not None:
            line.close()


def follow(command: Sequence[str], log: Path, *, cwd: Path, what: str) -> None:
    """Run a script with its output shown and kept in `log`; while it is silent, count seconds.

    Raises DemoError with the end of the output if it fails. If this process is interrupted, the script is ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    width = shutil.get_terminal_size((100, 24)).columns  # the script writes to a pipe, which has none
    environment = {**os.environ, "COLUMNS": str(width), "PYTHONUNBUFFERED": "1"}
    screen = _Screen(what)
    with log.open("wb") as kept:
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        assert process.stdout is not None
        stream = process.stdout

        def forward() -> None:
            while chunk := os.read(stream.fileno(), 4096):
                kept.write(chunk)
                screen.show(chunk)

        reader = threading.Thread(target=forward, daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(1.0)
                screen.tick()
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            reader.join()
            stream.close()
    if code != 0:
        raise DemoError(f"{what} failed ({ended(code)}). The command was\n  {shlex.join(command)}\n{tail(log)}")


class _Screen:
    """Shows a script's output, and seconds while there is none."""

    def __init__(self, what: str) -> None:
        self.what, self.lock, self.terminal = what, threading.Lock(), sys.stderr.isatty()
        self.started = self.heard = time.monotonic()
        self.ticking = False

    def show(self, chunk: bytes) -> None:
        with self.lock:
            if self.ticking:
                sys.stderr.write("\r\x1b[K" if self.terminal else "\n")
            self.heard, self.ticking = time.monotonic(), False
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()

    def tick(self) -> None:
        with self.lock:
            now = time.monotonic()
            if now - self.heard > _QUIET_S:
                self.ticking = True
                sys.stderr.write(f"\r{self.what}: {now - self.started:.0f} s" if self.terminal else ".")
                sys.stderr.flush()


def ended(code: int) -> str:
    """How a process ended, from its return code as of subprocess."""
    if code == -signal.SIGKILL:
        return "killed, as the system does when memory runs out; less is needed with workers=1 parallel=1"
    return f"exit status {code}"


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, and where the rest is."""
    if not log.is_file():
        return f"It wrote nothing to {log}."
    return f"{tail_of(log.read_text(errors='replace'), lines)}\nAll of its output: {log}"


def tail_of(text: str, lines: int = 15) -> str:
    """The last lines of an output, indented."""
    return "\n".join(f"  | {line}" for line in text.replace("\r", "\n").strip().splitlines()[-lines:])
