"""Pictures as they are recorded: cut to shape, made smaller, with the intrinsics that then hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from equidiff.perception import CameraSettings, PerceptionSettings
from real_robot.contract import CameraFeatures
from real_robot.poses import Pose
from real_robot.teleop.errors import RecordingError
from real_robot.types import Array, CameraFrame

__all__ = ["Pictures", "fitted", "fitted_intrinsics"]


def _window(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest middle part with the shape of `size`."""
    scale = min(height / size[0], width / size[1])
    h, w = round(size[0] * scale), round(size[1] * scale)
    return (height - h) // 2, (width - w) // 2, h, w


def fitted(frame: CameraFrame, size: tuple[int, int]) -> CameraFrame:
    """The middle of a picture in `size` (height, width): colours averaged, distances picked."""
    height, width = frame.image.shape[:2]
    if (height, width) == size:
        return frame
    top, left, h, w = _window(height, width, size)
    image = np.ascontiguousarray(frame.image[top : top + h, left : left + w])
    import cv2

    small = np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.uint8)
    depth = None
    if frame.depth is not None:
        rows = top + ((np.arange(size[0]) + 0.5) * h / size[0]).astype(int)
        columns = left + ((np.arange(size[1]) + 0.5) * w / size[1]).astype(int)
        depth = frame.depth[rows][:, columns]  # an average would invent distances between near and far
    return dataclasses.replace(frame, image=small, depth=depth)


def fitted_intrinsics(matrix: Array, height: int, width: int, size: tuple[int, int]) -> Array:
    """Intrinsics (3, 3) of what `fitted` makes of a picture of height x width."""
    top, left, h, w = _window(height, width, size)
    x, y = size[1] / w, size[0] / h
    k = np.asarray(matrix, np.float64)
    out: Array = np.array([[x, 0, -x * left], [0, y, -y * top], [0, 0, 1]]) @ k
    return out


class Pictures:
    """{camera: CameraFrame} to what is recorded: <camera>_image uint8 (H, W, 3), <camera>_depth uint16 (H, W).

    sizes {camera: (height, width)}; a camera that is not named keeps its own. depth: whether depth is recorded.
    """

    def __init__(
        self, cameras: Mapping[str, CameraFeatures], sizes: Mapping[str, tuple[int, int]], depth: bool = True
    ) -> None:
        for name in sizes:
            if name not in cameras:
                raise RecordingError(f"sizes.{name}: no such camera; there are: {', '.join(cameras) or 'none'}")
        self._cameras = dict(cameras)
        self.sizes = {n: tuple(sizes.get(n, (c.height, c.width))) for n, c in cameras.items()}
        self._depth = depth

    def observe(
        self, frames: Mapping[str, CameraFrame], tools: Mapping[str, Pose] | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """As `real_robot.calibration.live.Scene.observe`, which takes the place of this for calibrated cameras."""
        out: dict[str, NDArray[np.generic]] = {}
        for name, frame in frames.items():
            height, width = self.sizes[name]
            small = fitted(frame, (height, width))
            out[f"{name}_image"] = small.image
            if self._depth and small.depth is not None:
                out[f"{name}_depth"] = small.depth
        return out

    def about(self) -> dict[str, dict[str, object]]:
        """{camera: {height, width, intrinsics}} for env_args."""
        out: dict[str, dict[str, object]] = {}
        for name, camera in self._cameras.items():
            height, width = self.sizes[name]
            k = camera.intrinsics
            if k is not None:
                k = fitted_intrinsics(k, camera.height, camera.width, (height, width))
            out[name] = {"height": height, "width": width, "intrinsics": None if k is None else k.tolist()}
        return out

    @property
    def settings(self) -> PerceptionSettings | None:
        """What training and deployment have to know about the pictures; None without cameras."""
        if not self._cameras:
            return None
        with_depth = tuple(n for n, c in self._cameras.items() if self._depth and c.has_depth)
        cameras = {name: CameraSettings(width=size[1], height=size[0]) for name, size in self.sizes.items()}
        return PerceptionSettings(cameras, tuple(self._cameras), with_depth)

    def attributes(self) -> dict[str, object]:
        """Of the file: its `perception`, as data preparation writes it."""
        settings = self.settings
        return {} if settings is None else {"perception": {"settings": settings.to_json()}}
