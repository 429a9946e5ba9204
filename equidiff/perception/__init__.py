"""From pictures and depth to observations: numpy only, the same code for data, simulation and the arm."""

from equidiff.perception.camera import Frame, camera_pose, intrinsics, project, world_points
from equidiff.perception.observe import Perception
from equidiff.perception.overhead import check_overhead
from equidiff.perception.settings import (
    CameraSettings,
    PerceptionError,
    PerceptionSettings,
    PointCloudSettings,
    VoxelSettings,
)

__all__ = [
    "CameraSettings",
    "Frame",
    "Perception",
    "PerceptionError",
    "PerceptionSettings",
    "PointCloudSettings",
    "VoxelSettings",
    "camera_pose",
    "check_overhead",
    "intrinsics",
    "project",
    "world_points",
]
