"""`PerceptionSettings`: which cameras there are and what is made of their pictures."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.perception.camera import camera_pose

__all__ = ["CameraSettings", "PerceptionError", "PerceptionSettings", "PointCloudSettings", "VoxelSettings"]

Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
_METHODS = ("farthest", "voxel")
_ORIGINS = ("world", "workspace")


class PerceptionError(ValueError):
    """Settings or pictures that do not fit; the message names the key and the fix."""


@dataclass(frozen=True)
class CameraSettings:
    """Size of a camera's picture in pixels.

    position, target (metres, world) and fovy (degrees, vertical): a camera of our own that looks from one point to
    the other, for instance straight down; without them the name is that of a camera that exists. In a config,
    `origin: workspace` says that the two points are given from the workspace centre at the height of the table.
    """

    width: int = 84
    height: int = 84
    position: tuple[float, float, float] | None = None
    target: tuple[float, float, float] | None = None
    fovy: float = 45.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or max(self.width, self.height) > 4096:
            raise PerceptionError(f"the sides of a picture are 1 to 4096 pixels, got {self.width} x {self.height}")
        if (self.position is None) != (self.target is None) or not 1 <= self.fovy <= 170:
            raise PerceptionError(
                "a camera of your own needs position and target, and fovy from 1 to 170 degrees; got "
                f"position={self.position}, target={self.target}, fovy={self.fovy}"
            )
        if self.position is None and self.fovy != CameraSettings.fovy:
            raise PerceptionError(
                "fovy is of a camera of your own, one that exists has its own; give position and target, or leave "
                f"fovy={self.fovy} out"
            )


@dataclass(frozen=True)
class VoxelSettings:
    """A grid of size^3 cells over `bounds` (metres, world), filled from the depth of `cameras`.

    The grid turns with the scene only if its middle is the workspace centre and it is square seen from above.
    """

    cameras: tuple[str, ...]
    bounds: Bounds
    size: int = 64

    def __post_init__(self) -> None:
        _check_bounds("voxels", self.bounds)
        (x0, x1), (y0, y1), _ = self.bounds
        if abs((x1 - x0) - (y1 - y0)) > 1e-6:
            raise PerceptionError(
                f"voxels.bounds: a grid must be square seen from above to turn with the scene, got {x1 - x0:.3f} by "
                f"{y1 - y0:.3f} m; give x and y the same length"
            )
        if not 1 <= self.size <= 512:
            raise PerceptionError(f"voxels.size: expected 1 to 512 cells, got {self.size}")


@dataclass(frozen=True)
class PointCloudSettings:
    """`points` points of the depth of `cameras` within `bounds` (metres, world).

    method: "farthest" (evenly spread, farthest-point sampling) or "voxel" (one point per cell of a size at which that
    is few enough). With fewer points than asked for, points are repeated; with none, all lie in the middle of the
    lower bound and are black: `centre` (x, y), by default that of the bounds, so that no turn of the scene moves them.
    clearance: metres above the lower bound within which nothing is kept, so that the table does not take most of the
    points. height: metres above the lower bound beyond which nothing is kept, e.g. to leave out the arm.
    """

    cameras: tuple[str, ...]
    bounds: Bounds
    points: int = 1024
    method: str = "farthest"
    colour: bool = True
    clearance: float = 0.0
    height: float | None = None
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_bounds("point_cloud", self.bounds)
        if self.method not in _METHODS or not 1 <= self.points <= 1_000_000:
            raise PerceptionError(
                f"point_cloud: expected method {' or '.join(_METHODS)} and points from 1 to 1000000, got "
                f"method={self.method!r}, points={self.points}"
            )
        low, high = self.bounds[2]
        if not 0 <= self.clearance < high - low:
            raise PerceptionError(
                f"point_cloud.clearance: expected metres from 0, got {self.clearance}; the bounds are "
                f"{high - low:.3f} m high"
            )
        if self.height is not None and not self.clearance < self.height < math.inf:
            raise PerceptionError(
                f"point_cloud.height: expected metres above the clearance of {self.clearance}, got {self.height}"
            )
        if self.centre is not None and (len(self.centre) != 2 or not all(map(math.isfinite, self.centre))):
            raise PerceptionError(f"point_cloud.centre: expected (x, y) in metres, got {self.centre}")

    @property
    def kept(self) -> Bounds:
        """The bounds without the clearance, and up to the height."""
        x, y, (low, high) = self.bounds
        return x, y, (low + self.clearance, high if self.height is None else min(high, low + self.height))

    @property
    def empty(self) -> tuple[float, float, float]:
        """Where all points lie if none is within the bounds."""
        (x0, x1), (y0, y1), (low, _) = self.bounds
        return (*(self.centre or ((x0 + x1) / 2, (y0 + y1) / 2)), low)


@dataclass(frozen=True)
class PerceptionSettings:
    """Everything that decides what observations look like, apart from the renderer. JSON round trip.

    cameras {name: CameraSettings}; image, depth: cameras whose picture or depth is observed as it is.
    """

    cameras: Mapping[str, CameraSettings] = field(default_factory=dict)
    image: tuple[str, ...] = ()
    depth: tuple[str, ...] = ()
    voxels: VoxelSettings | None = None
    point_cloud: PointCloudSettings | None = None

    def __post_init__(self) -> None:
        used = {"image": self.image, "depth": self.depth}
        used |= {k: v.cameras for k, v in (("voxels", self.voxels), ("point_cloud", self.point_cloud)) if v is not None}
        if not any(used.values()):
            raise PerceptionError(
                "perception: nothing is observed; name cameras in image, depth, voxels or point_cloud"
            )
        for key, names in used.items():
            if not names and key in ("voxels", "point_cloud"):
                raise PerceptionError(f"perception.{key}.cameras: at least one camera is needed")
            for name in names:
                if name not in self.cameras:
                    raise PerceptionError(
                        f"perception.{key}: camera {name!r} is not in perception.cameras{_near(name, self.cameras)}; "
                        f"there are: {', '.join(self.cameras) or 'none'}"
                    )

    @property
    def needs_depth(self) -> tuple[str, ...]:
        """Cameras whose depth is used."""
        groups = (self.depth, *(s.cameras for s in (self.voxels, self.point_cloud) if s is not None))
        return tuple(name for name in self.cameras if any(name in group for group in groups))

    @property
    def own_poses(self) -> dict[str, NDArray[np.float32]]:
        """(4, 4) camera to world of the cameras of our own."""
        return {
            name: camera_pose(camera.position, camera.target)
            for name, camera in self.cameras.items()
            if camera.position is not None and camera.target is not None
        }

    @property
    def used(self) -> tuple[str, ...]:
        """Cameras that are looked through."""
        return tuple(name for name in self.cameras if name in self.image or name in self.needs_depth)

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """{observation key: (shape, dtype)}."""
        out: dict[str, tuple[tuple[int, ...], str]] = {}
        for name in self.used:
            camera = self.cameras[name]
            if name in self.image:
                out[f"{name}_image"] = ((camera.height, camera.width, 3), "uint8")
            if name in self.depth:
                out[f"{name}_depth"] = ((camera.height, camera.width), "uint16")
            out[f"{name}_pose"] = ((4, 4), "float32")
        if self.voxels is not None:
            out["voxels"] = ((4, *(self.voxels.size,) * 3), "uint8")
        if self.point_cloud is not None:
            out["point_cloud"] = ((self.point_cloud.points, 6 if self.point_cloud.colour else 3), "float32")
        return out

    @classmethod
    def from_config(cls, node: Mapping[str, Any], bounds: Any = None, centre: tuple[float, float] | None = None) -> Any:
        """Settings of a config's node `perception`, or of what `to_json` made.

        bounds: of the workspace, taken where voxels or point_cloud name none; for voxels the largest square about
        `centre` within them, a cube's height, and half a cell lower. centre: of the workspace; voxels must be about it.
        None: (0, 0) for that square, and bounds that the node names are taken as they are. A camera with `origin:
        workspace` is placed above the centre and the lower bound. Raises PerceptionError with the key that does not
        fit.
        """
        _known("perception", node, {f.name for f in dataclasses.fields(cls)})
        cameras = {}
        for name, camera in dict(node.get("cameras") or {}).items():
            where = f"perception.cameras.{name}"
            _known(where, camera or {}, {"origin", *(f.name for f in dataclasses.fields(CameraSettings))})
            placed = _placed(where, camera or {}, bounds, centre)
            cameras[str(name)] = _make(where, CameraSettings, placed)
        parts: dict[str, Any] = {}
        for key, kind in (("voxels", VoxelSettings), ("point_cloud", PointCloudSettings)):
            part = node.get(key)
            if part is None:
                continue
            _known(f"perception.{key}", part, {f.name for f in dataclasses.fields(kind)})
            values = dict(part)
            if values.get("bounds") is None:
                if bounds is None:
                    raise PerceptionError(f"perception.{key}.bounds: needed, because the task has no bounds")
                size = int(values.get("size") or VoxelSettings.size)
                values["bounds"] = _cube(bounds, centre or (0.0, 0.0), size) if key == "voxels" else bounds
            if key == "point_cloud" and values.get("centre") is None:
                values["centre"] = centre
            parts[key] = _make(f"perception.{key}", kind, values)
        settings = _make(
            "perception", cls, {"image": node.get("image") or (), "depth": node.get("depth") or (), **parts}, cameras
        )
        voxels = settings.voxels
        if voxels is not None and centre is not None:
            middle = tuple(sum(voxels.bounds[i]) / 2 for i in (0, 1))
            if max(abs(middle[i] - centre[i]) for i in (0, 1)) > 1e-6:
                raise PerceptionError(
                    f"perception.voxels.bounds: the middle is {middle}, but the scene turns about the workspace centre "
                    f"{tuple(centre)}; centre the grid on it"
                )
        return settings

    def to_json(self) -> dict[str, Any]:
        """A JSON tree from which `from_config` makes equal settings."""
        return {
            "cameras": {name: dataclasses.asdict(camera) for name, camera in self.cameras.items()},
            "image": list(self.image),
            "depth": list(self.depth),
            "voxels": None if self.voxels is None else dataclasses.asdict(self.voxels),
            "point_cloud": None if self.point_cloud is None else dataclasses.asdict(self.point_cloud),
        }


def _placed(where: str, camera: Mapping[str, Any], bounds: Any, centre: Any) -> dict[str, Any]:
    """The camera in world coordinates: `origin` is left out, and added to position and target."""
    values = dict(camera)
    origin = values.pop("origin", "world")
    if origin not in _ORIGINS:
        raise PerceptionError(f"{where}.origin: expected {' or '.join(_ORIGINS)}, got {origin!r}")
    if origin == "world":
        return values
    if bounds is None:
        raise PerceptionError(
            f"{where}.origin: workspace needs the task's bounds, whose lowest z is the table; set them"
        )
    at = (*(centre or (0.0, 0.0)), bounds[2][0])
    for key in ("position", "target"):
        point = values.get(key)
        if point is None or len(point) != 3:
            raise PerceptionError(f"{where}.{key}: with origin=workspace, expected [x, y, z] in metres, got {point}")
        # 0.8 + 0.9 is not 1.7 to the last digit
        values[key] = tuple(round(float(a) + float(b), 9) for a, b in zip(at, point, strict=True))
    return values


def _make(
    where: str, kind: type, values: Mapping[str, Any], cameras: Mapping[str, CameraSettings] | None = None
) -> Any:
    plain = {key: _tuples(value) for key, value in values.items()}
    try:
        return kind(**plain) if cameras is None else kind(cameras=cameras, **plain)
    except PerceptionError as error:  # a camera does not know its name
        raise PerceptionError(f"{where}: {error}" if kind is CameraSettings else str(error)) from error
    except TypeError as error:
        raise PerceptionError(f"{where}: {error}") from error


def _tuples(value: Any) -> Any:
    """Lists of any depth, also of a config library, to tuples."""
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        return value
    return tuple(_tuples(v) for v in value)


def _cube(bounds: Any, centre: tuple[float, float], size: int) -> Bounds:
    """A cube, by half a cell lower than the bounds: a table on the lower bound would be in or out by rounding."""
    (x0, x1), (y0, y1), (z0, z1) = bounds
    half = min(centre[0] - x0, x1 - centre[0], centre[1] - y0, y1 - centre[1])
    low = float(z0) - half / max(size, 1)
    return (
        (centre[0] - half, centre[0] + half),
        (centre[1] - half, centre[1] + half),
        (low, low + max(2 * half, float(z1) - float(z0))),
    )


def _check_bounds(key: str, bounds: Any) -> None:
    if len(bounds) != 3 or not all(len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf for pair in bounds):
        raise PerceptionError(f"{key}.bounds: expected ((x0, x1), (y0, y1), (z0, z1)) in metres, finite, got {bounds}")


def _known(where: str, node: Any, known: set[str]) -> None:
    if not isinstance(node, Mapping):
        raise PerceptionError(f"{where}: expected a mapping, got {node!r}")
    for key in node:
        if key not in known:
            raise PerceptionError(
                f"{where}: no setting {key!r}{_near(str(key), known)}; there are: {', '.join(sorted(known))}"
            )


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
