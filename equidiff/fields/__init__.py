"""Fields: the description of every quantity that enters or leaves a policy."""

from equidiff.fields.base import Affine, Field, FieldError, Moments, Source, field_from_json
from equidiff.fields.derived import (
    Height,
    LocalPosition,
    LocalRotation,
    RelativePosition,
    RelativeYaw,
    SymmetricYaw,
)
from equidiff.fields.vectors import Displacement, Position, Rotation, RotationDelta, Scalars

__all__ = [
    "Affine",
    "Displacement",
    "Field",
    "FieldError",
    "Height",
    "LocalPosition",
    "LocalRotation",
    "Moments",
    "Position",
    "RelativePosition",
    "RelativeYaw",
    "Rotation",
    "RotationDelta",
    "Scalars",
    "Source",
    "SymmetricYaw",
    "field_from_json",
]
