"""`SimFaults`: what a simulated device does wrong, and from when on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from real_robot.types import RobotMode

__all__ = ["SimFaults"]


@dataclass
class SimFaults:
    """Changed while a run goes on. Times are of the run's clock; inf: never.

    frozen_until: the arm's controller neither moves nor measures until then. disconnected: it does not answer.
    mode: what it reports; anything but READY stops it. mute: it goes on, but its measurements do not arrive.
    wrench_z: newtons that press on the tool.
    """

    frozen_until: float = -math.inf
    disconnected: bool = False
    mute: bool = False
    mode: RobotMode = RobotMode.READY
    wrench_z: float = 0.0
