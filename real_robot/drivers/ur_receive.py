"""Measurements of a UR arm, stamped with the time of the computer, and what is wrong with the arm, kept until asked."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from real_robot.contract import RobotError
from real_robot.types import RobotMode

__all__ = ["ClockOffset", "Measurement", "Receiver", "mode_of"]

_VARIABLES = [
    "timestamp", "actual_q", "actual_qd", "actual_TCP_pose", "actual_TCP_force", "robot_mode", "safety_mode",
    "runtime_state", "robot_status_bits", "safety_status_bits",
]  # fmt: skip
_POLL = 0.001
_RUNNING = 7
_PLAYING = 2
_PROTECTIVE, _SAFEGUARD, _EMERGENCIES, _BROKEN = 1 << 2, 1 << 4, 0b111 << 5, 0b11 << 8
"""Bits of RTDE's safety_status_bits."""


def mode_of(robot_mode: int, safety_bits: int, runtime: int) -> RobotMode:
    """What RTDE's robot_mode, safety_status_bits and runtime_state say.

    A safeguard stop counts as a protective one: its end must not set the arm in motion.
    """
    if safety_bits & _EMERGENCIES:
        return RobotMode.EMERGENCY_STOP
    if safety_bits & (_PROTECTIVE | _SAFEGUARD):
        return RobotMode.PROTECTIVE_STOP
    if safety_bits & _BROKEN:
        return RobotMode.FAULT
    if robot_mode != _RUNNING:
        return RobotMode.IDLE
    return RobotMode.READY if runtime == _PLAYING else RobotMode.FAULT


@dataclass(frozen=True)
class Measurement:
    """One RTDE package: stamp in the computer's monotonic time, joints, velocities, pose (x, y, z, rotation vector)
    and wrench of the tool in the UR base frame, and mode."""

    stamp: float
    joints: list[float]
    velocities: list[float]
    pose: list[float]
    wrench: list[float]
    mode: RobotMode


class ClockOffset:
    """Computer time minus controller time, from pairs of them.

    A package cannot arrive before it was measured, so the least difference of the last half minute is the best: it
    is wrong by the shortest way a package took in that time, and by the drift of the two clocks over it.

    >>> offset = ClockOffset()
    >>> [offset.add(now, now - 5.0 - late) for now, late in ((9.0, 0.02), (9.1, 0.001), (9.2, 0.5))]
    [5.02, 5.001, 5.001]
    """

    def __init__(self, seconds: int = 30) -> None:
        self._buckets: deque[tuple[int, float]] = deque(maxlen=seconds)

    def add(self, now: float, controller: float) -> float:
        """Take in a pair, return the offset."""
        difference, second = now - controller, int(now)
        if self._buckets and self._buckets[-1][0] == second:
            self._buckets[-1] = (second, min(self._buckets[-1][1], difference))
        else:
            self._buckets.append((second, difference))
        return min(value for _, value in self._buckets)


class Receiver:
    """Reads in a thread. `newest` is the last measurement; `trouble` the first thing that went wrong, for good.

    behind: seconds by which packages may lag behind the best ones before that is trouble. timeout: patience with the
    first answer.
    """

    def __init__(self, address: str, behind: float, timeout: float) -> None:
        from rtde_receive import RTDEReceiveInterface

        self._name = f"UR arm at {address}"
        self._behind = behind
        try:
            # ur_rtde's constructor would wait for ever, and hold the interpreter: ask for the protocol version first
            with socket.create_connection((address, 30004), timeout) as asked:
                asked.sendall(bytes([0, 5, ord("V"), 0, 2]))
                asked.recv(4)
            self._receive: Any = RTDEReceiveInterface(address, -1.0, _VARIABLES)
        except TimeoutError as error:
            raise RobotError(f"{self._name}: nothing answers in {timeout} s; is it off, or frozen?") from error
        except (OSError, RuntimeError) as error:
            raise RobotError(f"{self._name}: {error}; is it switched on, and port 30004 open?") from error
        self.newest: Measurement | None = None
        self.arrived = 0.0
        """When the last package came."""
        self.trouble: str | None = None
        self.watching = threading.Event()
        """Set once the script runs: from then on its end is trouble."""
        self._offset = ClockOffset()
        self._close = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ur-receive")
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Until the first measurement. RobotError when none comes."""
        if not self._first.wait(timeout):
            raise RobotError(f"{self._name}: connected, but no measurement came in {timeout} s")

    @property
    def connected(self) -> bool:
        """False once the connection was lost; ur_rtde goes on returning the last values then."""
        return not self._close.is_set() and bool(self._receive.isConnected())

    def close(self) -> None:
        """Idempotent."""
        self._close.set()
        self._thread.join(2.0)
        receive, self._receive = self._receive, None
        if receive is not None:
            receive.disconnect()

    def _run(self) -> None:
        last, at_least = 0.0, 0.0
        late_since: float | None = None
        while not self._close.is_set():
            time.sleep(_POLL)
            if not self._receive.isConnected():
                self._blame("the connection was lost")
                return
            controller, now = self._receive.getTimestamp(), time.monotonic()
            if controller == last or controller <= 0:  # nothing new, or nothing yet
                continue
            if controller < last:
                self._blame("the controller's clock went back: it was restarted")
                return
            last, self.arrived = controller, now
            offset = self._offset.add(now, controller)
            stamp = max(min(controller + offset, now), at_least)
            at_least = stamp
            late_since = None if now - stamp < self._behind else late_since or now
            if late_since is not None and now - late_since > self._behind:
                self._blame(f"measurements arrive {now - stamp:.2f} s late: a slow network, or a clock that stood")
            self._take(controller, stamp)

    def _take(self, controller: float, stamp: float) -> None:
        r = self._receive
        mode = mode_of(r.getRobotMode(), r.getSafetyStatusBits(), r.getRuntimeState())
        found = Measurement(
            stamp, r.getActualQ(), r.getActualQd(), r.getActualTCPPose(), r.getActualTCPForce(), mode
        )  # fmt: skip
        if self.watching.is_set() and mode is not RobotMode.READY:
            what = {RobotMode.FAULT: "the control script ended, or the safety system reports a fault"}
            self._blame(what.get(mode, f"the controller reports {mode.value}"))
        if r.getTimestamp() == controller:  # else the next package came in between: its own turn will be next
            self.newest = found
            self._first.set()

    def _blame(self, what: str) -> None:
        if self.trouble is None:
            self.trouble = what
