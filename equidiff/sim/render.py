"""Pictures and depth of a simulated scene without a window. Physics is untouched: a copy of the model is drawn."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from equidiff.config import did_you_mean
from equidiff.perception import CameraSettings, Frame, PerceptionError, camera_pose, intrinsics
from equidiff.perception.camera import quantised
from equidiff.sim.backend import load_mujoco
from equidiff.sim.canvas import Canvas

mujoco = load_mujoco()

__all__ = ["Camera", "Renderer", "RendererSettings"]


@dataclass(frozen=True)
class RendererSettings:
    """How pictures are drawn. A policy sees these differences, so a data file and a checkpoint keep them.

    kind "fast": no mirroring materials, edges smoothed by `samples` a pixel (0: not at all, 2 takes twice the time),
    meshes with `faces` of their faces but from `fewest_faces` to `most_faces`. kind "default": as MuJoCo and robosuite
    draw, 4 samples a pixel.
    """

    kind: str = "fast"
    faces: float = 0.1
    fewest_faces: int = 200
    most_faces: int = 1500
    samples: int = 0
    version: int = 2  # changes when the same settings give other pictures

    def __post_init__(self) -> None:
        if self.kind not in ("fast", "default"):
            raise PerceptionError(f"renderer.kind: expected 'fast' or 'default', got {self.kind!r}")
        if self.samples not in (0, 2, 4, 8):
            raise PerceptionError(f"renderer.samples: expected 0, 2, 4 or 8 a pixel, got {self.samples!r}")
        if self.samples and self.kind == "default":
            raise PerceptionError("renderer.samples: is of kind=fast; kind=default always takes 4. Leave one out")
        if not (0 < self.faces <= 1 and 4 <= self.fewest_faces <= self.most_faces):
            raise PerceptionError(
                "renderer: expected 0 < faces <= 1 and 4 <= fewest_faces <= most_faces, got "
                f"faces={self.faces}, fewest_faces={self.fewest_faces}, most_faces={self.most_faces}"
            )

    @classmethod
    def from_config(cls, node: Mapping[str, Any] | None) -> RendererSettings:
        """Settings from a mapping; None: the default ones."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in node or {}:
            if key not in known:
                raise PerceptionError(f"renderer: no setting {key!r}{did_you_mean(str(key), known)}")
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
        few.vis.quality.offsamples = self.samples
        return few


class Renderer:
    """Draws one model from several cameras, of sizes up to that of the largest. Call `close` when done.

    cameras {name: CameraSettings}: of the model, or of one's own with a position and a target. Raises PerceptionError
    for a camera that does not exist.
    """

    def __init__(self, model: Any, cameras: Mapping[str, CameraSettings], settings: RendererSettings) -> None:
        for name, camera in cameras.items():
            if camera.position is None and name not in _names(model):
                raise PerceptionError(f"{_no_camera(model, name)}; or give it a position and a target")
        self.cameras, self.settings, self._model = dict(cameras), settings, model
        width, height = (max(getattr(c, side) for c in cameras.values()) for side in ("width", "height"))
        self._drawn = settings.drawn(model)
        self._canvas = Canvas(self._drawn, width, height)

    def frame(self, data: Any, name: str, depth: bool) -> Frame:
        """What a camera sees of the state in `data`, whose mj_kinematics is up to date."""
        camera = self.cameras[name]
        _show_sites(self._drawn, self._model)
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
        image, buffer = self._canvas.draw(data, view, camera.width, camera.height, depth)
        return Frame(
            image,
            None if buffer is None else quantised(self._canvas.metres(buffer)),
            intrinsics(fovy, camera.width, camera.height),
            pose.astype(np.float32),
        )

    def close(self) -> None:
        """Free what the GL library holds; may be called twice."""
        self._canvas.close()


class Camera:
    """Pictures of one model at one size, for videos: materials do not mirror (if `dull`), shapes are all there."""

    def __init__(self, model: Any, width: int, height: int, dull: bool = True) -> None:
        self.model = model
        self._size = (width, height)
        self._drawn = copy.copy(model)
        if dull:
            self._drawn.mat_reflectance[:] = 0
        self._canvas = Canvas(self._drawn, width, height)

    def picture(self, data: Any, camera: str) -> np.ndarray:
        """(height, width, 3) uint8 of the state in `data`, seen from a camera of the model."""
        if camera not in _names(self._drawn):
            raise ValueError(_no_camera(self._drawn, camera))
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._drawn.camera(camera).id
        _show_sites(self._drawn, self.model)
        return self._canvas.draw(data, view, *self._size)[0]

    def close(self) -> None:
        """Free what the GL library holds; may be called twice."""
        self._canvas.close()


def _show_sites(drawn: Any, model: Any) -> None:
    """Sites that a task shows now, such as the glow of a stove; robosuite hides one by a negative opacity."""
    drawn.site_rgba[:] = model.site_rgba
    np.maximum(drawn.site_rgba, 0, out=drawn.site_rgba)


def _names(model: Any) -> list[str]:
    return [model.camera(i).name for i in range(model.ncam)]


def _no_camera(model: Any, name: str) -> str:
    names = _names(model)
    return f"camera {name!r} does not exist{did_you_mean(name, names)} There are: {', '.join(names)}"


def _look(view: Any, position: Any, target: Any) -> None:
    """A free camera of MuJoCo with the pose of `camera_pose`."""
    towards = np.asarray(target, float) - np.asarray(position, float)
    distance = float(np.linalg.norm(towards))
    view.type = mujoco.mjtCamera.mjCAMERA_FREE
    view.lookat[:], view.distance = target, distance
    view.elevation = float(np.degrees(np.arcsin(towards[2] / distance)))
    straight = float(np.hypot(towards[0], towards[1])) < 1e-6 * distance
    view.azimuth = 90.0 if straight else float(np.degrees(np.arctan2(towards[1], towards[0])))
