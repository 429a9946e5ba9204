"""Motions from which the experts are written: go there, hold, pick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from equidiff.sim.kinematics import matrix_to_rotvec, rotation_z, rotvec_to_matrix, wrap, yaw_of

__all__ = ["CLOSED", "OPEN", "Expert", "Target", "base_bearing", "square_yaw"]

OPEN, CLOSED = -1.0, 1.0
_BASE = np.array([-0.56, 0.0])  # of the Panda at robosuite's table, metres
Point = np.ndarray | Callable[[], np.ndarray]


@dataclass(frozen=True)
class Target:
    """Where the gripper is sent in one control step: position (3,), rotation (3, 3), gripper -1 open, +1 closed."""

    position: np.ndarray
    rotation: np.ndarray
    grip: float


class Expert(ABC):
    """Gives one target per control step, near enough to be reached by one relative action.

    step: longest way in metres, turn: largest angle in radians that a target is away from the gripper;
    pause: control steps at the end.
    """

    step = 0.03
    turn = 0.25
    pause = 10

    def __init__(self, env: Any) -> None:
        self.env = env
        self._script = self.script()

    @abstractmethod
    def script(self) -> Iterator[Target]:
        """The whole episode. It ends with a pause, so that demonstrations show what to do when all is done."""

    def __call__(self) -> Target | None:
        """Target of the next control step; None when the script is over."""
        return next(self._script, None)

    @property
    def eef(self) -> tuple[np.ndarray, np.ndarray]:
        """Current pose of the gripper."""
        pose: tuple[np.ndarray, np.ndarray] = self.env.eef
        return pose

    def pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Current pose of an object."""
        pose: tuple[np.ndarray, np.ndarray] = self.env.pose(name)
        return pose

    def geom(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Current pose of a geometry of the model."""
        data = self.env.env.sim.data
        index = self.env.env.sim.model.geom_name2id(name)
        return np.array(data.geom_xpos[index]), np.array(data.geom_xmat[index]).reshape(3, 3)

    def facing(self, yaw: float) -> np.ndarray:
        """Rotation of a gripper that points straight down, its fingers' axis (x) at `yaw`."""
        return rotation_z(yaw) @ np.diag([1.0, -1.0, -1.0])

    def towards(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        grip: float,
        step: float | None = None,
        turn: float | None = None,
    ) -> Target:
        """One step towards a pose, no longer than `step` and `turn`."""
        here, turned = self.eef
        way = 1.6 * (position - here)  # the controller lags: aim beyond
        way *= min(1.0, (step or self.step) / max(float(np.linalg.norm(way)), 1e-9))
        angle = 1.2 * matrix_to_rotvec(rotation @ turned.T)
        angle *= min(1.0, (turn or self.turn) / max(float(np.linalg.norm(angle)), 1e-9))
        return Target(here + way, rotvec_to_matrix(angle) @ turned, grip)

    def go(
        self,
        position: Point,
        rotation: np.ndarray,
        grip: float,
        *,
        within: float = 0.01,
        turned: float = 0.05,
        steps: int = 80,
        step: float | None = None,
    ) -> Iterator[Target]:
        """Until the gripper is `within` metres and `turned` radians of the pose, at most `steps` control steps."""
        for _ in range(steps):
            goal = position() if callable(position) else position
            here, now = self.eef
            off = float(np.linalg.norm(matrix_to_rotvec(rotation @ now.T)))
            if np.linalg.norm(goal - here) < within and off < turned:
                return
            yield self.towards(goal, rotation, grip, step)

    def hold(self, steps: int, position: np.ndarray, rotation: np.ndarray, grip: float) -> Iterator[Target]:
        """Stay there, e.g. while the fingers move."""
        for _ in range(steps):
            yield self.towards(position, rotation, grip)

    def nearest_yaw(self, yaw: float, period: float) -> float:
        """Of the yaws that equal `yaw` modulo `period`, the one nearest to where the fingers point now."""
        now = yaw_of(self.eef[1])
        return now + wrap(yaw - now, period)


def square_yaw(matrix: np.ndarray) -> float:
    """Yaw modulo 90 degrees of a cube, whatever face is up: that of its most horizontal axis."""
    axis = int(np.argmin(np.abs(matrix[2])))
    return float(np.arctan2(matrix[1, axis], matrix[0, axis]))


def base_bearing(point: np.ndarray) -> float:
    """Direction in radians from the robot's base to a point, which the last joint has to make up for."""
    return float(np.arctan2(*(point[:2] - _BASE)[::-1]))
