"""Grasp the needle by its handle and push its tip through the ring of the tripod (MimicGen's Threading)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equidiff.sim.experts.base import CLOSED, OPEN, Expert, Target
from equidiff.sim.experts.square import choose_turns
from equidiff.sim.kinematics import rotation_z, wrap, yaw_of

__all__ = ["ThreadingExpert"]

_HANDLE, _TIP = "needle_obj_handle", "needle_obj_needle"


class ThreadingExpert(Expert):
    """Works on the geometries of the needle and the ring, which the task's object poses do not give directly."""

    def script(self) -> Iterator[Target]:
        parts = self.env.env.tripod.num_ring_geoms
        ring = np.mean([self.geom(f"tripod_obj_ring_{i}")[0] for i in range(parts)], axis=0)
        hole = self.geom("tripod_obj_ring_0")[1][:, 0] * np.array([1.0, 1.0, 0.0])
        hole = hole / np.linalg.norm(hole)
        hole_yaw = float(np.arctan2(hole[1], hole[0]))
        needle_yaw = self._needle_yaw()
        grasp, turn = choose_turns(
            self,
            [needle_yaw + np.pi / 2 + k * np.pi for k in range(-3, 4)],
            [wrap(hole_yaw - needle_yaw) + k * np.pi for k in range(-3, 4)],
            self.geom(_HANDLE)[0],
            ring,
        )
        rotation = self.facing(grasp)
        same_way = abs(wrap(needle_yaw + turn - hole_yaw)) < 0.5
        direction = hole if same_way else -hole
        above = np.array([0, 0, 0.08])
        yield from self.go(lambda: self.geom(_HANDLE)[0] + above, rotation, OPEN, within=0.012, turned=0.06, steps=150)
        yield from self.go(lambda: self.geom(_HANDLE)[0], rotation, OPEN, within=0.006, steps=40, step=0.02)
        yield from self.hold(8, self.geom(_HANDLE)[0], rotation, CLOSED)
        lift = self.eef[0]
        lift[2] = ring[2] + 0.08
        yield from self.go(lift, rotation, CLOSED, within=0.02, step=0.025)
        rotation = rotation_z(turn) @ rotation

        def before(distance: float, height: float) -> np.ndarray:
            """Gripper position that brings the tip to `distance` before the ring, `height` above it, once turned."""
            here, now = self.eef
            offset = rotation @ now.T @ (self.geom(_TIP)[0] - here)
            return np.asarray(ring - direction * distance + np.array([0, 0, height]) - offset)

        yield from self.go(lambda: before(0.12, 0.08), rotation, CLOSED, within=0.02, turned=0.08, steps=200)
        rotation = self._aligned(direction)
        yield from self.go(lambda: before(0.10, 0.0), rotation, CLOSED, within=0.004, turned=0.03, steps=80, step=0.02)
        rotation = self._aligned(direction)
        yield from self.go(
            lambda: before(0.075, 0.0), rotation, CLOSED, within=0.002, turned=0.02, steps=60, step=0.0125
        )
        yield from self.go(lambda: before(0.0, 0.0), rotation, CLOSED, within=0.003, steps=100, step=0.0125)
        yield from self.hold(self.pause, self.eef[0], rotation, CLOSED)

    def _needle_yaw(self) -> float:
        along = self.geom(_TIP)[0] - self.geom(_HANDLE)[0]
        return float(np.arctan2(along[1], along[0]))

    def _aligned(self, direction: np.ndarray) -> np.ndarray:
        """The gripper turned so that the needle it holds points along the hole."""
        error = wrap(float(np.arctan2(direction[1], direction[0])) - self._needle_yaw())
        return self.facing(yaw_of(self.eef[1]) + error)
