"""The driver's side of `ur_servo`: starts it, sends it targets, listens to it, ends it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import IO, Any

from real_robot.contract import RobotError

__all__ = ["ServoProcess"]


class ServoProcess:
    """One connection to the controller's script; made anew after every fault. `send` is for any thread."""

    def __init__(self, settings: Mapping[str, Any], timeout: float) -> None:
        self._name = f"UR arm at {settings['address']}"
        self._lock = threading.Lock()
        self.events: deque[dict[str, Any]] = deque(maxlen=50)
        """What it said: stopped, refused."""
        self._words: deque[str] = deque(maxlen=8)
        self._answer: dict[str, Any] | None = None
        self._answered = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "real_robot.drivers.ur_servo"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            start_new_session=True,  # out of reach of Ctrl-C and Ctrl-Z, before it can ignore them
        )  # fmt: skip
        self._threads = [
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True, name="ur-events"),
            threading.Thread(target=self._overhear, args=(self._process.stderr,), daemon=True, name="ur-words"),
        ]
        for thread in self._threads:
            thread.start()
        sent = self.send(**settings)
        if not sent or not self._answered.wait(timeout) or self._answer is None or self._answer["event"] != "ready":
            why = self._answer["why"] if self._answer is not None else "no answer in time"
            words = " | ".join(self._words)
            self.kill()
            raise RobotError(
                f"{self._name}: the control script does not run: {why} {words}; is the arm switched on, its brakes "
                "released, and the pendant in remote control?"
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def trouble(self) -> str | None:
        """Why it does not follow any more, if so."""
        if not self.alive:
            return f"the servo process ended: {self.last_words}"
        return next((f"{event['why']}" for event in list(self.events) if event["event"] == "refused"), None)

    @property
    def last_words(self) -> str:
        """What ur_rtde printed last."""
        return " | ".join(self._words)

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            message = json.loads(line)
            if not self._answered.is_set():
                self._answer = message
                self._answered.set()
            else:
                self.events.append(message)
        self._answered.set()

    def _overhear(self, stream: IO[str]) -> None:
        for line in stream:
            self._words.append(line.strip())

    def send(self, **message: object) -> bool:
        """Write one message; False when the process is gone."""
        line = json.dumps(message) + "\n"
        try:
            with self._lock:
                if self._process.stdin is None or self._process.stdin.closed:
                    return False
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed by another thread just now
            return False
        return True

    def end(self, timeout: float) -> None:
        """Ask it to stop the arm and the script, and make sure that it is gone; never raises."""
        if self.alive and self.send(do="end"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """At once; the controller's watchdog then ends the script. Idempotent, never raises."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(1.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # what could not be written is of no use any more
                    stream.close()
