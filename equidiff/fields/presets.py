"""Common sets of fields, so that a config names a kind of observation or action, not every field."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from equidiff.fields.base import Field, FieldError
from equidiff.fields.derived import Height, LocalPosition, LocalRotation, RelativePosition, RelativeYaw, SymmetricYaw
from equidiff.fields.vectors import Displacement, Position, Rotation, RotationDelta, Scalars

__all__ = ["absolute_action", "relative_action", "relative_trajectory_action", "state_observation"]

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


def absolute_action() -> tuple[Field, ...]:
    """Target pose in the world frame and gripper: position, rotation vector, opening (7 values)."""
    return (Position("position"), Rotation("rotation", storage="rotvec"), Scalars("gripper"))


def relative_action() -> tuple[Field, ...]:
    """Deltas in the world frame as OSC_POSE takes them: displacement, rotation vector, opening (7 values)."""
    return (Displacement("position"), RotationDelta("rotation"), Scalars("gripper"))


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
