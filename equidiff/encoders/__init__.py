"""Encoders: observations to regular features, one file per kind of observation."""

from equidiff.encoders.base import ArrayEncoder
from equidiff.encoders.frame_averaged import FrameAveraged
from equidiff.encoders.keypoints import KeypointEncoder, SceneKeypointEncoder
from equidiff.encoders.observation import ObservationEncoder
from equidiff.encoders.points import PointCloudEncoder
from equidiff.encoders.scene_image import SceneImageEncoder
from equidiff.encoders.so2_state import SO2StateEncoder
from equidiff.encoders.soft import SoftObservationEncoder
from equidiff.encoders.state import StateEncoder
from equidiff.encoders.voxels import VoxelEncoder
from equidiff.encoders.wrist_image import WristImageEncoder

__all__ = [
    "ArrayEncoder",
    "FrameAveraged",
    "KeypointEncoder",
    "ObservationEncoder",
    "PointCloudEncoder",
    "SO2StateEncoder",
    "SceneImageEncoder",
    "SceneKeypointEncoder",
    "SoftObservationEncoder",
    "StateEncoder",
    "VoxelEncoder",
    "WristImageEncoder",
]
