"""Stored vectors: scalars, positions, displacements, rotations and rotation deltas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from equidiff.fields.base import Affine, FieldError, Mode, Moments, Source
from equidiff.rotations import (
    first_row_rotation,
    from_matrix,
    nearest_rotation,
    quaternion_rotvec,
    rotation_about_z,
    storage_size,
    to_matrix,
)
from equidiff.symmetry import Irreps

__all__ = ["Displacement", "DownwardRotation", "Position", "Rotation", "RotationDelta", "Scalars"]

_VECTOR = Irreps((1, 0))
_MOST_SCALARS = 10_000  # beyond it a file is damaged or hostile


@dataclass(frozen=True)
class Scalars(Source):
    """`size` values that do not change when the scene turns: gripper opening, forces along the tool, switches.

    Joint angles are refused: turning the scene changes the first joint and, near the limits, all the
    others in a way that has no linear law. Pass `knowingly=True` if the values are invariant all the same.
    """

    size: int = 1
    knowingly: bool = False
    floor: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 1 <= self.size <= _MOST_SCALARS:
            raise FieldError(
                f"Scalars({self.key!r}): size must be an integer from 1 to {_MOST_SCALARS}, got {self.size!r}"
            )
        if "joint" in self.key and not self.knowingly:
            raise FieldError(
                f"Scalars({self.key!r}): joint angles are not invariant under rotation of the scene, and have no "
                "linear law. Use the gripper's Position and Rotation, or knowingly=True if they are invariant here."
            )

    @property
    def irreps(self) -> Irreps:
        return Irreps((0,) * self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return raw[self.key]

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        return features

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        return stored.clone()


@dataclass(frozen=True)
class Position(Source):
    """A point (x, y, z) in metres, world frame; xy turns about the workspace centre, z stays."""

    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def irreps(self) -> Irreps:
        return _VECTOR

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        stored = raw[self.key]
        return stored - self._shift(stored)

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        return features + self._shift(features)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        shift = self._shift(stored)
        return _VECTOR.rotate(stored - shift, angle) + shift

    def translate(self, features: Tensor, metres: Tensor) -> Tensor:
        return torch.cat([features[..., :2] + metres.to(features), features[..., 2:]], -1)

    def with_centre(self, centre: tuple[float, float]) -> Position:
        return replace(self, centre=centre)

    def _shift(self, like: Tensor) -> Tensor:
        return like.new_tensor([*self.centre, 0.0])


@dataclass(frozen=True)
class Displacement(Source):
    """A difference of positions or a linear velocity (x, y, z): xy turns, z stays, no centre."""

    @property
    def irreps(self) -> Irreps:
        return _VECTOR

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return raw[self.key]

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        return features

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        return _VECTOR.rotate(stored, angle)


@dataclass(frozen=True)
class Rotation(Source):
    """An orientation in the world frame. Turning the scene multiplies the matrix from the left by R_z.

    Features are the three columns of the first two rows: pairs (R[0, j], R[1, j]), j = 0, 1, 2, each of
    frequency 1; no scaling, because a scale would leave the manifold.

    projection: how `encode` returns to a rotation: "nearest", by a map that commutes with R_z, or "first_row", as the
    published policies do (Gram-Schmidt, which takes the first row as exact). They differ off the rotations only.
    """

    storage: str = "quat_xyzw"
    projection: str = "nearest"
    scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        storage_size(self.storage)
        _known_projection(self, "nearest", "first_row")

    @property
    def irreps(self) -> Irreps:
        return Irreps((1, 1, 1))

    @property
    def shape(self) -> tuple[int, ...]:
        return (storage_size(self.storage),)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return to_matrix(raw[self.key], self.storage)[..., :2, :].transpose(-1, -2).flatten(-2)

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        rows = features.reshape(*features.shape[:-1], 3, 2).transpose(-1, -2)
        rotation = nearest_rotation(rows) if self.projection == "nearest" else first_row_rotation(rows)
        return from_matrix(rotation, self.storage)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        turned = rotation_about_z(angle, like=stored) @ to_matrix(stored, self.storage)
        return from_matrix(turned, self.storage)


@dataclass(frozen=True)
class DownwardRotation(Source):
    """The yaw of a gripper that points straight down, and nothing else of its orientation: one pair of frequency 1.

    Features are (cos yaw, sin yaw), yaw being the direction of the gripper's x axis in the world; `encode` gives
    the orientation with that yaw whose z axis is down. Actions restricted to SE(2), an ablation of Wang et al. 2024.
    """

    storage: str = "rotvec"
    scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        storage_size(self.storage)

    @property
    def irreps(self) -> Irreps:
        return Irreps((1,))

    @property
    def shape(self) -> tuple[int, ...]:
        return (storage_size(self.storage),)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        return _unit(to_matrix(raw[self.key], self.storage)[..., :2, 0])

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        cos, sin = _unit(features).unbind(-1)
        zero = torch.zeros_like(cos)
        rows = [torch.stack(row, -1) for row in ([cos, sin, zero], [sin, -cos, zero], [zero, zero, zero - 1])]
        return from_matrix(torch.stack(rows, -2), self.storage)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        turned = rotation_about_z(angle, like=stored) @ to_matrix(stored, self.storage)
        return from_matrix(turned, self.storage)


@dataclass(frozen=True)
class RotationDelta(Source):
    """A rotation applied from the left in the world frame; turning the scene conjugates it: R_z D R_z^T.

    As a rotation vector (radians, or any multiple of it as robosuite's OSC_POSE uses) the features are
    (x, y): frequency 1 and z: frequency 0. As a 3x3 matrix (9 values, rows first) they are one pair of
    frequency 2, two of frequency 1 and three scalars, an orthogonal change of basis of the entries.

    as_matrix: a stored rotation vector becomes the features of its matrix, its numbers read as radians, which is
    what the published relative control learns (Wang et al. 2024). It must be shorter than pi.

    projection: how `encode` of a matrix returns to a rotation: "nearest", by a map that commutes with turning, or, with
    as_matrix, "quaternion", as the published policies do (equidiff.rotations.quaternion_rotvec). They differ off the
    rotations only.
    """

    storage: str = "rotvec"
    as_matrix: bool = False
    projection: str = "nearest"
    floor: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        if self.storage not in ("rotvec", "matrix"):
            raise FieldError(f"RotationDelta({self.key!r}): storage must be 'rotvec' or 'matrix', got {self.storage!r}")
        learned = self.as_matrix and self.storage == "rotvec"
        _known_projection(self, "nearest", *(["quaternion"] if learned else []))

    @property
    def _vector(self) -> bool:
        return self.storage == "rotvec" and not self.as_matrix

    @property
    def irreps(self) -> Irreps:
        return _VECTOR if self._vector else Irreps((2, 1, 1, 0, 0, 0))

    @property
    def entries(self) -> Tensor | None:
        return None if self._vector else _basis(torch.zeros((), dtype=torch.float64))

    @property
    def shape(self) -> tuple[int, ...]:
        return (storage_size(self.storage),)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        stored = raw[self.key]
        if self._vector:
            return stored
        entries = stored if self.storage == "matrix" else from_matrix(to_matrix(stored, "rotvec"), "matrix")
        return entries @ _basis(stored).T

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        if self._vector:
            return features
        # the polar factor of the whole matrix commutes with conjugation; the two-row closed form would not
        entries = (features @ _basis(features)).reshape(*features.shape[:-1], 3, 3)
        if self.projection == "quaternion":
            return quaternion_rotvec(entries)
        u, _, vh = torch.linalg.svd(entries)
        sign = torch.linalg.det(u @ vh)[..., None, None]
        proper: Tensor = torch.cat([u[..., :2], u[..., 2:] * sign], -1) @ vh
        return proper.flatten(-2) if self.storage == "matrix" else from_matrix(proper, "rotvec")

    def fit(self, moments: Moments, mode: Mode = "gaussian") -> Affine:
        if (
            mode == "range" and not self._vector
        ):  # entries of a rotation matrix are within [-1, 1] already, as published
            return Affine(torch.zeros_like(moments.mean), torch.ones_like(moments.mean))
        return super().fit(moments, mode)

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        if self.storage == "rotvec":
            return _VECTOR.rotate(stored, angle)
        turn = rotation_about_z(angle, like=stored)
        matrix = stored.reshape(*stored.shape[:-1], 3, 3)
        return (turn @ matrix @ turn.transpose(-1, -2)).flatten(-2)


def _known_projection(field: Rotation | RotationDelta, *known: str) -> None:
    if field.projection not in known:
        raise FieldError(
            f"{type(field).__name__}({field.key!r}): projection must be {' or '.join(map(repr, known))}, got "
            f"{field.projection!r}"
        )


def _unit(pair: Tensor) -> Tensor:
    length: Tensor = pair.norm(dim=-1, keepdim=True)
    return pair / length.clamp(min=1e-9)


def _basis(like: Tensor) -> Tensor:
    """Orthogonal (9, 9): matrix entries, rows first, to (frequency 2, frequency 1, frequency 1, 3 scalars)."""
    h = math.sqrt(0.5)
    q = like.new_zeros(9, 9)
    q[0, 0], q[0, 4] = h, -h  # M00 - M11
    q[1, 1], q[1, 3] = h, h  # M01 + M10
    q[2, 2], q[3, 5] = 1, 1  # (M02, M12)
    q[4, 6], q[5, 7] = 1, 1  # (M20, M21)
    q[6, 0], q[6, 4] = h, h  # M00 + M11
    q[7, 1], q[7, 3] = -h, h  # M10 - M01
    q[8, 8] = 1  # M22
    return q
