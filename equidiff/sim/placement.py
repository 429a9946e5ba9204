"""Random initial scenes that look the same from every side: rings about the workspace centre, any yaw."""

from __future__ import annotations

import numpy as np

from equidiff.config import ConfigError
from equidiff.sim.task import Start, Task

__all__ = ["sample_objects", "sample_start"]


def sample_objects(task: Task, rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    """{object: (x, y, yaw)} in metres and radians, uniform by area, at least `task.clearance` apart.

    Raises ConfigError if no such arrangement is found.
    """
    assert task.placement is not None
    for _ in range(1000):
        poses: dict[str, tuple[float, float, float]] = {}
        for name, placement in task.placement.items():
            inner, outer = placement.radius
            radius = np.sqrt(rng.uniform(inner**2, outer**2))
            angle = rng.uniform(-np.pi, np.pi)
            yaw = np.radians(placement.yaw) * rng.uniform(-1, 1)
            x, y = task.centre[0] + radius * np.cos(angle), task.centre[1] + radius * np.sin(angle)
            poses[name] = (float(x), float(y), float(yaw))
        points = np.array([pose[:2] for pose in poses.values()])
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        if (distances[np.triu_indices(len(points), 1)] >= task.clearance).all():
            return poses
    raise ConfigError(
        f"task {task.name}: no arrangement of {', '.join(task.placement)} with a clearance of {task.clearance} m was "
        "found in 1000 tries; lower task.clearance or raise the radii in task.placement"
    )


def sample_start(start: Start, task: Task, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Gripper position (3,) in metres, world frame, and yaw in radians."""
    radius, angle = start.radius * np.sqrt(rng.uniform()), rng.uniform(-np.pi, np.pi)
    height = task.table_height + rng.uniform(*start.height)
    position = np.array([task.centre[0] + radius * np.cos(angle), task.centre[1] + radius * np.sin(angle), height])
    return position, float(np.radians(start.yaw_centre + start.yaw * rng.uniform(-1, 1)))
