"""`Canvas`: where MuJoCo draws one model without a window. One GL context per process and picture size."""

from __future__ import annotations

import atexit
import weakref
from typing import Any

import numpy as np

from equidiff.sim.backend import load_mujoco

mujoco = load_mujoco()

__all__ = ["Canvas"]


class Canvas:
    """Draws `drawn`, a model that nobody steps, in pictures of up to `width` x `height` pixels.

    The GL context is shared by all canvases of that size, because making one costs more than many pictures; buffers,
    meshes and textures are the canvas's own, and are freed with it.
    """

    def __init__(self, drawn: Any, width: int, height: int, shapes: int = 2000) -> None:
        self.drawn = drawn
        drawn.vis.global_.offwidth, drawn.vis.global_.offheight = width, height
        self._gl = _context(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(drawn, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._free = weakref.finalize(self, _free, self._gl, self._context)
        self._scene = mujoco.MjvScene(drawn, maxgeom=shapes)
        self._options, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._options.geomgroup[0] = 0  # collision shapes

    def draw(
        self, data: Any, view: Any, width: int, height: int, depth: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The state in `data` seen from the MjvCamera `view`: (height, width, 3) uint8, and the depth buffer.

        Row 0 is the top. The depth buffer (height, width) float32 runs from 0, near, to 1, far; see `metres`.
        """
        self._gl.make_current()
        # which buffers are drawn to belongs to the GL context: another canvas may have bound its own
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.drawn, data, self._options, self._perturb, view, every, self._scene)
        place = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(place, self._scene, self._context)
        image = np.empty((height, width, 3), np.uint8)
        buffer = np.empty((height, width), np.float32) if depth else None
        mujoco.mjr_readPixels(image, buffer, place, self._context)
        return np.ascontiguousarray(image[::-1]), None if buffer is None else np.ascontiguousarray(buffer[::-1])

    def metres(self, buffer: np.ndarray) -> np.ndarray:
        """Distance along the optical axis (height, width) float64 of a depth buffer; 0 where nothing is."""
        clip, extent = self.drawn.vis.map, float(self.drawn.stat.extent)
        near, far = clip.znear * extent, clip.zfar * extent
        return np.where(buffer < 1, near / (1 - buffer.astype(np.float64) * (1 - near / far)), 0.0)

    def close(self) -> None:
        """Free what the GL library holds; may be called twice."""
        self._free()


_contexts: dict[tuple[int, int], Any] = {}


@atexit.register
def _free_contexts() -> None:
    """At the very end the GL library is gone before them, which they would complain about."""
    for context in _contexts.values():
        context.free()
        context.free = lambda: None  # it frees itself once more when it is deleted
    _contexts.clear()


def _context(width: int, height: int) -> Any:
    if (width, height) not in _contexts:
        _contexts[width, height] = mujoco.GLContext(width, height)
    return _contexts[width, height]


def _free(gl: Any, context: Any) -> None:
    """Buffers and textures are freed by number in the current GL context: in another one they are somebody else's."""
    gl.make_current()
    context.free()
