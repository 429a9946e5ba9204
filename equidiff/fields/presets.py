"""Common sets of fields, so that a config names a kind of observation or action, not every field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from equidiff.fields.base import Field, FieldError
from equidiff.fields.derived import Height, LocalPosition, LocalRotation, RelativePosition, RelativeYaw, SymmetricYaw
from equidiff.fields.grids import Depth, Image, Voxels
from equidiff.fields.points import PointCloud
from equidiff.fields.vectors import Displacement, DownwardRotation, Position, Rotation, RotationDelta, Scalars

__all__ = [
    "absolute_action",
    "camera_observation",
    "planar_action",
    "point_cloud_observation",
    "proprioception",
    "relative_action",
    "relative_trajectory_action",
    "state_observation",
    "voxel_observation",
]

EEF_POSITION = "robot0_eef_pos"
EEF_ROTATION = "robot0_eef_quat_site"
GRIPPER = "robot0_gripper_qpos"


def state_observation(
    objects: Mapping[str, Mapping[str, Any]],
    absolute: bool = False,
    invariants: bool = True,
    gripper_size: int = 2,
) -> tuple[Field, ...]:
    """Gripper and object poses as pairs and scalars, seen from the gripper.

    objects: {name: {"fold": n or None, ...}}; fold n = the object looks the same after a turn by 2*pi/n
    about the vertical (4 = a cube: any face may be up), so that equal poses look equal; None or 1 = all
    of its orientation counts. absolute: add xy about the workspace centre. invariants: add what does
    not turn: poses seen in the gripper's frame.
    """
    fields: list[Field] = [Height(EEF_POSITION), Rotation(EEF_ROTATION), Scalars(GRIPPER, size=gripper_size)]
    if absolute:
        fields.append(Position(EEF_POSITION))
    for name, about in objects.items():
        position, rotation, fold = f"{name}_pos", f"{name}_quat", int(about.get("fold") or 1)
        fields += [RelativePosition(position, EEF_POSITION), Height(position)]
        if absolute:
            fields.append(Position(position))
        if invariants:
            fields.append(LocalPosition(position, EEF_POSITION, EEF_ROTATION))
        if fold == 1:
            fields.append(Rotation(rotation))
            if invariants:
                fields.append(LocalRotation(rotation, EEF_ROTATION))
        else:
            axis = "any" if fold % 4 == 0 else "x"
            fields.append(SymmetricYaw(rotation, fold=fold, axis=axis))
            if invariants:
                fields.append(RelativeYaw(rotation, EEF_ROTATION, fold=fold, axis=axis))
    for first, second in combinations(objects, 2):
        fields.append(RelativePosition(f"{second}_pos", f"{first}_pos"))
    return tuple(fields)


def proprioception(absolute: bool = True, gripper_size: int = 2) -> tuple[Field, ...]:
    """The gripper: position (absolute=False: only its height), orientation, opening."""
    place: Field = Position(EEF_POSITION) if absolute else Height(EEF_POSITION)
    return (place, Rotation(EEF_ROTATION), Scalars(GRIPPER, size=gripper_size))


def camera_observation(
    scene: Sequence[str] = ("agentview",),
    wrist: Sequence[str] = ("robot0_eye_in_hand",),
    size: int = 84,
    overhead: bool = False,
    depth: Sequence[str] = (),
) -> tuple[Field, ...]:
    """Pictures (size x size) of cameras that watch the scene and of cameras on the gripper, and the gripper itself.

    depth: cameras whose depth is observed as well; those that are not in `wrist` watch the scene. overhead: the scene's
    cameras look straight down at the workspace centre, so that their pictures turn exactly.
    """
    pictures = [Image(f"{name}_image", height=size, width=size, overhead=overhead) for name in scene]
    on_gripper = [Image(f"{name}_image", height=size, width=size, view="body") for name in wrist]
    depths = [
        Depth(f"{name}_depth", size, size, "body")
        if name in wrist
        else Depth(f"{name}_depth", size, size, "scene", overhead)
        for name in depth
    ]
    return (*pictures, *on_gripper, *depths, *proprioception())


def voxel_observation(
    size: int = 64, wrist: Sequence[str] = ("robot0_eye_in_hand",), picture_size: int = 84
) -> tuple[Field, ...]:
    """A voxel grid, pictures of cameras on the gripper, and the gripper itself."""
    return (Voxels("voxels", size=size), *camera_observation((), wrist, picture_size))


def point_cloud_observation(
    points: int = 256, colour: bool = True, scale: float = 0.2, from_gripper: bool = True, floor_z: float = 0.8
) -> tuple[Field, ...]:
    """A point cloud and the gripper itself, both seen from the gripper, or about the workspace centre."""
    cloud = PointCloud(
        "point_cloud",
        points=points,
        colour=colour,
        origin=EEF_POSITION if from_gripper else "",
        scale=scale,
        floor_z=floor_z,
    )
    return (cloud, *proprioception(absolute=not from_gripper))


def absolute_action(projection: str = "nearest") -> tuple[Field, ...]:
    """Target pose in the world frame and gripper: position, rotation vector, opening (7 values).

    projection: how a predicted rotation becomes a true one, see Rotation.
    """
    return (Position("position"), Rotation("rotation", storage="rotvec", projection=projection), Scalars("gripper"))


def planar_action() -> tuple[Field, ...]:
    """Target position, yaw of a gripper that points down, and gripper; stored as `absolute_action` (7 values)."""
    return (Position("position"), DownwardRotation("rotation", storage="rotvec"), Scalars("gripper"))


def relative_action(as_matrix: bool = False, projection: str = "nearest") -> tuple[Field, ...]:
    """Deltas in the world frame as OSC_POSE takes them: displacement, rotation vector, opening (7 values).

    as_matrix: learn the rotation's 3x3 matrix, as the published relative control does. projection: how a predicted
    matrix becomes a rotation, see RotationDelta.
    """
    rotation = RotationDelta("rotation", as_matrix=as_matrix, projection=projection)
    return (Displacement("position"), rotation, Scalars("gripper"))


def relative_trajectory_action(frame: str = "world") -> tuple[Field, ...]:
    """Absolute targets seen from the current gripper pose; what is stored and executed stays absolute.

    frame="world": position relative to the current one along the world's axes, absolute rotation.
    frame="gripper": the whole chunk in the current gripper frame, which makes it invariant.
    """
    if frame == "world":
        position: Field = RelativePosition("position", EEF_POSITION)
        return (position, Rotation("rotation", storage="rotvec"), Scalars("gripper"))
    if frame == "gripper":
        position = LocalPosition("position", EEF_POSITION, EEF_ROTATION)
        return (position, LocalRotation("rotation", EEF_ROTATION, storage="rotvec"), Scalars("gripper"))
    raise FieldError(f"relative_trajectory_action: frame must be 'world' or 'gripper', got {frame!r}")
