"""Pictures of a simulated scene without a window."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

from equidiff.config import did_you_mean

__all__ = ["Camera"]


class Camera:
    """Renders one model at one size. Physics is untouched: the renderer works on a copy of the model.

    dull: draw mirroring materials without mirroring, which takes less time (scripts/bench_physics.py) and
    changes no shape.
    """

    def __init__(self, model: Any, width: int, height: int, dull: bool = True) -> None:
        self.model = model
        drawn = copy.copy(model)
        if dull:
            drawn.mat_reflectance[:] = 0
        drawn.vis.global_.offwidth, drawn.vis.global_.offheight = width, height
        self._drawn = drawn
        self._renderer = mujoco.Renderer(drawn, height, width)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision shapes
        self._options.sitegroup[:] = 0

    def picture(self, data: Any, camera: str) -> np.ndarray:
        """(height, width, 3) uint8 of the state in `data`, seen from a camera of the model."""
        names = [self._drawn.camera(i).name for i in range(self._drawn.ncam)]
        if camera not in names:
            raise ValueError(
                f"camera {camera!r} does not exist{did_you_mean(camera, names)} There are: {', '.join(names)}"
            )
        self._drawn.body_pos[:], self._drawn.body_quat[:] = self.model.body_pos, self.model.body_quat
        self._renderer.update_scene(data, camera, self._options)
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Free the GL context."""
        if hasattr(self._renderer, "close"):  # before mujoco 3 it goes with the renderer
            self._renderer.close()
        del self._renderer
