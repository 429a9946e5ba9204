"""Grasp the square nut by its handle and put it over the square peg."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from equidiff.sim.experts.base import CLOSED, OPEN, Expert, Target, base_bearing
from equidiff.sim.kinematics import rotation_z, wrap, yaw_of

__all__ = ["SquareExpert", "choose_turns"]

_CARRY, _INSERT, _SEATED = 0.20, 0.15, 0.045  # heights of the nut above the table, metres


class SquareExpert(Expert):
    """Needs the objects `nut` and `peg`. The fingers close along the gripper's x axis, across the handle."""

    def script(self) -> Iterator[Target]:
        sim = self.env.env.sim
        site = sim.model.site_name2id("SquareNut_handle_site")
        table = float(self.env.env.table_offset[2])

        def handle() -> np.ndarray:
            return np.array(sim.data.site_xpos[site])

        nut, nut_rotation = self.pose("nut")
        peg, peg_rotation = self.pose("peg")
        direction = np.arctan2(*(handle() - nut)[1::-1])
        square = wrap(yaw_of(peg_rotation) - yaw_of(nut_rotation), np.pi / 2)
        grasp, turn = choose_turns(
            self,
            [direction + np.pi / 2 + k * np.pi for k in range(-3, 4)],
            [square + k * np.pi / 2 for k in range(-4, 5)],
            nut,
            peg,
        )
        rotation = self.facing(grasp)
        above = np.array([0, 0, 0.08])
        yield from self.go(lambda: handle() + above, rotation, OPEN, within=0.012, turned=0.06, steps=150)
        yield from self.go(handle, rotation, OPEN, within=0.006, steps=40, step=0.02)
        yield from self.hold(8, handle(), rotation, CLOSED)
        lift = self.eef[0]
        lift[2] = table + _CARRY + 0.02
        yield from self.go(lift, rotation, CLOSED, within=0.02, step=0.025)
        rotation = rotation_z(turn) @ rotation

        def over(height: float) -> np.ndarray:
            """Gripper position that brings the nut over the peg at this height, once turned."""
            here, now = self.eef
            offset = rotation @ now.T @ (self.pose("nut")[0] - here)
            return np.array([peg[0], peg[1], height]) - offset

        yield from self.go(lambda: over(table + _CARRY), rotation, CLOSED, within=0.02, turned=0.08, steps=200)
        for height, within in ((table + 0.17, 0.003), (table + _INSERT + 0.005, 0.002)):
            rotation = self._aligned(peg_rotation)
            goal = functools.partial(over, height)
            yield from self.go(goal, rotation, CLOSED, within=within, turned=0.02, steps=60, step=0.02)
        for _ in range(90):
            nut = self.pose("nut")[0]
            if nut[2] < table + _SEATED:
                break
            centred = np.linalg.norm(nut[:2] - peg[:2]) < 0.0025 or nut[2] < table + 0.125
            yield self.towards(over(nut[2] - 0.03 if centred else max(nut[2], table + 0.148)), rotation, CLOSED, 0.02)
        here = self.eef[0]
        yield from self.hold(6, here, rotation, OPEN)
        up = here + np.array([0, 0, 0.12])
        yield from self.go(up, rotation, OPEN, within=0.02, steps=40, step=0.025)
        yield from self.hold(self.pause, up, rotation, OPEN)

    def _aligned(self, peg_rotation: np.ndarray) -> np.ndarray:
        """The gripper turned so that the nut it holds is square to the peg."""
        error = wrap(yaw_of(peg_rotation) - yaw_of(self.pose("nut")[1]), np.pi / 2)
        return self.facing(yaw_of(self.eef[1]) + error)


def choose_turns(
    expert: Expert, grasps: list[float], turns: list[float], at: np.ndarray, to: np.ndarray
) -> tuple[float, float]:
    """Of the possible finger yaws and later turns, those that keep the last joint furthest from its limits.

    The last joint makes up for the bearing from the base; the ranges hold for the Panda at robosuite's table.
    """
    rest = expert.env.rest_yaw
    best: tuple[float, float, float] | None = None
    for grasp in grasps:
        for turn in turns:
            first, second = grasp - rest - base_bearing(at), grasp + turn - rest - base_bearing(to)
            if min(first, second) < -1.9 or max(first, second) > 3.2:
                continue
            cost = max(abs(first - 0.3), abs(second - 0.3)) + 0.2 * abs(turn)
            if best is None or cost < best[0]:
                best = (cost, grasp, turn)
    if best is None:
        return grasps[len(grasps) // 2], turns[len(turns) // 2]
    return best[1], best[2]
