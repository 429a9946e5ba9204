"""What the arrays of a demonstration are, from their names and shapes, and how each turns with the scene."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BIG", "Kind", "kind_of", "law_of"]

BIG = 2048
"""Values per step beyond which an array is looked at in samples."""


@dataclass(frozen=True)
class Kind:
    """Law of a kind of array: `law` in words, `exact`: yes, approximate, no, or unknown."""

    law: str
    exact: str


_KINDS = {
    "position": Kind("xy turns about the workspace centre, z stays", "yes"),
    "quaternion": Kind("multiplied by the turn from the left (as rotation columns; xyzw)", "yes"),
    "velocity": Kind("xy turns, z stays, no centre", "yes"),
    "gripper": Kind("does not change", "yes"),
    "joints": Kind("no linear law; use the gripper's pose instead", "no"),
    "poses": Kind("4x4 poses: multiplied by the turn from the left", "yes"),
    "action": Kind("relative: xy and the rotation vector's xy turn, the rest stays", "yes"),
    "action_abs": Kind("position turns about the centre, rotation is multiplied from the left, gripper stays", "yes"),
    "image": Kind("the picture of a camera", "unknown"),
    "depth": Kind("the depth picture of a camera", "unknown"),
    "voxels": Kind("the grid turns about the vertical; exact at quarter turns, interpolated between", "approximate"),
    "cloud": Kind("points turn about the vertical through the centre, colours stay", "yes"),
    "vector": Kind("not known from the name; a mapping must say what its parts are", "unknown"),
    "states": Kind("the simulator's own state; not an observation", "no"),
}


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """Kind of the array `name` (e.g. obs/cube_pos) of `shape` per step.

    >>> kind_of("obs/cube_pos", (3,)), kind_of("obs/agentview_image", (84, 84, 3))
    ('position', 'image')
    """
    key = name.rpartition("/")[2]
    if name in ("actions", "actions_abs"):
        return "action" if name == "actions" else "action_abs"
    if name == "states":
        return "states"
    if shape == (4, 4):
        return "poses"
    if len(shape) == 4 and (key == "voxels" or shape[1] == shape[2] == shape[3]):
        return "voxels"
    if len(shape) == 2 and (key.startswith("point_cloud") or key.endswith("point_cloud")) and shape[1] in (3, 6):
        return "cloud"
    if key.endswith("_depth") and len(shape) in (2, 3):
        return "depth"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    if "joint" in key:
        return "joints"
    if "gripper" in key:
        return "gripper"
    if "quat" in key and shape == (4,):
        return "quaternion"
    if "vel" in key and shape == (3,):
        return "velocity"
    if key.endswith(("_pos", "position")) and shape == (3,):
        return "position"
    return "vector"


def law_of(kind: str) -> Kind:
    """How arrays of a kind turn."""
    return _KINDS[kind]
