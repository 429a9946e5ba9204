"""`FakeUR`: the fake controller in a process of its own, with its faults as methods."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from real_robot.types import Array

__all__ = ["FakeUR", "Track"]


@dataclass(frozen=True, eq=False)
class Track:
    """Where the arm truly was: stamps (n,) of the computer's monotonic clock, tool (n, 6) in the UR base frame
    (position and rotation vector), joints (n, 6)."""

    stamps: Array
    tool: Array
    joints: Array

    def steps(self) -> Array:
        """(n - 1,) metres between one cycle and the next."""
        out: Array = np.linalg.norm(np.diff(self.tool[:, :3], axis=0), axis=1)
        return out

    def rest_since(self, tolerance: float = 1e-5) -> float:
        """Stamp from which on no joint moved by more than `tolerance` rad any more."""
        moved = np.abs(self.joints - self.joints[-1]).max(axis=1) > tolerance
        return float(self.stamps[np.flatnonzero(moved)[-1] + 1]) if moved.any() else float(self.stamps[0])


class FakeUR:
    """`with FakeUR("127.0.0.2") as fake:` starts it and waits until it listens; settings are those of `__main__`."""

    def __init__(self, address: str = "127.0.0.2", **settings: object) -> None:
        self.address = address
        words = [f"{key}={str(value).lower()}" for key, value in settings.items()]
        self._command = [
            sys.executable, "-m", "real_robot.fakes.ur_controller", f"address={address}", "parent=true", *words,
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._process = None

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake UR controller at {self.address} has ended; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _do(self, name: str, **arguments: object) -> Any:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the fake UR controller does not run: use it in a `with`")
        with self._lock:
            self._process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
            answer = self._read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def status(self) -> dict[str, Any]:
        """joints, velocities, pose (6,), safety_mode, runtime, time, gripper (0..255), counts, messages."""
        found: dict[str, Any] = self._do("status")
        return found

    def track(self, since: float = 0.0) -> Track:
        """The true motion since a stamp of the computer's monotonic clock, at most the last 120 s."""
        entries = self._do("history", since=since)
        stamps, tool, joints = zip(*entries, strict=True)
        return Track(np.array(stamps), np.array(tool), np.array(joints))

    def servo_times(self, since: float = 0.0) -> Array:
        """(n, 2): when each servo target arrived, and its height in the UR base frame."""
        return np.array(self._do("servo_times", since=since), np.float64).reshape(-1, 2)

    def reset(self) -> None:
        """As after switching on."""
        self._do("reset")

    def settings(self, **changes: object) -> None:
        """unlock_after, paused."""
        self._do("settings", **changes)

    def protective_stop(self) -> None:
        """As after a collision."""
        self._do("protective_stop")

    def emergency_stop(self) -> None:
        """As by the button; the power goes off."""
        self._do("emergency_stop")

    def release_emergency(self) -> None:
        """Button out, power on, brakes released."""
        self._do("release_emergency")

    def freeze(self, seconds: float, clock_stands: bool = False) -> None:
        """The controller does nothing for `seconds`; `clock_stands`: its clock does not count them. Returns at once."""
        self._do("freeze", seconds=seconds, clock_stands=clock_stands)

    def drop(self, refuse: bool = False) -> None:
        """Reset every connection; refuse: and every new one."""
        self._do("refuse", refusing=refuse)
        self._do("drop")

    def delay(self, seconds: float) -> None:
        """A slow network: measurements arrive `seconds` later."""
        self._do("delay", seconds=seconds)

    def remote(self, on: bool) -> None:
        """Remote control on the pendant."""
        self._do("remote", on=on)

    def push(self, wrench: ArrayLike) -> None:
        """Force and torque (6,) at the tool, axes of the UR base, N and Nm."""
        self._do("push", wrench=[float(x) for x in np.asarray(wrench)])

    def stop_program(self) -> None:
        """As somebody at the pendant does."""
        self._do("stop_program")

    def block_gripper(self, at: float | None) -> None:
        """An object between the fingers at `at` counts of 0..255."""
        self._do("block_gripper", at=at)
