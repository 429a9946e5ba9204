"""`Parts`: what a session needs of the hardware, made from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from real_robot.clock import Clock
from real_robot.contract import Robot
from real_robot.teleop.loop import Gate
from real_robot.teleop.recorder import PictureHistory

__all__ = ["Parts", "build_parts"]


@dataclass(frozen=True, eq=False)
class Parts:
    """robot: not connected yet. cameras: to be entered before their pictures are asked for; {} records none.

    make_gate: called with the connected robot.
    """

    robot: Robot
    make_gate: Callable[[Robot], Gate]
    cameras: Mapping[str, PictureHistory]
    clock: Clock

    @property
    def devices(self) -> list[AbstractContextManager[Any]]:
        """What has to be entered, in this order."""
        cameras = [camera for camera in self.cameras.values() if isinstance(camera, AbstractContextManager)]
        return [self.robot, *cameras]


def build_parts(config: DictConfig) -> Parts:
    """Of the nodes robot, safety and cameras. Raises BuildError or LimitsError that names a wrong key."""
    from real_robot import build  # which knows this module too

    return build.build_parts(config)
