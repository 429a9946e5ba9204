"""Where the tool may be and how it may point: checks of a whole path, and targets moved to where they may be."""

from __future__ import annotations

import itertools
import math

import numpy as np

from real_robot.poses import exp_map
from real_robot.safety.limits import SafetyLimits
from real_robot.types import Array

__all__ = ["Regions"]

_SKIN = 1e-5
"""Metres and radians by which a moved target stays inside: rounding on the way there does not cross the limit."""


class Regions:
    """Box, keep-out boxes and cone of a gate.

    Paths come as samples `h` seconds apart, between which position and rotation may be bent: a point between two
    samples is at most (acceleration h^2 / 8) off the straight line, and the tool's axis at most
    ((angular acceleration + angular velocity^2) h^2 / 8) off; so much is asked for beyond the limits.
    """

    def __init__(self, limits: SafetyLimits, dt: float) -> None:
        self._box, self._cone = limits.box, limits.cone
        self._low = np.array([box.low for box in limits.keep_out]).reshape(-1, 3)
        self._high = np.array([box.high for box in limits.keep_out]).reshape(-1, 3)
        self._bend = limits.linear.acceleration / 8
        self._swing = (limits.angular.acceleration + limits.angular.velocity**2) / 8
        self._skin = max(_SKIN, 2 * self._swing * dt * dt)  # so that at rest the cone's edge can be kept

    def point(self, position: Array, rotation: Array) -> str | None:
        """The name of a limit that this pose breaks, or None."""
        if not ((self._box.low <= position) & (position <= self._box.high)).all():
            return "box"
        if self._touches(position[None], position[None], 0.0):
            return "keep_out"
        if self._cone is not None and not self._cosine(rotation) >= math.cos(self._cone.half_angle):
            return "cone"
        return None

    def path(self, low: Array, high: Array, positions: Array, rotations: Array, h: float) -> str | None:
        """The name of a limit that a path breaks anywhere, or None.

        low, high (3,): its lowest and highest position; positions (k, 3), rotations (k, 3, 3): samples of it, the first
        of where it starts, at most h seconds apart.
        """
        if not ((self._box.low <= low) & (high <= self._box.high)).all():
            return "box"
        if len(self._low) and self._touches(positions[:-1], positions[1:], self._bend * h * h):
            return "keep_out"
        if self._cone is not None:
            cosine = self._cosine(rotations)
            allowed = math.cos(max(0.0, self._cone.half_angle - self._swing * h * h))
            # from a start nearer to the edge than that, it may turn away from the edge
            least = max(math.cos(self._cone.half_angle), min(allowed, float(cosine[0]) - 1e-12))
            if not (cosine[1:] >= least).all():
                return "cone"
        return None

    def chain(self, positions: Array, rotations: Array, around: float, swing: float) -> tuple[str, int] | None:
        """The name of a limit that a path breaks, and the index of the first sample there, or None.

        positions (k, 3), rotations (k, 3, 3): samples of it, between which position and the tool's axis (length 1)
        leave the straight line by at most `around` metres and `swing`; at the samples themselves they do not.
        """
        inside = (self._box.low + around <= positions) & (positions <= self._box.high - around)
        broken = [("box", int(i)) for i in np.flatnonzero(~inside.all(-1))[:1]]
        if self._touches(positions[:-1], positions[1:], around):
            pairs = enumerate(itertools.pairwise(positions))
            broken.append(("keep_out", next(i for i, (a, b) in pairs if self._touches(a[None], b[None], around))))
        if self._cone is not None:
            outside = ~(self._cosine(rotations) >= math.cos(self._cone.half_angle) + swing)
            broken += [("cone", int(i)) for i in np.flatnonzero(outside)[:1]]
        return min(broken, key=lambda one: one[1], default=None)

    def _cosine(self, rotations: Array) -> Array:
        assert self._cone is not None
        return np.asarray((rotations @ self._cone.axis) @ self._cone.direction)

    def _touches(self, start: Array, end: Array, around: float) -> bool:
        """Whether a segment from start (k, 3) to end (k, 3) comes within `around` of a keep-out box (slab test)."""
        low, high = self._low - around, self._high + around
        bottom, top = np.minimum(start, end), np.maximum(start, end)
        near = ((bottom[:, None] <= high) & (top[:, None] >= low)).all(-1)
        if not near.any():
            return False
        segment, box = np.nonzero(near)
        origin, way = start[segment], end[segment] - start[segment]
        # an axis along which it does not move was decided above
        still = np.abs(way) < 1e-15
        inverse = 1 / np.where(still, 1.0, way)
        first, last = (low[box] - origin) * inverse, (high[box] - origin) * inverse
        enter = np.where(still, 0.0, np.minimum(first, last)).max(-1)
        leave = np.where(still, 1.0, np.maximum(first, last)).min(-1)
        return bool(((enter <= leave) & (enter <= 1) & (leave >= 0)).any())

    def wall_distance(self, position: Array) -> float:
        """Metres to the nearest wall or keep-out box."""
        distance = min(float((position - self._box.low).min()), float((self._box.high - position).min()))
        if len(self._low):
            gap = np.maximum(np.maximum(self._low - position, position - self._high), 0)
            distance = min(distance, float(np.sqrt((gap * gap).sum(-1)).min()))
        return distance

    def into_box(self, position: Array) -> Array:
        """The nearest position (3,) inside the box."""
        skin = np.minimum(_SKIN, (self._box.high - self._box.low) / 4)
        return np.minimum(np.maximum(position, self._box.low + skin), self._box.high - skin)

    def before_keep_out(self, start: Array, position: Array) -> Array:
        """`position` (3,), or where the straight line to it from `start` (3,) first meets a keep-out box."""
        way = position - start
        length = float(np.sqrt(way @ way))
        if length < 1e-9 or not len(self._low):
            return position
        if not self._touches(start[None], position[None], 20 * _SKIN):
            return position
        still = np.abs(way) < 1e-15
        inverse = 1 / np.where(still, 1.0, way)
        first, last = (self._low - start) * inverse, (self._high - start) * inverse
        beside = still & ((start < self._low) | (start > self._high))
        enter = np.where(still, np.where(beside, np.inf, -np.inf), np.minimum(first, last)).max(-1)
        leave = np.where(still, np.inf, np.maximum(first, last)).min(-1)
        meets = (enter <= leave) & (enter <= 1 + 10 * _SKIN / length) & (leave >= 0)
        if not meets.any():
            return position
        share = max(0.0, float(enter[meets].min()) - 10 * _SKIN / length)
        return np.asarray(start + min(1.0, share) * way)

    def into_cone(self, rotation: Array) -> Array:
        """The rotation (3, 3) nearest to `rotation` whose tool axis is inside the cone: tilted back, not turned."""
        if self._cone is None:
            return rotation
        axis = rotation @ self._cone.axis
        angle = math.acos(min(1.0, max(-1.0, float(axis @ self._cone.direction))))
        allowed = self._cone.half_angle - self._skin
        if angle <= allowed:
            return rotation
        across = np.cross(axis, self._cone.direction)
        length = float(np.sqrt(across @ across))
        if length < 1e-9:  # opposite: any way back is as short
            across = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
            length = float(np.sqrt(across @ across))
        return np.asarray(exp_map(across * ((angle - allowed) / length)) @ rotation)
