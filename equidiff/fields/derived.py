"""Features computed from several stored arrays: relative positions, yaws modulo a symmetry, local frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equidiff.fields.base import Field, FieldError, Source
from equidiff.fields.vectors import Position, Rotation
from equidiff.rotations import from_matrix, to_matrix
from equidiff.symmetry import Irreps

__all__ = ["Height", "LocalPosition", "LocalRotation", "RelativePosition", "RelativeYaw", "SymmetricYaw"]


class _ObservationOnly(Field):
    invertible: ClassVar[bool] = False

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        raise FieldError(
            f"{type(self).__name__}({self.key!r}) cannot be turned back into {self.key!r}; it may be an observation, "
            "not an action. For actions use Position, RelativePosition, LocalPosition, Rotation or RotationDelta."
        )


@dataclass(frozen=True)
class Height(_ObservationOnly):
    """z of a position in metres: what is left of a position once its xy has been made relative."""

    @property
    def name(self) -> str:
        return f"{self.key}/height"

    @property
    def irreps(self) -> Irreps:
        return Irreps((0,))

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Position(self.key),)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return raw[self.key][..., 2:3]


@dataclass(frozen=True)
class RelativePosition(Field):
    """Position minus the position `reference`, in metres along the world's axes: xy turns, z stays.

    As an action, the reference is an observation of the current step, so the chunk is a trajectory
    relative to where the gripper is now.
    """

    reference: str

    @property
    def name(self) -> str:
        return f"{self.key}-{self.reference}"

    @property
    def irreps(self) -> Irreps:
        return Irreps((1, 0))

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Position(self.key), Position(self.reference))

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return raw[self.key] - raw[self.reference]

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        return features + raw[self.reference]


@dataclass(frozen=True)
class LocalPosition(Field):
    """Position in the frame of a body (`reference` position, `frame` orientation): invariant, in metres."""

    reference: str
    frame: str
    storage: str = "quat_xyzw"

    @property
    def name(self) -> str:
        return f"{self.key}@{self.frame}"

    @property
    def irreps(self) -> Irreps:
        return Irreps((0, 0, 0))

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Position(self.key), Position(self.reference), Rotation(self.frame, self.storage))

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        frame = to_matrix(raw[self.frame], self.storage)
        return ((raw[self.key] - raw[self.reference])[..., None, :] @ frame)[..., 0, :]

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        frame = to_matrix(raw[self.frame], self.storage)
        return (frame @ features[..., None])[..., 0] + raw[self.reference]


@dataclass(frozen=True)
class LocalRotation(Field):
    """Orientation seen from the body `frame`, F^T R as its first two rows (6 invariant values)."""

    frame: str
    storage: str = "quat_xyzw"
    frame_storage: str = "quat_xyzw"
    scaled: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"{self.key}@{self.frame}"

    @property
    def irreps(self) -> Irreps:
        return Irreps((0,) * 6)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Rotation(self.key, self.storage), Rotation(self.frame, self.frame_storage))

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        frame = to_matrix(raw[self.frame], self.frame_storage)
        return from_matrix(frame.transpose(-1, -2) @ to_matrix(raw[self.key], self.storage), "rot6d")

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        frame = to_matrix(raw[self.frame], self.frame_storage)
        return from_matrix(frame @ to_matrix(features, "rot6d"), self.storage)


@dataclass(frozen=True)
class SymmetricYaw(_ObservationOnly):
    """Yaw of a body that looks the same after a turn by 2*pi/fold: (cos fold*psi, sin fold*psi).

    The pair has frequency `fold`, so poses that look equal are equal numbers. The heading is that of the
    body axis `axis`; with axis="any" (a cube: every face may be up) that of the most horizontal axis,
    whose choice must not change the value: fold must then be a multiple of 4.
    """

    fold: int = 1
    axis: str = "x"
    storage: str = "quat_xyzw"
    scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_yaw(self.key, self.fold, self.axis)

    @property
    def name(self) -> str:
        return f"{self.key}/yaw{self.fold}"

    @property
    def irreps(self) -> Irreps:
        return Irreps((self.fold,))

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Rotation(self.key, self.storage),)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return torch.view_as_real(_heading(to_matrix(raw[self.key], self.storage), self.axis) ** self.fold)


@dataclass(frozen=True)
class RelativeYaw(_ObservationOnly):
    """Yaw of a body minus the yaw of `reference`, modulo 2*pi/fold, as (cos, sin): two invariant values."""

    reference: str
    fold: int = 1
    axis: str = "x"
    reference_axis: str = "x"
    storage: str = "quat_xyzw"
    reference_storage: str = "quat_xyzw"
    scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_yaw(self.key, self.fold, self.axis)
        _check_yaw(self.reference, self.fold, self.reference_axis)

    @property
    def name(self) -> str:
        return f"{self.key}/yaw{self.fold}-{self.reference}"

    @property
    def irreps(self) -> Irreps:
        return Irreps((0, 0))

    @property
    def sources(self) -> tuple[Source, ...]:
        return (Rotation(self.key, self.storage), Rotation(self.reference, self.reference_storage))

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        of = _heading(to_matrix(raw[self.key], self.storage), self.axis)
        to = _heading(to_matrix(raw[self.reference], self.reference_storage), self.reference_axis)
        return torch.view_as_real((of * to.conj()) ** self.fold)


def _check_yaw(key: str, fold: int, axis: str) -> None:
    if not isinstance(fold, int) or not 1 <= fold <= 1000:
        raise FieldError(f"yaw of {key!r}: fold must be an integer from 1 to 1000, got {fold!r}")
    if axis not in ("x", "y", "z", "any"):
        raise FieldError(f"yaw of {key!r}: axis must be 'x', 'y', 'z' or 'any', got {axis!r}")
    if axis == "any" and fold % 4:
        raise FieldError(f"yaw of {key!r}: axis='any' needs a fold that is a multiple of 4 (a cube), got {fold}")


def _heading(matrix: Tensor, axis: str) -> Tensor:
    """(..., 3, 3) -> (...,) unit complex number: direction of a body axis seen from above."""
    if axis == "any":
        column = matrix[..., 2, :].abs().argmin(-1)
        xy = matrix[..., :2, :].gather(-1, column[..., None, None].expand(*column.shape, 2, 1))[..., 0]
    else:
        xy = matrix[..., :2, "xyz".index(axis)]
    return torch.view_as_complex((xy / xy.norm(dim=-1, keepdim=True).clamp(min=1e-9)).contiguous())
