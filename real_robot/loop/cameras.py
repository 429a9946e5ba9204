"""`CameraSensor`: which pictures belong to an observation; what is made of them is the planner's.

The loop never touches a pixel: it reads times and numbers from the cameras' rings, which takes microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from real_robot.loop.history import StateHistory
from real_robot.rings import Item
from real_robot.types import Sight

__all__ = ["CameraSensor", "PictureSource"]


class PictureSource(Protocol):
    """As `CameraProcess`: number in the ring, time of capture and the camera's number (tag) of its pictures."""

    def glance(self) -> Item:
        """The newest picture, at once."""

    def find(self, stamps: Sequence[float]) -> list[Item]:
        """For each time the picture captured nearest to it."""


class CameraSensor:
    """Pictures of one or more cameras at the same times.

    keys: the observations that are made of them. on_gripper: the cameras that need the tool's pose. listener: hears
    name, number and time of capture of every picture that is seen for the first time.
    """

    def __init__(
        self,
        keys: Sequence[str],
        cameras: Mapping[str, PictureSource],
        history: StateHistory,
        on_gripper: Sequence[str] = (),
        listener: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self.keys, self._cameras, self._history = tuple(keys), dict(cameras), history
        self._on_gripper, self.listener = tuple(on_gripper), listener
        self._numbers = dict.fromkeys(cameras, -1)

    @property
    def newest(self) -> float:
        """Time of the newest picture of the camera that is behind. DeviceError when one is lost."""
        seen = {name: camera.glance() for name, camera in self._cameras.items()}
        for name, item in seen.items():
            if item.tag != self._numbers[name]:
                self._numbers[name] = item.tag
                if self.listener is not None:
                    self.listener(name, item.tag, item.stamp)
        return min(item.stamp for item in seen.values())

    def at(self, stamps: Sequence[float]) -> tuple[Sight, ...]:
        """For each time the pictures captured nearest to it. DeviceError when a camera is lost."""
        found = {name: camera.find(stamps) for name, camera in self._cameras.items()}
        return tuple(
            Sight(
                {name: items[step].number for name, items in found.items()},
                {name: self._history.at(found[name][step].stamp).pose for name in self._on_gripper},
            )
            for step in range(len(stamps))
        )
