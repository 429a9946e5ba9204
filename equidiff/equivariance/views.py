"""Turned scenes with what the policy would do in them, for drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equidiff.equivariance.measure import Run
from equidiff.fields import Depth, Displacement, Image, PointCloud, Position, Voxels
from equidiff.fields.presets import EEF_POSITION
from equidiff.perception import project
from equidiff.policy import DiffusionPolicy
from equidiff.rotations import rotation_about_z

__all__ = ["Cameras", "View", "views"]

Cameras = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""{camera: (intrinsics (3, 3), pose (4, 4) camera to world)} of fixed cameras."""

_STEP = 0.05  # metres that a relative action of 1 stands for (robosuite's OSC_POSE)


@dataclass(frozen=True)
class View:
    """One turned scene, metres. path, turned: (T, 3), the positions that the policy plans for the turned scene, and its
    plan for the scene as it is, turned. gripper, objects: (3,). pictures: {name: (H, W, 3) uint8}, as turned; drawn:
    {name: (path, turned)} as pixels (T, 2) of those whose camera is known. sides: {name: metres that a side of a
    picture from above covers}, where it is a map of the workspace.
    """

    angle: float
    gripper: NDArray[np.float64]
    path: NDArray[np.float64]
    turned: NDArray[np.float64]
    objects: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    points: NDArray[np.float64] | None = None
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    drawn: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    sides: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def views(
    policy: DiffusionPolicy,
    obs: Mapping[str, Tensor],
    angles: Sequence[float],
    seed: int = 0,
    sample: int = 0,
    cameras: Cameras | None = None,
) -> list[View]:
    """The scene number `sample` of `obs` at `angles` (radians), with the same noise, turned with it.

    cameras: those through which the plans are drawn over their pictures.
    """
    run = Run(policy, {key: value[sample : sample + 1] for key, value in obs.items()}, seed)
    return [_view(policy, run, angle, cameras or {}) for angle in angles]


def _view(policy: DiffusionPolicy, run: Run, angle: float, cameras: Cameras) -> View:
    obs, planned, turned = run.actions(angle)
    spec = policy.spec
    last = {key: value[0, -1] for key, value in obs.items()}
    start = last.get(EEF_POSITION)
    middle = np.array([*spec.workspace.centre, spec.workspace.bounds[2][0] if spec.workspace.bounds else 0.0])
    gripper = middle if start is None else start.double().cpu().numpy()
    relative = any(isinstance(f, Displacement) for f in spec.action.fields)
    objects = {
        key.removesuffix("_pos"): value.double().cpu().numpy()
        for key, value in last.items()
        if key != EEF_POSITION and isinstance(spec.observation.sources[key], Position)
    }
    pictures: dict[str, NDArray[np.uint8]] = {}
    sides, points = {}, None
    for name, array in spec.observation.arrays.items():
        if isinstance(array, PointCloud):
            points = last[array.key].double().cpu().numpy()
        elif isinstance(array, Image) and array.view == "scene":
            pictures[name] = last[array.key].cpu().numpy().astype(np.uint8)
        elif isinstance(array, Depth) and array.view == "scene":
            grey = 127.5 * (1 - array.decode({array.key: last[array.key]})[0].cpu().numpy())  # near is bright
            pictures[name] = np.repeat(grey[..., None], 3, -1).astype(np.uint8)
        elif isinstance(array, Voxels):
            pictures[f"{name} from above"] = _from_above(last[array.key].cpu().numpy())
            if spec.workspace.square is not None:
                sides[f"{name} from above"] = spec.workspace.square
    paths = []
    for actions in (planned, turned):
        places = actions[0, :, :3].double().cpu().numpy()
        paths.append(gripper + np.cumsum(places, 0) * _STEP if relative else places)
    drawn = {}
    for name, picture in pictures.items():
        camera = name.removesuffix("_image").removesuffix("_depth")
        if camera in cameras:
            matrix, pose = cameras[camera]
            drawn[name] = (
                _over(paths[0], angle, middle, picture, matrix, pose),
                _over(paths[1], angle, middle, picture, matrix, pose),
            )
    return View(angle, gripper, paths[0], paths[1], objects, points, pictures, drawn, sides)


def _over(
    path: NDArray[np.float64],
    angle: float,
    centre: NDArray[np.float64],
    picture: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    pose: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(T, 2) pixels of a path over a turned picture.

    The picture was taken before the turn, so the path is turned back, seen by the camera, and turned as the picture
    was. For a camera above the centre that is the same as seeing the path itself; for a tilted one it is not.
    """
    back = rotation_about_z(-angle).double().numpy()
    pixels = project((path - centre) @ back.T + centre, matrix, pose)
    middle = np.array([picture.shape[1], picture.shape[0]]) / 2
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, s], [-s, c]])  # rows count downwards
    seen: NDArray[np.float64] = (pixels - middle) @ turn.T + middle
    return seen


def _from_above(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, z from the top, y, x) -> (y, x, 3): the colour of the topmost occupied cell."""
    occupied = grid[0] > 127
    top = occupied.argmax(0)
    colour = np.take_along_axis(grid[1:4], top[None, None], 1)[:, 0]
    picture: NDArray[np.uint8] = np.where(occupied.any(0), colour, 24).transpose(1, 2, 0).astype(np.uint8)
    return picture
