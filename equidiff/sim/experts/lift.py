"""Grasp the cube from above and lift it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from equidiff.sim.experts.base import CLOSED, OPEN, Expert, Target, square_yaw

__all__ = ["LiftExpert", "pick_cube"]


class LiftExpert(Expert):
    """Lifts `cube` by 12 cm and holds it."""

    def script(self) -> Iterator[Target]:
        rotation = yield from pick_cube(self, "cube")
        lifted = self.pose("cube")[0] + np.array([0, 0, 0.12])
        yield from self.go(lifted, rotation, CLOSED, within=0.01, step=0.025)
        yield from self.hold(self.pause, lifted, rotation, CLOSED)


def pick_cube(expert: Expert, name: str) -> Generator[Target, None, np.ndarray]:
    """Above the cube, fingers along its nearest side, down, close. Returns the gripper's rotation."""
    yaw = expert.nearest_yaw(square_yaw(expert.pose(name)[1]), np.pi / 2)
    rotation = expert.facing(yaw)
    above = np.array([0, 0, 0.06])
    yield from expert.go(lambda: expert.pose(name)[0] + above, rotation, OPEN, within=0.012, turned=0.08)
    yield from expert.go(lambda: expert.pose(name)[0], rotation, OPEN, within=0.006, steps=40, step=0.02)
    yield from expert.hold(8, expert.pose(name)[0], rotation, CLOSED)
    return rotation
