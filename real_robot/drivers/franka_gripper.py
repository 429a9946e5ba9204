"""`FrankaHand`: the Franka hand in a thread of its own, because its commands return only when they are done."""

from __future__ import annotations

import threading
import time
from typing import Any

from real_robot.contract import RobotError
from real_robot.drivers.franka_settings import FrankaGripperSettings

__all__ = ["FrankaHand"]


class FrankaHand:
    """The newest target wins: a motion that goes elsewhere is stopped first. Closing grasps, so that it holds."""

    def __init__(self, hand: Any, errors: tuple[type[Exception], ...], settings: FrankaGripperSettings) -> None:
        """hand: a franky.Gripper. errors: what franky raises."""
        self._hand, self._errors, self._settings = hand, errors, settings
        self._lock = threading.Lock()
        self._wanted: float | None = None
        self._reading: tuple[float, float] | None = None  # opening, stamp
        self._trouble: str | None = None
        self._quit = threading.Event()
        if settings.homing:
            hand.homing()
        self._read()
        self._thread = threading.Thread(target=self._run, name="franka hand", daemon=True)
        self._thread.start()

    def move(self, opening: float) -> float:
        """Go to `opening` metres, at once; what was really asked of the hand."""
        clipped = min(max(opening, 0.0), self._settings.stroke)
        with self._lock:
            self._wanted = clipped
        return clipped

    def hold(self) -> None:
        """Stay as it is; what is grasped stays grasped."""
        with self._lock:
            self._wanted = None

    def read(self) -> tuple[float, float]:
        """(opening in metres, time of that reading). RobotError when the hand is lost."""
        with self._lock:
            if self._trouble is not None or self._reading is None:
                raise RobotError(f"the Franka hand: {self._trouble or 'no reading'}; look at its cable, then recover()")
            return self._reading

    @property
    def lost(self) -> bool:
        """Whether it said nothing any more."""
        with self._lock:
            return self._trouble is not None

    def close(self) -> None:
        """End the thread; idempotent, never raises."""
        self._quit.set()
        self._thread.join(2.0)

    def _read(self) -> None:
        opening = float(self._hand.state.width)
        with self._lock:
            self._reading = opening, time.monotonic()

    def _run(self) -> None:
        goal: float | None = None  # of the last motion
        under_way: Any = None
        try:
            while not self._quit.wait(0.01):
                self._read()
                if under_way is not None and under_way.wait(0.0):
                    under_way.get()  # False: nothing grasped, or blocked on the way; the opening tells
                    under_way = None
                with self._lock:
                    wanted = self._wanted
                if wanted is None or (goal is not None and abs(wanted - goal) < self._settings.step):
                    continue
                if under_way is not None:
                    self._hand.stop()
                    under_way.wait(1.0)
                under_way, goal = self._start(wanted), wanted
        except self._errors as error:
            with self._lock:
                self._trouble = str(error)

    def _start(self, wanted: float) -> Any:
        s = self._settings
        with self._lock:
            opening = self._reading[0] if self._reading is not None else 0.0
        if wanted < opening:  # any width counts as grasped, so that the fingers keep pressing
            return self._hand.grasp_async(wanted, s.speed, s.force, s.stroke, s.stroke)
        return self._hand.move_async(wanted, s.speed)
