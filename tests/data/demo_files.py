"""Small synthetic demonstrations of a lift-like task, in the layout the project writes and in one it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data import DemoWriter
from equidiff.fields import Displacement, Position, Rotation, RotationDelta, Scalars
from equidiff.spec import Horizon, Space, Spec

TASK: dict[str, Any] = {
    "name": "lift",
    "centre": [0.0, 0.0],
    "bounds": None,
    "control_hz": 20,
    "objects": {"cube": {"body": "cube_main", "fold": 4}},
}


def toy_spec(control: str = "absolute", **horizon: int) -> Spec:
    """Gripper and cube, with as few fields as the arrays need."""
    observation = (Position("robot0_eef_pos"), Rotation("robot0_eef_quat_site"), Position("cube_pos"))
    absolute = (Position("position"), Rotation("rotation", storage="rotvec"), Scalars("gripper"))
    relative = (Displacement("position"), RotationDelta("rotation"), Scalars("gripper"))
    action = absolute if control == "absolute" else relative
    return Spec(Space(observation), Space(action), Horizon(**horizon))


def arrays(seed: int, steps: int) -> dict[str, Any]:
    """The gripper goes to the cube and closes; arguments of DemoWriter.add but the seed."""
    rng = np.random.default_rng(seed)
    cube, start = rng.uniform(-0.2, 0.2, 3), rng.uniform(-0.1, 0.1, 3)
    share = np.linspace(0, 1, steps)[:, None]
    position = start + share * (cube - start)
    yaw = rng.uniform(-np.pi, np.pi)
    quaternion = np.tile([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)], (steps, 1))
    gripper = np.where(share > 0.8, 1.0, -1.0)
    target = np.concatenate([position + 0.01, np.tile([0.0, 0.0, yaw], (steps, 1)), gripper], 1)
    delta = np.concatenate([np.tile(np.clip(cube - start, -1, 1), (steps, 1)), np.zeros((steps, 3)), gripper], 1)
    obs: dict[str, NDArray[np.float64]] = {
        "robot0_eef_pos": position,
        "robot0_eef_quat_site": quaternion,
        "robot0_gripper_qpos": 0.04 * (1 - share) * np.array([[1.0, -1.0]]),
        "cube_pos": np.tile(cube, (steps, 1)),
        "cube_quat": quaternion,
    }
    return {
        "states": rng.normal(size=(steps, 9)),
        "actions": delta,
        "actions_abs": target,
        "obs": obs,
        "model_file": "<x/>",
    }


def write_demos(path: Path, n: int = 6, steps: int = 20, valid_fraction: float = 0.0) -> Path:
    """A file of n demonstrations of steps, steps + 1, ... control steps."""
    with DemoWriter(path, {"env_name": "Lift"}, {"task": "lift"}) as writer:
        for seed in range(n):
            writer.add(seed, **arrays(seed, steps + seed))
        return writer.finish(valid_fraction)
