"""`Ending`: when an episode is over, by the operator's word, the time or the success callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from real_robot.loop.faults import Fault
from real_robot.operator.contract import Button

__all__ = ["By", "Ended", "Ending", "RunResult"]

By = Literal["success", "label", "time", "operator", "fault"]


@dataclass
class RunResult:
    """by, reason: what ended the run, and why. "label": the operator said how it went; "operator": he wants no more.

    success: by the callback or the operator, None if nobody said. faults: all there were.
    """

    by: By
    reason: str
    success: bool | None
    seconds: float
    faults: list[Fault] = field(default_factory=list)


class Ended(Exception):
    """The run is over."""

    def __init__(self, by: By, reason: str, success: bool | None = None) -> None:
        super().__init__(reason)
        self.by, self.reason, self.success = by, reason, success


class Ending:
    """Counts the time of an episode, and takes in what the operator presses, whenever the operator is read.

    longest: seconds from the first motion on, without those from a fault until the policy moves the arm again: the
    operator takes his time. step: seconds between two questions to `success`. tell: writes a record of a kind.
    """

    def __init__(
        self,
        longest: float,
        step: float,
        success: Callable[[], bool] | None,
        tell: Callable[[str, float, dict[str, Any]], None],
    ) -> None:
        self._longest, self._step, self._success, self._tell = longest, step, success, tell
        self._pressed: list[Button] = []
        self._began: float | None = None
        self._paused: float | None = None
        self._checked = 0.0

    def moves(self, now: float) -> None:
        """The policy moves the arm from now on."""
        if self._began is None:
            self._began = now
        elif self._paused is not None:
            self._began += now - self._paused
        self._paused = None

    def pause(self, now: float) -> None:
        """A fault: until `moves` the time is not the episode's."""
        if self._paused is None:
            self._paused = now

    def press(self, pressed: Iterable[Button], now: float) -> None:
        """Buttons that went down, from any of the places where the operator is read."""
        for button in sorted(pressed, key=lambda button: button.value):
            self._tell("marker", now, {"text": f"the operator pressed {button.value}"})
            self._pressed.append(button)

    def take(self, button: Button) -> bool:
        """Whether it was pressed since the last call."""
        found = button in self._pressed
        self._pressed = [other for other in self._pressed if other is not button]
        return found

    def by_operator(self) -> Ended | None:
        """What the buttons say."""
        if self.take(Button.END):
            return Ended("operator", "the operator wants no more")
        for button, success in ((Button.SUCCESS, True), (Button.FAILURE, False)):
            if self.take(button):
                return Ended("label", f"the operator pressed {button.value}", success)
        self._pressed.clear()  # the others mean nothing to a run
        return None

    def look(self, now: float) -> Ended | None:
        """Whether it is over at `now`."""
        ended = self.by_operator()
        if ended is not None:
            return ended
        if self._began is not None and self._paused is None and now - self._began >= self._longest:
            return Ended("time", f"{self._longest} s are over", None if self._success is None else self._success())
        if self._success is not None and now >= self._checked + self._step - 1e-6:
            self._checked = now
            if self._success():
                return Ended("success", "success", True)
        return None
