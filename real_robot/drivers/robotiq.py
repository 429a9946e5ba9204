"""A Robotiq gripper behind the UR controller's URCap: a socket with lines "SET name value ..." and "GET name".

Register names and values are those of Robotiq's URCap (ACT activate, GTO go to, POS position, SPE speed, FOR force,
STA status with 3 for active); positions are 0 (open) to 255 (closed).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from real_robot.contract import RobotError
from real_robot.settings import SettingsError

__all__ = ["Robotiq", "to_counts", "to_metres"]

_ACTIVE = 3
_PERIOD = 0.02


def to_counts(opening: float, stroke: float, ends: tuple[int, int] = (0, 255)) -> int:
    """Counts of an opening in metres; what is outside the stroke goes to its end. ends: counts (open, closed).

    >>> to_counts(0.085, 0.085), to_counts(0.0, 0.085), to_counts(0.2, 0.085)
    (0, 255, 0)
    """
    share = min(max(opening / stroke, 0.0), 1.0)
    return round(ends[1] + share * (ends[0] - ends[1]))


def to_metres(counts: int, stroke: float, ends: tuple[int, int] = (0, 255)) -> float:
    """Opening in metres at those counts, within [0, stroke].

    >>> to_metres(255, 0.085), to_metres(0, 0.085)
    (0.0, 0.085)
    """
    return stroke * min(max((ends[1] - counts) / (ends[1] - ends[0]), 0.0), 1.0)


class Robotiq:
    """Reads and moves the gripper in a thread of its own, so that the loop never waits for it.

    stroke: metres between the open fingers (2F-85: 0.085). ends: counts at which they are open and closed. speed and
    force: 0..1 of what it can. Times are of the computer's monotonic clock.
    """

    def __init__(
        self,
        address: str,
        port: int = 63352,
        *,
        stroke: float = 0.085,
        ends: tuple[int, int] = (0, 255),
        speed: float = 1.0,
        force: float = 0.3,
        timeout: float = 0.5,
    ) -> None:
        for name, share in (("gripper.speed", speed), ("gripper.force", force)):
            if not 0 <= share <= 1:
                raise SettingsError(f"{name}: expected a share of 0..1, got {share}")
        if not (stroke > 0 and 0 <= ends[0] < ends[1] <= 255):
            raise SettingsError(f"gripper: expected stroke > 0 and 0 <= open < closed <= 255, got {stroke} and {ends}")
        self.address, self.port, self.stroke, self.ends = address, port, stroke, ends
        self._settings = f"SPE {round(255 * speed)} FOR {round(255 * force)}"
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._wanted: int | None = None
        self._reading: tuple[float, float] | None = None
        self._error: str | None = None
        self._close = threading.Event()

    def _fail(self, what: object) -> RobotError:
        return RobotError(f"gripper at {self.address}:{self.port}: {what}; is the Robotiq URCap installed and running?")

    def connect(self, activate_within: float = 10.0) -> None:
        """Open the socket, activate the gripper if it is not (it opens and closes once), and start reading.

        RobotError when it is not active after `activate_within` seconds.
        """
        if self._thread is not None:
            raise RobotError(f"gripper at {self.address}: connected already")
        self._close.clear()
        self._error = self._wanted = self._reading = None
        try:
            self._socket = socket.create_connection((self.address, self.port), self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._get("STA") != _ACTIVE:
                self._set("ACT 1")
            end = time.monotonic() + activate_within
            while self._get("STA") != _ACTIVE:
                if time.monotonic() > end:
                    raise self._fail(f"not active after {activate_within} s, status {self._get('STA')}")
                time.sleep(0.05)
            self._set(f"GTO 1 {self._settings} POS {self._get('POS')}")
            self._read()
        except OSError as error:
            self.disconnect()
            raise self._fail(error) from error
        except RobotError:
            self.disconnect()
            raise
        self._thread = threading.Thread(target=self._run, daemon=True, name="robotiq")
        self._thread.start()

    def disconnect(self) -> None:
        """Idempotent, never raises; the gripper stays as it is."""
        self._close.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # a reading that waits ends
                self._socket.shutdown(socket.SHUT_RDWR)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(0.2)
        sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(OSError):  # it is lost already, which is what was wanted
                sock.close()

    def read(self) -> tuple[float, float]:
        """(opening in metres, stamp) of the newest reading. RobotError when the gripper is lost."""
        with self._lock:
            if self._error is not None:
                raise self._fail(self._error)
            if self._reading is None:
                raise self._fail("not connected")
            return self._reading

    def move(self, opening: float) -> float:
        """Go to an opening in metres, at once and without waiting; returns what its counts can express."""
        counts = to_counts(opening, self.stroke, self.ends)
        with self._lock:
            if self._error is not None:
                raise self._fail(self._error)
            self._wanted = counts
        return to_metres(counts, self.stroke, self.ends)

    def hold(self) -> None:
        """Forget a wanted opening that was not sent yet; a hand that holds something goes on holding it."""
        with self._lock:
            self._wanted = None

    def _run(self) -> None:
        sent = None
        while not self._close.wait(_PERIOD):
            try:
                with self._lock:
                    wanted = self._wanted
                if wanted is not None and wanted != sent:
                    self._set(f"POS {wanted}")
                    sent = wanted
                self._read()
            except (OSError, RobotError) as error:
                with self._lock:
                    self._error = str(error)
                return

    def _read(self) -> None:
        asked = time.monotonic()
        counts = self._get("POS")
        with self._lock:  # it was measured after the question: the older of the two bounds
            self._reading = (to_metres(counts, self.stroke, self.ends), asked)

    def _ask(self, line: str, ends_with: bytes) -> str:
        assert self._socket is not None
        self._socket.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(ends_with):
            more = self._socket.recv(256)
            if not more:
                raise ConnectionError("the connection was closed")
            answer += more
            if len(answer) > 256:
                raise self._fail(f"{line!r} was answered by {answer!r}")
        return answer.decode("ascii", "replace").strip()

    def _set(self, values: str) -> None:
        answer = self._ask(f"SET {values}", b"ack")
        if answer != "ack":
            raise self._fail(f"it refused SET {values}: {answer!r}")

    def _get(self, name: str) -> int:
        answer = self._ask(f"GET {name}", b"\n").split()
        if len(answer) != 2 or answer[0] != name or not answer[1].isdecimal():
            raise self._fail(f"GET {name} was answered by {answer}")
        return int(answer[1])
