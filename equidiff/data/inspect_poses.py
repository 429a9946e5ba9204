"""Where gripper and objects are in each demonstration, whatever keys hold their poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRIPPER", "DemoPoses", "heading", "poses_of", "quaternion_matrix"]

GRIPPER = "gripper"
_EEF = ("obs/robot0_eef_pos", "datagen_info/eef_pose")
_PATH_POINTS = 80  # kept of each demonstration's path


@dataclass(frozen=True)
class DemoPoses:
    """One demonstration seen from above.

    start: {name: (3,) position at the first step}; frame: {name: (3, 3) orientation there}; path: (P, 3) gripper;
    step: (3,) sums over the steps of the horizontal motion's second moments (xx, xy, yy); travel: (2,) net motion;
    headings: step directions summed as exp(i k phi) weighted by length, k = 1..4, with the total length first.
    """

    name: str
    start: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    frame: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    path: NDArray[np.float64] | None = None
    moments: NDArray[np.float64] | None = None
    travel: NDArray[np.float64] | None = None
    headings: NDArray[np.complex128] | None = None


def poses_of(demo: str, arrays: Mapping[str, NDArray[Any]]) -> DemoPoses:
    """From robomimic's <object>_pos and <object>_quat, MimicGen's datagen_info, and the actions."""
    start: dict[str, NDArray[np.float64]] = {}
    frame: dict[str, NDArray[np.float64]] = {}
    path = None
    if _EEF[0] in arrays and len(arrays[_EEF[0]]):
        path = np.asarray(arrays[_EEF[0]], dtype=np.float64)
        for key in ("obs/robot0_eef_quat_site", "obs/robot0_eef_quat"):
            if key in arrays:
                frame[GRIPPER] = quaternion_matrix(arrays[key][0])
                break
    elif _EEF[1] in arrays and arrays[_EEF[1]].shape[1:] == (4, 4) and len(arrays[_EEF[1]]):
        poses = np.asarray(arrays[_EEF[1]], dtype=np.float64)
        path, frame[GRIPPER] = poses[:, :3, 3], poses[0, :3, :3]
    if path is not None:
        start[GRIPPER] = path[0]
    for key, values in arrays.items():
        name = key.rpartition("/")[2]
        if key.startswith("datagen_info/object_poses/") and values.shape[1:] == (4, 4) and len(values):
            start.setdefault(name, np.asarray(values[0, :3, 3], dtype=np.float64))
            frame.setdefault(name, np.asarray(values[0, :3, :3], dtype=np.float64))
        elif _is_object(key) and values.shape[1:] == (3,) and len(values):
            name = name.removesuffix("_pos")
            start[name] = np.asarray(values[0], dtype=np.float64)
            quaternion = arrays.get(f"obs/{name}_quat")
            if quaternion is not None and quaternion.shape[1:] == (4,):
                frame[name] = quaternion_matrix(quaternion[0])
    kept = None if path is None else path[np.unique(np.linspace(0, len(path) - 1, _PATH_POINTS).round().astype(int))]
    return DemoPoses(demo, start, frame, kept, *_motion(arrays))


def quaternion_matrix(xyzw: NDArray[Any]) -> NDArray[np.float64]:
    """(4,) to (3, 3); of any length but zero, which gives NaN."""
    q = np.asarray(xyzw, dtype=np.float64)
    length = np.linalg.norm(q)
    if not length > 0:
        return np.full((3, 3), np.nan)
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def heading(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) to angles (n,): atan2(R[1, j], R[0, j]) of the body axis j that is most horizontal on average.

    A turn of the scene by a about the vertical adds a to it, whichever axis is taken.
    """
    axis = int(np.nanmean(np.linalg.norm(frames[:, :2, :], axis=1), axis=0).argmax())
    return np.asarray(np.arctan2(frames[:, 1, axis], frames[:, 0, axis]))


def _is_object(key: str) -> bool:
    name = key.removeprefix("obs/")
    robot = name.startswith(("robot", "gripper", "eef")) or "_to_" in name or "joint" in name
    return key.startswith("obs/") and "/" not in name and name.endswith("_pos") and not robot


def _motion(arrays: Mapping[str, NDArray[Any]]) -> tuple[Any, Any, Any]:
    """Second moments, net motion and directions of the horizontal part of the actions."""
    if "actions" in arrays and arrays["actions"].shape[1:] == (7,):
        step = np.asarray(arrays["actions"][:, :2], dtype=np.float64)
    elif "actions_abs" in arrays and arrays["actions_abs"].shape[1:] == (7,):
        step = np.diff(np.asarray(arrays["actions_abs"][:, :2], dtype=np.float64), axis=0)
    else:
        return None, None, None
    step = step[np.isfinite(step).all(1)]
    if not len(step):
        return None, None, None
    moments = np.array([(step[:, 0] ** 2).sum(), (step[:, 0] * step[:, 1]).sum(), (step[:, 1] ** 2).sum()])
    length = np.linalg.norm(step, axis=1)
    phi = np.arctan2(step[:, 1], step[:, 0])
    headings = np.array([length.sum(), *((length * np.exp(1j * k * phi)).sum() for k in range(1, 5))])
    return moments, step.sum(0), headings
