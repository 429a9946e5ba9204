"""Pictures and depth of a simulated scene without a window. Physics is untouched: a copy of the model is drawn."""

from __future__ import annotations

import atexit
import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from equidiff.config import did_you_mean
from equidiff.perception import CameraSettings, Frame, PerceptionError, camera_pose, intrinsics
from equidiff.perception.camera import quantised
from equidiff.sim.backend import load_robosuite

load_robosuite()  # chooses the GL library, which mujoco asks for when it is imported

import mujoco  # noqa: E402

__all__ = ["Camera", "Renderer", "RendererSettings"]


@dataclass(frozen=True)
class RendererSettings:
    """How pictures are drawn. A policy sees these differences, so a data file and a checkpoint keep them.

    kind "fast": no mirroring materials, no smoothing of edges, meshes with `faces` of their faces but from
    `fewest_faces` to `most_faces`. kind "default": as MuJoCo and robosuite draw, 4 samples a pixel.
    """

    kind: str = "fast"
    faces: float = 0.1
    fewest_faces: int = 200
    most_faces: int = 1500
    version: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("fast", "default"):
            raise ValueError(f"renderer.kind: expected 'fast' or 'default', got {self.kind!r}")

    @classmethod
    def from_config(cls, node: Mapping[str, Any] | None) -> RendererSettings:
        """Settings from a mapping; None: the default ones."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in node or {}:
            if key not in known:
                raise ValueError(f"renderer: no setting {key!r}{did_you_mean(str(key), known)}")
        return cls(**(node or {}))

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)

    def drawn(self, model: Any) -> Any:
        """The copy of `model` that is drawn."""
        if self.kind == "default":
            return copy.copy(model)
        from equidiff.sim.meshes import with_fewer_faces

        few = with_fewer_faces(model, self.faces, self.fewest_faces, self.most_faces)
        few.mat_reflectance[:] = 0
        few.vis.quality.offsamples = 0
        return few


class Renderer:
    """Draws one model from several cameras, of sizes up to that of the largest. Call `close` when done.

    cameras {name: CameraSettings}: of the model, or of one's own with a position and a target. Raises PerceptionError
    for a camera that does not exist.
    """

    def __init__(self, model: Any, cameras: Mapping[str, CameraSettings], settings: RendererSettings) -> None:
        names = [model.camera(i).name for i in range(model.ncam)]
        for name, camera in cameras.items():
            if camera.position is None and name not in names:
                raise PerceptionError(
                    f"camera {name!r} does not exist{did_you_mean(name, names)} There are: {', '.join(names)}; or give "
                    "it a position and a target"
                )
        self.cameras, self.settings = dict(cameras), settings
        self._drawn = settings.drawn(model)
        self._fovy = float(model.vis.global_.fovy)
        width, height = (max(getattr(c, side) for c in cameras.values()) for side in ("width", "height"))
        self._drawn.vis.global_.offwidth, self._drawn.vis.global_.offheight = width, height
        self._gl = _context(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._drawn, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self._drawn, maxgeom=2000)
        self._options, self._perturb = _options(), mujoco.MjvPerturb()
        near, far = model.vis.map.znear * model.stat.extent, model.vis.map.zfar * model.stat.extent
        self._near, self._ratio = float(near), float(near / far)

    def frame(self, data: Any, name: str, depth: bool) -> Frame:
        """What a camera sees of the state in `data`, whose mj_kinematics is up to date."""
        camera = self.cameras[name]
        mujoco.mj_camlight(self._drawn, data)
        view = mujoco.MjvCamera()
        if camera.position is None:
            number = self._drawn.camera(name).id
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
            fovy = float(self._drawn.cam_fovy[number])
            pose = np.eye(4)
            # MuJoCo's camera looks along its -z with +y up
            pose[:3, :3] = data.cam_xmat[number].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
            pose[:3, 3] = data.cam_xpos[number]
        else:
            assert camera.target is not None
            fovy, pose = camera.fovy, camera_pose(camera.position, camera.target).astype(np.float64)
            _look(view, camera.position, camera.target)
        self._drawn.vis.global_.fovy = fovy
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._drawn, data, self._options, self._perturb, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        place = mujoco.MjrRect(0, 0, camera.width, camera.height)
        mujoco.mjr_render(place, self._scene, self._context)
        image = np.empty((camera.height, camera.width, 3), np.uint8)
        buffer = np.empty((camera.height, camera.width), np.float32) if depth else None
        mujoco.mjr_readPixels(image, buffer, place, self._context)
        metres = None
        if buffer is not None:
            seen = self._near / (1 - np.flipud(buffer).astype(np.float64) * (1 - self._ratio))
            metres = quantised(np.where(np.flipud(buffer) < 1, seen, 0))
        return Frame(
            np.ascontiguousarray(np.flipud(image)),
            metres,
            intrinsics(fovy, camera.width, camera.height),
            pose.astype(np.float32),
        )

    def close(self) -> None:
        """Free what the GL context holds of this model."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None


_contexts: dict[tuple[int, int], Any] = {}


@atexit.register
def _free_contexts() -> None:
    """At the very end the GL library is gone before them, which they would complain about."""
    for context in _contexts.values():
        context.free()
        context.free = lambda: None  # it frees itself once more when it is deleted
    _contexts.clear()


def _context(width: int, height: int) -> Any:
    """One GL context per process and size: making one costs more than many pictures."""
    if (width, height) not in _contexts:
        _contexts[width, height] = mujoco.GLContext(width, height)
    return _contexts[width, height]


def _options() -> Any:
    options = mujoco.MjvOption()
    options.geomgroup[0] = 0  # collision shapes
    options.sitegroup[:] = 0
    return options


def _look(view: Any, position: Any, target: Any) -> None:
    """A free camera of MuJoCo with the pose of `camera_pose`."""
    towards = np.asarray(target, float) - np.asarray(position, float)
    distance = float(np.linalg.norm(towards))
    view.type = mujoco.mjtCamera.mjCAMERA_FREE
    view.lookat[:], view.distance = target, distance
    view.elevation = float(np.degrees(np.arcsin(towards[2] / distance)))
    straight = float(np.hypot(towards[0], towards[1])) < 1e-6 * distance
    view.azimuth = 90.0 if straight else float(np.degrees(np.arctan2(towards[1], towards[0])))


class Camera:
    """Pictures of one model at one size, for videos: materials do not mirror, shapes are all there."""

    def __init__(self, model: Any, width: int, height: int, dull: bool = True) -> None:
        self.model = model
        drawn = copy.copy(model)
        if dull:
            drawn.mat_reflectance[:] = 0
        drawn.vis.global_.offwidth, drawn.vis.global_.offheight = width, height
        self._drawn = drawn
        self._renderer = mujoco.Renderer(drawn, height, width)
        self._options = _options()

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
