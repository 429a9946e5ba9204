"""Synthetic demonstrations with known statistics for the inspection, with and without pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Place = Callable[[np.random.Generator], tuple[float, float]]


def disc(centre: tuple[float, float] = (0.0, 0.0), radius: float = 0.2, sector: float = 2 * np.pi) -> Place:
    """Uniform in a disc, or in a sector of it about the direction +x."""

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        r, phi = radius * np.sqrt(rng.uniform()), rng.uniform(-sector / 2, sector / 2)
        return centre[0] + r * np.cos(phi), centre[1] + r * np.sin(phi)

    return draw


def one_demo(rng: np.random.Generator, place: Place, yaw: float, steps: int) -> dict[str, NDArray[Any]]:
    """Arrays of a demonstration: the gripper moves from beside the centre to the cube and closes."""
    share = np.linspace(0, 1, steps)[:, None]
    cube = np.array([*place(rng), 0.82])
    start = np.array([*disc(radius=0.1)(rng), 1.0])
    position = start + share * (cube - start)
    quaternion = np.tile([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)], (steps, 1))
    gripper = np.where(share > 0.8, 1.0, -1.0)
    step = np.tile((cube - start) / steps / 0.05, (steps, 1))
    return {
        "states": rng.normal(size=(steps, 9)),
        "actions": np.concatenate([step, np.zeros((steps, 3)), gripper], 1),
        "obs/robot0_eef_pos": position,
        "obs/robot0_eef_quat_site": np.tile([1.0, 0.0, 0.0, 0.0], (steps, 1)),
        "obs/robot0_gripper_qpos": 0.04 * (1 - share) * np.array([[1.0, -1.0]]),
        "obs/cube_pos": np.tile(cube, (steps, 1)),
        "obs/cube_quat": quaternion,
    }


def camera_pose(tilt: float, beside: float = 0.0) -> NDArray[np.float32]:
    """Camera to world, OpenCV axes, `tilt` degrees from straight down, 1.2 m above a point beside the origin."""
    down = np.diag([1.0, -1.0, -1.0])
    a = np.deg2rad(tilt)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn @ down, (beside, 0.0, 1.2)
    return pose.astype(np.float32)


def seen(arrays: dict[str, NDArray[Any]], size: int = 24, tilt: float = 40.0) -> dict[str, NDArray[Any]]:
    """Pictures, depth, camera poses, voxels and a cloud that show the cube and the gripper of `arrays`."""
    position, cube = arrays["obs/robot0_eef_pos"], arrays["obs/cube_pos"]
    steps = len(position)
    image = np.full((steps, size, size, 3), 200, np.uint8)
    depth = np.full((steps, size, size), 12_000, np.uint16)
    voxels = np.zeros((steps, 4, 8, 8, 8), np.uint8)
    cloud = np.zeros((steps, 256, 6), np.float32)
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.uniform(-0.3, 0.3, (256, 2)), np.full(256, 0.8), np.full((256, 3), 0.6)])
    for t in range(steps):
        for point, colour, height in ((cube[t], (200, 30, 30), 11_000), (position[t], (40, 40, 40), 9_000)):
            u, v = (int(np.clip(size * (0.5 + s * w / 0.8), 1, size - 2)) for s, w in ((1, point[0]), (-1, point[1])))
            image[t, v - 1 : v + 2, u - 1 : u + 2] = colour
            depth[t, v - 1 : v + 2, u - 1 : u + 2] = height
        depth[t, 0, 0] = 0
        voxels[t, 0, 7] = 255
        voxels[t, 1:, 7] = 120
        cloud[t] = table
        cloud[t, :40, :3] = cube[t] + rng.uniform(-0.02, 0.02, (40, 3))
        cloud[t, :40, 3:] = (0.8, 0.1, 0.1)
    moving = np.tile(camera_pose(0.0), (steps, 1, 1))
    moving[:, :3, 3] = position
    return {
        "obs/agentview_image": image,
        "obs/agentview_depth": depth,
        "obs/agentview_pose": np.tile(camera_pose(tilt), (steps, 1, 1)),
        "obs/robot0_eye_in_hand_image": 255 - image,
        "obs/robot0_eye_in_hand_pose": moving,
        "obs/voxels": voxels,
        "obs/point_cloud": cloud,
    }


def write(
    path: Path,
    n: int = 40,
    place: Place | None = None,
    *,
    yaw: Callable[[np.random.Generator], float] = lambda rng: rng.uniform(-np.pi, np.pi),
    steps: int = 16,
    pictures: bool = False,
    seed: int = 0,
    change: Callable[[int, dict[str, NDArray[Any]]], None] | None = None,
    masks: dict[str, list[str]] | None = None,
    success: bool | None = True,
) -> Path:
    """A file of n demonstrations; `change` edits the arrays of demonstration i before they are written."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        if pictures:
            data.attrs["perception"] = json.dumps(
                {"cameras": ["agentview"], "image": [24, 24], "renderer": {"msaa": 0}}
            )
        for i in range(n):
            arrays = one_demo(rng, place or disc(), yaw(rng), steps + i % 3)
            if pictures:
                arrays |= seen(arrays)
            if change is not None:
                change(i, arrays)
            demo = data.create_group(f"demo_{i}")
            for key, values in arrays.items():
                demo.create_dataset(key, data=values)
            demo.attrs["num_samples"] = len(arrays.get("actions", arrays["states"]))
            if success is not None:
                demo.attrs["success"] = success
        for mask, names in (masks or {}).items():
            file.create_dataset(f"mask/{mask}", data=np.array(names, dtype="S"))
    return path
