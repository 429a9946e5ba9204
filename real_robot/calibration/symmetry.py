"""The symmetry axis: vertical, and through the workspace centre, or the policy turns scenes that do not turn so.

An SO(2)-equivariant policy takes a scene turned about the world's z axis through the workspace centre for the same
scene. On the arm that axis is the base's z, through where `BaseInWorld` puts the centre. If it is tilted by t against
gravity, what stands at a distance r from it comes to stand up to 2 r sin(t) higher or lower as the scene is turned; if
it is off by d, a scene turned by a comes out displaced by 2 d sin(a / 2), up to 2 d.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from real_robot.calibration.board import CalibrationError
from real_robot.calibration.result import BaseInWorld
from real_robot.poses import Pose
from real_robot.types import Array, finite

__all__ = [
    "AxisBounds",
    "SymmetryAxis",
    "SymmetryAxisError",
    "check_symmetry_axis",
    "up_from_board",
    "up_from_gravity",
    "up_from_level",
]


class SymmetryAxisError(CalibrationError):
    """An axis too far from the vertical, or from the workspace centre; the message says what that costs and the fix."""


@dataclass(frozen=True)
class SymmetryAxis:
    """Errors of the axis. tilt: of the base's z against gravity, radians; towards: angle in the base's x, y plane, from
    x, of the side that is too low. yaw, radians, and centre, metres: of the base's yaw as it is set, and of the place
    of the workspace centre, against what was measured; None if the world frame was not measured. tilt_error,
    yaw_error, centre_error: one standard error of each. source: of the vertical. at: (x, y) of the workspace centre in
    the world, metres, of which `centre` tells; None in files that do not say.
    """

    tilt: float
    towards: float
    source: str
    tilt_error: float = 0.0
    yaw: float | None = None
    centre: float | None = None
    yaw_error: float = 0.0
    centre_error: float = 0.0
    at: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON tree."""
        return asdict(self) | {"at": None if self.at is None else list(self.at)}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> SymmetryAxis:
        """From that tree. CalibrationError for one that is none."""
        known = {field.name for field in fields(cls)}
        numbers = {key: value for key, value in tree.items() if key not in ("source", "at") and value is not None}
        if not {"tilt", "towards", "source"} <= tree.keys() <= known:
            raise CalibrationError(f"axis: expected {', '.join(sorted(known))}, got {', '.join(sorted(tree))}")
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise CalibrationError(f"axis.{key}: expected a finite number, got {value!r}")
            if value < 0 and key != "towards":
                raise CalibrationError(f"axis.{key}: expected a number >= 0, got {value!r}")
        at = tree.get("at")
        try:
            place = None if at is None else finite("at", at, (2,))
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"axis.at: expected [x, y] in metres, got {at!r}") from error
        return cls(**{**tree, "at": None if place is None else (float(place[0]), float(place[1]))})

    def about(self, centre: tuple[float, float]) -> SymmetryAxis:
        """At most these errors for a policy with that workspace centre.

        Where the base is turned by less than it is said to be, points d apart come out of place by up to yaw * d.
        """
        if self.at is None or self.centre is None or self.yaw is None:
            return self
        apart = math.dist(self.at, centre)
        error = math.hypot(self.centre_error, self.yaw_error * apart)
        return replace(self, centre=self.centre + self.yaw * apart, centre_error=error, at=centre)

    def sentences(self, reach: float) -> str:
        """In words, for a workspace of radius `reach` metres."""
        text = (
            f"base z is tilted by {_deg(self.tilt)} +- {_deg(self.tilt_error)} degrees (by {self.source}), lowest "
            f"towards {math.degrees(self.towards):.0f} degrees from x: at {reach:.2f} m from the centre heights change "
            f"by {2000 * reach * math.sin(self.tilt):.1f} mm when the scene is turned"
        )
        if self.centre is not None and self.yaw is not None:
            text += (
                f"; the workspace centre is off by {1000 * self.centre:.1f} +- {1000 * self.centre_error:.1f} mm: a "
                f"scene turned by half a turn is displaced by {2000 * self.centre:.1f} mm; the yaw is off by "
                f"{_deg(self.yaw)} +- {_deg(self.yaw_error)} degrees"
            )
        return text


@dataclass(frozen=True)
class AxisBounds:
    """What is refused, two standard errors added: tilt and yaw in radians, offset of the workspace centre in metres."""

    tilt: float = math.radians(1.0)
    centre: float = 0.01
    yaw: float = math.radians(3.0)

    def check(self, axis: SymmetryAxis, reach: float) -> None:
        """SymmetryAxisError when an error of the axis may be above its bound; reach: as of `sentences`."""
        refused = []
        if not axis.tilt + 2 * axis.tilt_error <= self.tilt:
            refused.append(
                f"the tilt is above {_deg(self.tilt)} degrees: scenes that the policy takes for the same lie at other "
                "heights and slopes, grasps miss by as much. Level the base (shim the low side), or measure more "
                "exactly"
            )
        if axis.centre is not None and not axis.centre + 2 * axis.centre_error <= self.centre:
            refused.append(
                f"the workspace centre is off by more than {1000 * self.centre:.0f} mm: turned scenes come out "
                "displaced by up to twice that. Set base.position as measured, or move the workspace"
            )
        if axis.yaw is not None and not axis.yaw + 2 * axis.yaw_error <= self.yaw:
            refused.append(
                f"the yaw is off by more than {_deg(self.yaw)} degrees: an equivariant policy does not mind, but "
                "bounds, boxes of the gate and every plain policy are turned by it. Set base.yaw as measured"
            )
        if refused:
            raise SymmetryAxisError(f"symmetry axis refused: {axis.sentences(reach)}. " + "; ".join(refused))


def up_from_gravity(gravity: ArrayLike, camera: Pose) -> Array:
    """Unit vector up (3,) in the base's frame, from the direction of gravity (3,) along the axes of a camera, as
    `real_robot.drivers.realsense.read_gravity` gives it, whose pose in the base's frame is `camera`."""
    down = finite("gravity", gravity, (3,))
    length = float(np.linalg.norm(down))
    if length < 1e-6:
        raise CalibrationError(f"axis.gravity: expected a direction, got {down.tolist()}")
    return -(camera.rotation @ down) / length


def up_from_level(along_x: float, along_y: float) -> Array:
    """Unit vector up (3,) in the base's frame, from a level laid along the base's x and y axes, radians: positive where
    the far end is higher."""
    x, y = math.sin(along_x), math.sin(along_y)
    if x * x + y * y > 0.99:
        raise CalibrationError(f"axis.level: expected two small angles, got {along_x} and {along_y} rad")
    return np.array([x, y, math.sqrt(1 - x * x - y * y)])


def up_from_board(board: Pose) -> Array:
    """Unit vector up (3,) in the base's frame, from a board that lies face up on a levelled table: against its z."""
    return -np.array(board.rotation[:, 2])


def check_symmetry_axis(
    up: ArrayLike,
    source: str,
    *,
    base: BaseInWorld,
    measured: Pose | None = None,
    centre: tuple[float, float] = (0.0, 0.0),
    height: float = 0.0,
    reach: float = 0.3,
    tilt_error: float = 0.0,
    yaw_error: float = 0.0,
    centre_error: float = 0.0,
    bounds: AxisBounds | None = None,
) -> SymmetryAxis:
    """Errors of the axis; SymmetryAxisError if one may be above its bound.

    up (3,): the vertical in the base's frame, from `source`. base: as the loop will use it; measured: pose of the base
    in the world, from a board laid at a known place of the workspace, or None. centre: Spec.workspace.centre, (x, y) in
    the world; height: of the work above the world's z = 0; reach: radius of the workspace, all metres. *_error: one
    standard error of each quantity.
    """
    upward = finite("up", up, (3,))
    upward = upward / np.linalg.norm(upward)
    tilt = math.atan2(float(np.hypot(upward[0], upward[1])), float(upward[2]))
    towards = math.atan2(-float(upward[1]), -float(upward[0]))
    yaw = offset = None
    if measured is not None:
        turn = base.pose.rotation.T @ measured.rotation
        yaw = abs(math.atan2(turn[1, 0], turn[0, 0]))
        point = np.array([*centre, height])
        apart = base.pose.inverse() @ Pose(point, np.eye(3)), measured.inverse() @ Pose(point, np.eye(3))
        offset = float(np.hypot(*(apart[0].position - apart[1].position)[:2]))
    axis = SymmetryAxis(tilt, towards, source, tilt_error, yaw, offset, yaw_error, centre_error, centre)
    (bounds or AxisBounds()).check(axis, reach)
    return axis


def _deg(radians: float) -> str:
    return f"{math.degrees(radians):.2f}"
