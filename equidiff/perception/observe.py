"""`Perception`: frames of cameras to observations, the same in data preparation, simulation and on the arm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equidiff.perception.camera import Frame, world_points
from equidiff.perception.clouds import crop, fixed_size, voxel_grid
from equidiff.perception.settings import PerceptionError, PerceptionSettings

__all__ = ["Perception"]


class Perception:
    """Makes the observations that `settings` ask for. Depth is quantised before, so stored depth gives the same."""

    def __init__(self, settings: PerceptionSettings) -> None:
        self.settings = settings

    def observe(self, frames: Mapping[str, Frame]) -> dict[str, np.ndarray]:
        """{camera: Frame} -> {key: array}, with the keys, shapes and dtypes of `settings.shapes`.

        Raises PerceptionError for a missing camera, a missing depth or another size than the settings say.
        """
        settings = self.settings
        out: dict[str, np.ndarray] = {}
        for name in settings.used:
            frame = self._frame(frames, name)
            if name in settings.image:
                out[f"{name}_image"] = frame.image
            if name in settings.depth:
                assert frame.depth is not None
                out[f"{name}_depth"] = frame.depth
            out[f"{name}_pose"] = frame.pose.astype(np.float32)
        seen = {name: world_points(frames[name]) for name in settings.needs_depth if self._gives_points(name)}
        if settings.voxels is not None:
            points, colours = _joined([seen[name] for name in settings.voxels.cameras])
            out["voxels"] = voxel_grid(points, colours, settings.voxels.bounds, settings.voxels.size)
        if settings.point_cloud is not None:
            cloud = settings.point_cloud
            points, colours = crop(*_joined([seen[name] for name in cloud.cameras]), cloud.kept)
            sampled = fixed_size(points, colours, cloud.points, cloud.method, cloud.empty)
            out["point_cloud"] = sampled if cloud.colour else np.ascontiguousarray(sampled[:, :3])
        return out

    def _gives_points(self, name: str) -> bool:
        parts = (self.settings.voxels, self.settings.point_cloud)
        return any(part is not None and name in part.cameras for part in parts)

    def _frame(self, frames: Mapping[str, Frame], name: str) -> Frame:
        if name not in frames:
            raise PerceptionError(f"perception: no frame of camera {name!r}; got: {', '.join(frames) or 'none'}")
        frame, want = frames[name], self.settings.cameras[name]
        size = (want.height, want.width)
        if frame.image.shape != (*size, 3) or frame.image.dtype != np.uint8:
            raise PerceptionError(
                f"perception: the picture of {name!r} is {frame.image.dtype} {frame.image.shape}, expected uint8 "
                f"{(*size, 3)}; change perception.cameras.{name} or the camera"
            )
        if name in self.settings.needs_depth and (frame.depth is None or frame.depth.shape != size):
            got = "none" if frame.depth is None else str(frame.depth.shape)
            raise PerceptionError(f"perception: the depth of {name!r} is {got}, expected {size}")
        return frame


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([p for p, _ in parts]), np.concatenate([c for _, c in parts])
