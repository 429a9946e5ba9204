"""Pinhole cameras: intrinsics, poses, and points in the world from depth.

Camera axes are OpenCV's: x to the right of the picture, y down, z into the scene. A pose is camera-to-world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["DEPTH_UNIT", "Frame", "camera_pose", "intrinsics", "project", "quantised", "world_points"]

DEPTH_UNIT = 1e-4
"""Metres of one step of stored depth (uint16: up to 6.55 m)."""


@dataclass(frozen=True)
class Frame:
    """What a camera saw: image (H, W, 3) uint8, depth (H, W) uint16 in DEPTH_UNIT or None, and where it was."""

    image: NDArray[np.uint8]
    depth: NDArray[np.uint16] | None
    intrinsics: NDArray[np.float32]
    pose: NDArray[np.float32]


def intrinsics(fovy: float, width: int, height: int) -> NDArray[np.float32]:
    """(3, 3) matrix of a camera with square pixels and the vertical field of view `fovy` in degrees."""
    focal = height / 2 / np.tan(np.radians(fovy) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


def camera_pose(position: ArrayLike, target: ArrayLike) -> NDArray[np.float32]:
    """(4, 4) pose of a camera at `position` that looks at `target`, the top of its picture as far up as it can be.

    A camera that looks straight down has the world's +y at the top of its picture and +x to the right.
    """
    at = np.asarray(position, np.float64)
    forward = np.asarray(target, np.float64) - at
    length = np.linalg.norm(forward)
    if length < 1e-9:
        raise ValueError(f"camera_pose: position and target are the same point, {tuple(at)}")
    forward /= length
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 1 - 1e-6 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, at
    return pose.astype(np.float32)


def quantised(metres: ArrayLike) -> NDArray[np.uint16]:
    """Depth (H, W) in metres as it is stored; what is not finite, not positive or too far becomes 0, nothing seen."""
    depth = np.asarray(metres, np.float64)
    steps = np.rint(np.where(np.isfinite(depth), depth, 0.0) / DEPTH_UNIT)
    return np.where((steps > 0) & (steps <= np.iinfo(np.uint16).max), steps, 0).astype(np.uint16)


def world_points(frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points (n, 3) in metres, world frame, of the pixels with depth, and their colours (n, 3)."""
    if frame.depth is None:
        raise ValueError("world_points: the frame has no depth")
    rows, columns = np.nonzero(frame.depth)
    z = frame.depth[rows, columns].astype(np.float32) * np.float32(DEPTH_UNIT)
    k = frame.intrinsics
    x = (columns.astype(np.float32) + np.float32(0.5) - k[0, 2]) / k[0, 0] * z
    y = (rows.astype(np.float32) + np.float32(0.5) - k[1, 2]) / k[1, 1] * z
    seen = np.stack([x, y, z], -1)
    return seen @ frame.pose[:3, :3].T + frame.pose[:3, 3], frame.image[rows, columns]


def project(points: ArrayLike, matrix: ArrayLike, pose: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in the world -> (n, 2) pixels (column, row) of a camera; nan behind it. Inverse of world_points.

    matrix: (3, 3) intrinsics; pose: (4, 4) camera to world. The middle of the first pixel is (0.5, 0.5).
    """
    k, place = np.asarray(matrix, np.float64), np.asarray(pose, np.float64)
    seen = (np.asarray(points, np.float64) - place[:3, 3]) @ place[:3, :3]
    z = np.where(seen[:, 2] > 1e-6, seen[:, 2], np.nan)
    return np.stack([k[0, 0] * seen[:, 0] / z + k[0, 2], k[1, 1] * seen[:, 1] / z + k[1, 2]], -1)
