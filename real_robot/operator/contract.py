"""`OperatorInput`: what the operator holds, pushes and presses."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from real_robot.contract import DeviceError
from real_robot.types import Array

__all__ = ["Button", "OperatorError", "OperatorInput", "OperatorState"]


class OperatorError(DeviceError):
    """An input device that cannot be opened or is set up wrongly."""


class Button(enum.Enum):
    """Presses that count once each."""

    GRIPPER = "gripper"
    """Close the open gripper, or open the closed one."""
    SUCCESS = "success"
    """The episode is over and went well."""
    FAILURE = "failure"
    """The episode is over and went wrong; it is kept."""
    DISCARD = "discard"
    """Forget the episode."""
    RECOVER = "recover"
    """After a fault: the arm was looked at, it may be recovered and go on."""
    END = "end"
    """No more episodes."""


@dataclass(frozen=True, eq=False)
class OperatorState:
    """What the operator wants at `stamp` (seconds of the run's clock).

    enabled: the dead-man switch is held and no stop is latched; otherwise the arm has to rest. stop: an emergency stop
    was pressed, and stays so until `clear_stop`. twist (6,) in [-1, 1]: linear (forward x, left y, up z), then the
    rotation vector about these axes; zero unless enabled. pressed: buttons that went down since the last `read`.
    note: why it is not enabled, for the screen. lost: the device is not there.
    """

    stamp: float
    enabled: bool
    stop: bool
    twist: Array
    pressed: frozenset[Button] = frozenset()
    note: str = ""
    lost: bool = False

    def __post_init__(self) -> None:
        twist = np.array(self.twist, np.float64)
        if twist.shape != (6,) or not (np.abs(twist) <= 1).all():  # NaN fails too
            raise ValueError(f"OperatorState.twist: expected 6 numbers in [-1, 1], got {self.twist}")
        twist.setflags(write=False)
        object.__setattr__(self, "twist", twist)


class OperatorInput(ABC):
    """A device in the operator's hands. It never waits, and whatever it cannot know counts as released.

    That is: after `timeout` seconds without a word from the device, after it was unplugged, and when it was not read
    for that long, so that what it says now may be old. The dead-man switch must then be pressed anew.
    """

    @abstractmethod
    def connect(self) -> None:
        """Open the device. Raises OperatorError that says what to do."""

    @abstractmethod
    def disconnect(self) -> None:
        """Let go of it; idempotent, never raises."""

    @abstractmethod
    def read(self, now: float) -> OperatorState:
        """Take in what the device said since the last call. `now`: of the run's clock. Never waits, never raises."""

    @abstractmethod
    def clear_stop(self) -> None:
        """Forget a latched stop, on the operator's explicit word; the dead-man switch must be pressed anew."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
