"""Turned scenes with what the policy would do in them, for drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equidiff.equivariance.measure import Run
from equidiff.fields import Displacement, Image, PointCloud, Position, Voxels
from equidiff.fields.presets import EEF_POSITION
from equidiff.policy import DiffusionPolicy

__all__ = ["View", "views"]

_STEP = 0.05  # metres that a relative action of 1 stands for (robosuite's OSC_POSE)


@dataclass(frozen=True)
class View:
    """One turned scene from above, metres. path, turned: (T, 2), the positions that the policy plans for the turned
    scene, and its plan for the scene as it is, turned. pictures: {name: (H, W, 3) uint8}, as turned.
    """

    angle: float
    gripper: NDArray[np.float64]
    path: NDArray[np.float64]
    turned: NDArray[np.float64]
    objects: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    points: NDArray[np.float64] | None = None
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


@torch.no_grad()
def views(
    policy: DiffusionPolicy, obs: Mapping[str, Tensor], angles: Sequence[float], seed: int = 0, sample: int = 0
) -> list[View]:
    """The scene number `sample` of `obs` at `angles` (radians), with the same noise, turned with it."""
    run = Run(policy, {key: value[sample : sample + 1] for key, value in obs.items()}, seed)
    return [_view(policy, run, angle) for angle in angles]


def _view(policy: DiffusionPolicy, run: Run, angle: float) -> View:
    obs, planned, turned = run.actions(angle)
    spec = policy.spec
    last = {key: value[0, -1] for key, value in obs.items()}
    start = last.get(EEF_POSITION)
    gripper = np.zeros(2) + spec.workspace.centre if start is None else start[:2].double().cpu().numpy()
    relative = any(isinstance(f, Displacement) for f in spec.action.fields)
    objects = {
        key.removesuffix("_pos"): value[:2].double().cpu().numpy()
        for key, value in last.items()
        if key != EEF_POSITION and isinstance(spec.observation.sources[key], Position)
    }
    pictures, points = {}, None
    for name, array in spec.observation.arrays.items():
        if isinstance(array, PointCloud):
            points = last[array.key].double().cpu().numpy()
        elif isinstance(array, Image) and array.view == "scene":
            pictures[name] = last[array.key].cpu().numpy().astype(np.uint8)
        elif isinstance(array, Voxels):
            pictures[f"{name} from above"] = _from_above(last[array.key].cpu().numpy())
    paths = []
    for actions in (planned, turned):
        xy = actions[0, :, :2].double().cpu().numpy()
        paths.append(gripper + np.cumsum(xy, 0) * _STEP if relative else xy)
    return View(angle, gripper, paths[0], paths[1], objects, points, pictures)


def _from_above(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, z from the top, y, x) -> (y, x, 3): the colour of the topmost occupied cell."""
    occupied = grid[0] > 127
    top = occupied.argmax(0)
    colour = np.take_along_axis(grid[1:4], top[None, None], 1)[:, 0]
    picture: NDArray[np.uint8] = np.where(occupied.any(0), colour, 24).transpose(1, 2, 0).astype(np.uint8)
    return picture
