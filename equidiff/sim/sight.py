"""`Sight`: what the cameras of an environment see, as observations."""

from __future__ import annotations

from typing import Any

import numpy as np

from equidiff.perception import Perception, PerceptionSettings
from equidiff.sim.render import Renderer, RendererSettings

__all__ = ["Sight"]


class Sight:
    """Draws the scene and makes observations of it; the same for live environments and for stored states."""

    def __init__(self, perception: PerceptionSettings, renderer: RendererSettings) -> None:
        self.settings, self.renderer = perception, renderer
        self._perception = Perception(perception)
        self._model: Any = None
        self._renderer: Renderer | None = None

    def look(self, model: Any, data: Any) -> dict[str, np.ndarray]:
        """Observations of the state in `data`, whose mj_kinematics is up to date."""
        renderer = self._of(model)
        depth = self.settings.needs_depth
        return self._perception.observe(
            {name: renderer.frame(data, name, name in depth) for name in self.settings.used}
        )

    def intrinsics(self, model: Any, data: Any) -> dict[str, list[list[float]]]:
        """{camera: 3 x 3}."""
        renderer = self._of(model)
        return {name: renderer.frame(data, name, False).intrinsics.tolist() for name in self.settings.used}

    def close(self) -> None:
        """Free what the GL context holds."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._model = None

    def _of(self, model: Any) -> Renderer:
        if self._renderer is None or self._model is not model:
            self.close()
            used = {name: self.settings.cameras[name] for name in self.settings.used}
            self._renderer, self._model = Renderer(model, used, self.renderer), model
        return self._renderer
