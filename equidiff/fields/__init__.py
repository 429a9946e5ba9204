"""Fields: the description of every quantity that enters or leaves a policy."""

from equidiff.fields.base import Affine, ArrayField, Field, FieldError, Moments, Source, field_from_json
from equidiff.fields.derived import (
    Height,
    LocalPosition,
    LocalRotation,
    RelativePosition,
    RelativeYaw,
    SymmetricYaw,
)
from equidiff.fields.grids import Depth, Image, Voxels
from equidiff.fields.points import PointCloud
from equidiff.fields.vectors import Displacement, DownwardRotation, Position, Rotation, RotationDelta, Scalars

__all__ = [
    "Affine",
    "ArrayField",
    "Depth",
    "Displacement",
    "DownwardRotation",
    "Field",
    "FieldError",
    "Height",
    "Image",
    "LocalPosition",
    "LocalRotation",
    "Moments",
    "PointCloud",
    "Position",
    "RelativePosition",
    "RelativeYaw",
    "Rotation",
    "RotationDelta",
    "Scalars",
    "Source",
    "SymmetricYaw",
    "Voxels",
    "field_from_json",
]
