"""Encoders: observations to regular features, one file per kind of observation."""

from equidiff.encoders.base import ArrayEncoder
from equidiff.encoders.observation import ObservationEncoder
from equidiff.encoders.points import PointCloudEncoder
from equidiff.encoders.scene_image import SceneImageEncoder
from equidiff.encoders.state import StateEncoder
from equidiff.encoders.voxels import VoxelEncoder
from equidiff.encoders.wrist_image import WristImageEncoder

__all__ = [
    "ArrayEncoder",
    "ObservationEncoder",
    "PointCloudEncoder",
    "SceneImageEncoder",
    "StateEncoder",
    "VoxelEncoder",
    "WristImageEncoder",
]
