"""Stack cubes: pick one, align it with the other above it, put it down, go up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from equidiff.sim.experts.base import CLOSED, OPEN, Expert, Target, square_yaw
from equidiff.sim.experts.lift import pick_cube
from equidiff.sim.kinematics import rotation_z, wrap

__all__ = ["StackExpert", "StackThreeExpert"]


class StackExpert(Expert):
    """Puts `cubeA` on `cubeB`."""

    order: ClassVar[tuple[tuple[str, str], ...]] = (("cubeA", "cubeB"),)
    half: ClassVar[dict[str, float]] = {"cubeA": 0.02, "cubeB": 0.025, "cubeC": 0.02}  # half of the edges, metres

    def script(self) -> Iterator[Target]:
        for top, bottom in self.order:
            yield from self._stack(top, bottom)
        yield from self.hold(self.pause, self._up, self._rotation, OPEN)

    def _stack(self, top: str, bottom: str) -> Iterator[Target]:
        rotation = yield from pick_cube(self, top)
        lifted, base = self.pose(top)[0], self.pose(bottom)[0]
        height = base[2] + self.half[bottom] + self.half[top]
        yield from self.go(np.array([lifted[0], lifted[1], height + 0.06]), rotation, CLOSED, within=0.02)
        turn = wrap(square_yaw(self.pose(bottom)[1]) - square_yaw(self.pose(top)[1]), np.pi / 2)
        rotation = rotation_z(turn) @ rotation

        def above(gap: float) -> np.ndarray:
            """Gripper position that brings the held cube to `gap` metres above its place."""
            base = self.pose(bottom)[0]
            return np.asarray(self.eef[0] + np.array([base[0], base[1], height + gap]) - self.pose(top)[0])

        yield from self.go(lambda: above(0.05), rotation, CLOSED, within=0.012, steps=120)
        yield from self.go(lambda: above(0.003), rotation, CLOSED, within=0.005, steps=40, step=0.015)
        here = self.eef[0]
        yield from self.hold(6, here, rotation, OPEN)
        self._up, self._rotation = here + np.array([0, 0, 0.10]), rotation
        yield from self.go(self._up, rotation, OPEN, within=0.02, step=0.025)


class StackThreeExpert(StackExpert):
    """Puts `cubeA` on `cubeB`, then `cubeC` on `cubeA`."""

    order = (("cubeA", "cubeB"), ("cubeC", "cubeA"))
