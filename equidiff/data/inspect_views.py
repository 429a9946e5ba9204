"""Pictures, grids and clouds of a few demonstrations, and how their cameras look at the workspace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.inspect_checks import Finding

__all__ = ["CameraView", "Views", "camera_name", "cameras", "check_view", "choose"]

_BODY = ("eye_in_hand", "wrist", "hand", "gripper")
_ABOVE = ("topdown", "top_down", "birdview", "overhead")


@dataclass
class Views:
    """{key: {demonstration: (first, middle, last)}} of a few demonstrations, and camera poses of all."""

    kinds: dict[str, str] = field(default_factory=dict)
    frames: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    poses: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _moved: dict[str, float] = field(default_factory=dict)

    def keep(self, demo: str, key: str, kind: str, values: NDArray[Any]) -> None:
        """values: the sampled steps of one demonstration."""
        self.kinds[key] = kind
        chosen = [0, len(values) // 2, len(values) - 1]
        if kind in ("voxels", "cloud"):
            if key not in self.frames:  # one demonstration of these is enough
                self.frames[key] = {demo: values[[0]]}
            return
        self.frames.setdefault(key, {})[demo] = values[chosen]

    def keep_pose(self, key: str, values: NDArray[Any]) -> None:
        """values: (T, 4, 4) camera to world."""
        poses = np.asarray(values, dtype=np.float64)
        first = self.poses.setdefault(key, poses[0])
        self._moved[key] = max(self._moved.get(key, 0.0), float(np.abs(poses - first).max()))

    def moves(self, key: str) -> bool:
        """Whether the camera's pose changes (over 1 mm or 1 mrad) within or between demonstrations."""
        return self._moved.get(key, 0.0) > 1e-3


@dataclass(frozen=True)
class CameraView:
    """exact: `yes`, `approximate` or `unknown`. tilt: degrees of the axis from straight down, None if not known."""

    name: str
    exact: str
    tilt: float | None
    why: str


def cameras(image_keys: Sequence[str], views: Views, centre: tuple[float, float]) -> list[CameraView]:
    """How far the pictures of each camera turn with the scene.

    With the camera's pose (OpenCV axes, z forward): the tilt is arccos(-R[2, 2]), the angle between optical axis and
    straight down. A fixed camera is exact if it looks straight down (within 1 degree) with the centre on its axis
    (within 1 cm). A moving camera is fixed to the arm: its picture does not change. Without a pose the name decides.
    """
    out: list[CameraView] = []
    for key in image_keys:
        name = camera_name(key)
        pose_key = f"obs/{name}_pose"
        if any(view.name == name for view in out):
            continue
        if pose_key in views.poses:
            out.append(_from_pose(name, views.poses[pose_key], views.moves(pose_key), centre))
        elif any(part in name for part in _BODY):
            out.append(CameraView(name, "yes", None, "by its name on the gripper, so its picture does not change"))
        elif any(part in name for part in _ABOVE):
            out.append(CameraView(name, "unknown", None, "by its name from above, but the file has no pose to measure"))
        else:
            out.append(CameraView(name, "unknown", None, "no pose in the file; a tilted camera is only approximate"))
    return out


def camera_name(key: str) -> str:
    """obs/agentview_depth -> agentview."""
    return key.removeprefix("obs/").removesuffix("_image").removesuffix("_depth").removesuffix("_rgb")


def _from_pose(name: str, pose: NDArray[np.float64], moves: bool, centre: tuple[float, float]) -> CameraView:
    axis, origin = pose[:3, 2], pose[:3, 3]
    tilt = math.degrees(math.acos(float(np.clip(-axis[2], -1, 1))))
    if moves:
        return CameraView(name, "yes", tilt, "moves with the arm, so its picture does not change when the scene turns")
    beside = float(np.hypot(origin[0] - centre[0], origin[1] - centre[1]))
    if tilt <= 1.0 and beside <= 0.01:
        return CameraView(name, "yes", tilt, "looks straight down on the centre: the picture turns with the scene")
    if tilt <= 1.0:
        why = f"looks straight down, but {100 * beside:.0f} cm beside the centre: the picture turns about another point"
        return CameraView(name, "approximate", tilt, why)
    what = f"looks {tilt:.0f} degrees away from straight down"
    return CameraView(name, "approximate", tilt, f"{what}: turning its picture is not turning the scene")


def check_view(demo: str, key: str, kind: str, values: NDArray[Any]) -> Iterator[Finding]:
    """Findings in sampled pictures, depth pictures, grids or clouds (F, *shape) of one demonstration."""
    flat = values.reshape(len(values), -1)
    if kind == "image" and bool((flat == flat[:, :1]).all(1).any()):
        yield Finding("problem", "picture", demo, f"{key} has a picture of one colour")
    elif kind == "depth" and not (flat > 0).any(1).all():
        yield Finding("problem", "picture", demo, f"{key} has a picture without any depth")
    elif kind == "voxels" and not values[:, 0].reshape(len(values), -1).any(1).all():
        yield Finding("problem", "picture", demo, f"{key} has an empty grid")
    elif kind == "cloud" and bool((values[..., :3].reshape(len(values), -1).std(1) == 0).any()):
        yield Finding("problem", "picture", demo, f"{key} has a cloud of one point")
    if kind in ("image", "depth") and len(values) > 2 and bool((values == values[:1]).all()):
        yield Finding("problem", "picture", demo, f"{key} shows the same picture all the time")


def choose(names: Sequence[str], most: int) -> list[str]:
    """Up to `most` names, evenly over the file."""
    picks = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[i] for i in picks]
