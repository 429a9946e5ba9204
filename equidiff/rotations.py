"""Storage forms of a rotation and the maps between them and 3x3 matrices (built on roma)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import roma
import torch
from torch import Tensor

__all__ = [
    "RotationStorage",
    "first_row_rotation",
    "from_matrix",
    "nearest_rotation",
    "quaternion_rotvec",
    "rotation_about_z",
    "storage_size",
    "to_matrix",
]

RotationStorage = Literal["quat_xyzw", "quat_wxyz", "rotvec", "matrix", "rot6d"]
_SIZES = {"quat_xyzw": 4, "quat_wxyz": 4, "rotvec": 3, "matrix": 9, "rot6d": 6}


def storage_size(storage: str) -> int:
    """Number of values of a storage form; raises ValueError with the forms that exist."""
    if storage not in _SIZES:
        known = ", ".join(get_args(RotationStorage))
        raise ValueError(f"rotation storage {storage!r} is unknown; expected one of {known}")
    return _SIZES[storage]


def rotation_about_z(angle: Tensor | float, like: Tensor | None = None) -> Tensor:
    """(...,) angle in radians -> (..., 3, 3) rotation about the vertical."""
    dtype, device = (None, None) if like is None else (like.dtype, like.device)
    turn = torch.as_tensor(angle, dtype=dtype, device=device)
    c, s = torch.cos(turn), torch.sin(turn)
    o, i = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([torch.stack([c, -s, o], -1), torch.stack([s, c, o], -1), torch.stack([o, o, i], -1)], -2)


def to_matrix(x: Tensor, storage: str) -> Tensor:
    """(..., storage_size) -> (..., 3, 3). Quaternions need not be normalised; rot6d and matrix are orthonormalised."""
    if x.shape[-1] != storage_size(storage):
        size = storage_size(storage)
        raise ValueError(f"rotation stored as {storage} needs {size} values, got shape {tuple(x.shape)}")
    matrix: Tensor
    if storage == "quat_xyzw":
        matrix = roma.unitquat_to_rotmat(_unit(x))
    elif storage == "quat_wxyz":
        matrix = roma.unitquat_to_rotmat(_unit(x[..., [1, 2, 3, 0]]))
    elif storage == "rotvec":
        matrix = roma.rotvec_to_rotmat(x)
    else:
        matrix = nearest_rotation(x.reshape(*x.shape[:-1], -1, 3)[..., :2, :])
    return matrix


def from_matrix(matrix: Tensor, storage: str) -> Tensor:
    """(..., 3, 3) -> (..., storage_size). Quaternions have w >= 0, rotation vectors a length <= pi."""
    storage_size(storage)
    if storage in ("quat_xyzw", "quat_wxyz"):
        quat: Tensor = roma.rotmat_to_unitquat(matrix)
        quat = torch.where(quat[..., 3:] < 0, -quat, quat)
        return quat if storage == "quat_xyzw" else quat[..., [3, 0, 1, 2]]
    if storage == "rotvec":
        rotvec: Tensor = roma.rotmat_to_rotvec(matrix)
        length = rotvec.norm(dim=-1, keepdim=True)
        shorter = rotvec * (1 - 2 * math.pi / length.clamp(min=math.pi))
        return torch.where(length > math.pi, shorter, rotvec)
    return matrix[..., : 3 if storage == "matrix" else 2, :].flatten(-2)


def nearest_rotation(rows: Tensor) -> Tensor:
    """(..., 2, 3) first two rows -> (..., 3, 3) rotation, commuting with every rotation about the vertical.

    A rotation about z mixes the two rows, so Gram-Schmidt (which treats the first row as exact) would
    break the symmetry. The symmetric choice is the polar factor (A A^T)^(-1/2) A, in closed form for 2x2:
    sqrt(S) = (S + sqrt(det S) I) / sqrt(tr S + 2 sqrt(det S)). Rows that are parallel or zero, where the
    polar factor is not unique, still give a rotation.
    """
    # the result does not depend on a common scale, the rounding does
    rows = rows / rows.flatten(-2).norm(dim=-1)[..., None, None].clamp(min=1e-30)
    first, second = rows[..., 0, :], rows[..., 1, :]
    a, b, c = (first**2).sum(-1), (first * second).sum(-1), (second**2).sum(-1)
    root = (a * c - b * b).clamp(min=1e-12).sqrt()
    trace = (a + c + 2 * root).sqrt()
    # inverse of sqrt(S) = adj(S + root I) / (root * trace)
    adjugate = torch.stack([torch.stack([c + root, -b], -1), torch.stack([-b, a + root], -1)], -2)
    two = (adjugate / (root * trace)[..., None, None]) @ rows
    degenerate = root < 1e-3
    if degenerate.any():
        u, _, vh = torch.linalg.svd(rows, full_matrices=False)
        two = torch.where(degenerate[..., None, None], u @ vh, two)
    return torch.cat([two, torch.linalg.cross(two[..., :1, :], two[..., 1:, :])], -2)


def first_row_rotation(rows: Tensor) -> Tensor:
    """(..., 2, 3) first two rows -> (..., 3, 3) rotation by Gram-Schmidt, the first row taken as exact.

    Zhou et al. 2019 (arXiv 1812.07035), with rows in the place of columns. It does not commute with rotations about
    the vertical, except on rows of a rotation, where it is `nearest_rotation`.
    """
    first = _unit(rows[..., 0, :])
    second = rows[..., 1, :]
    second = _unit(second - (first * second).sum(-1, keepdim=True) * first)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -2)


def quaternion_rotvec(matrix: Tensor) -> Tensor:
    """(..., 3, 3) any matrix -> (..., 3): the rotation vector of the quaternion that its entries give.

    Shepperd's method (1978): each row of X, 4 q q^T of a rotation, is a multiple of q, and the row i with the largest
    diagonal gives q = X_i / (2 sqrt(X_ii)). Off the rotations q is not of unit length, and is used as it is: the
    result is |q| times the rotation vector of q / |q|, w >= 0.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = (  # of (w, x, y, z)
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    table = torch.stack([torch.stack(row, -1) for row in rows], -2)
    largest, at = table.diagonal(dim1=-2, dim2=-1).max(-1)  # at least 1, because they sum to 4
    chosen = table.gather(-2, at[..., None, None].expand(*at.shape, 1, 4)).squeeze(-2)
    quat = chosen / (2 * largest.sqrt())[..., None]
    length: Tensor = quat.norm(dim=-1, keepdim=True)
    unit = (quat / length)[..., [1, 2, 3, 0]]
    rotvec: Tensor = roma.unitquat_to_rotvec(unit)
    return rotvec * length


def _unit(quat: Tensor) -> Tensor:
    length: Tensor = quat.norm(dim=-1, keepdim=True)
    return quat / length.clamp(min=1e-12)
