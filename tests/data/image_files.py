"""Small files with pictures, depth and grids, and the spec that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from demo_files import arrays

from equidiff.data import DemoWriter
from equidiff.fields import Depth, Image, Position, Rotation, Scalars, Voxels
from equidiff.spec import Horizon, Space, Spec

SIZE = 20


def image_spec(obs: int = 2, size: int = SIZE) -> Spec:
    """Every stored type: float32, uint8 and uint16; the pictures, depth and grids are large enough to stay on disk."""
    observation = (
        Image("front_image", height=size, width=size),
        Depth("front_depth", height=size, width=size),
        Voxels("voxels", size=8),
        Position("robot0_eef_pos"),
        Rotation("robot0_eef_quat_site"),
    )
    action = (Position("position"), Rotation("rotation", storage="rotvec"), Scalars("gripper"))
    return Spec(Space(observation), Space(action), Horizon(obs=obs, predict=6, execute=3))


def write_images(path: Path, n: int = 4, steps: int = 9, size: int = SIZE, valid_fraction: float = 0.0) -> Path:
    """n demonstrations of steps, steps + 1, ... control steps with random pictures."""
    with DemoWriter(path, {"env_name": "Lift"}, {"task": "lift"}) as writer:
        for seed in range(n):
            rng, demo = np.random.default_rng(seed), arrays(seed, steps + seed)
            count = steps + seed
            demo["obs"] |= {
                "front_image": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
                "front_depth": rng.integers(0, 65536, (count, size, size), dtype=np.uint16),
                "voxels": rng.integers(0, 256, (count, 4, 8, 8, 8), dtype=np.uint8),
            }
            writer.add(seed, **demo)
        return writer.finish(valid_fraction)
