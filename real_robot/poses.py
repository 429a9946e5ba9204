"""`Pose`: a place and an orientation, float64, immutable; rotations by rotation vector, matrix or xyzw quaternion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Pose", "exp_map", "log_map", "matrix_to_quat", "quat_to_matrix"]

_Array = NDArray[np.float64]


def _hat(v: _Array) -> _Array:
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def exp_map(rotvec: ArrayLike) -> _Array:
    """(3, 3) rotation of a rotation vector (3,), Rodrigues' formula."""
    v = np.asarray(rotvec, np.float64)
    angle = float(np.sqrt(v @ v))
    k = _hat(v)
    # sin(a) / a and (1 - cos(a)) / a^2, whose limits at 0 are 1 and 1/2
    first = float(np.sinc(angle / np.pi))
    second = 0.5 * float(np.sinc(angle / (2 * np.pi))) ** 2
    out: _Array = np.eye(3) + first * k + second * (k @ k)
    return out


def log_map(matrix: ArrayLike) -> _Array:
    """Rotation vector (3,) of a rotation (3, 3), its angle in [0, pi]."""
    x, y, z, w = quat = matrix_to_quat(matrix)
    sine = float(np.sqrt(x * x + y * y + z * z))
    if sine < 1e-12:
        return 2 * quat[:3]
    out: _Array = quat[:3] * (2 * np.arctan2(sine, w) / sine)
    return out


def matrix_to_quat(matrix: ArrayLike) -> _Array:
    """Unit quaternion xyzw with w >= 0 of a rotation (3, 3); Shepperd's method, exact near half a turn too."""
    m = np.asarray(matrix, np.float64)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    choice = int(np.argmax([m[0, 0], m[1, 1], m[2, 2], trace]))
    quat = np.empty(4)
    if choice == 3:
        quat[:] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + trace
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        quat[i] = 1 - trace + 2 * m[i, i]
        quat[j], quat[k], quat[3] = m[j, i] + m[i, j], m[k, i] + m[i, k], m[k, j] - m[j, k]
    quat /= np.linalg.norm(quat)
    return -quat if quat[3] < 0 else quat


def quat_to_matrix(quat: ArrayLike) -> _Array:
    """(3, 3) of a quaternion xyzw of any length but 0."""
    q = np.asarray(quat, np.float64)
    x, y, z, w = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True, eq=False)
class Pose:
    """position (3,) in metres and rotation (3, 3); both are read-only copies.

    >>> turn = Pose([0.1, 0, 0], exp_map([0, 0, np.pi / 2]))
    >>> (turn @ turn).position.round(3).tolist()
    [0.1, 0.1, 0.0]
    """

    position: _Array
    rotation: _Array

    def __init__(self, position: ArrayLike, rotation: ArrayLike) -> None:
        p, r = np.array(position, np.float64), np.array(rotation, np.float64)
        if p.shape != (3,) or r.shape != (3, 3):
            raise ValueError(f"Pose: expected position (3,) and rotation (3, 3), got {p.shape} and {r.shape}")
        if not (np.isfinite(p).all() and np.isfinite(r).all()):
            raise ValueError(f"Pose: expected finite numbers, got position {p} and rotation {r.tolist()}")
        if np.abs(r @ r.T - np.eye(3)).max() > 1e-4 or np.linalg.det(r) < 0:
            raise ValueError(f"Pose: not a rotation: {r.tolist()}")
        p.setflags(write=False)
        r.setflags(write=False)
        object.__setattr__(self, "position", p)
        object.__setattr__(self, "rotation", r)

    @classmethod
    def from_rotvec(cls, position: ArrayLike, rotvec: ArrayLike) -> Pose:
        """Of a position (3,) and a rotation vector (3,)."""
        return cls(position, exp_map(rotvec))

    @classmethod
    def from_quat(cls, position: ArrayLike, quat: ArrayLike) -> Pose:
        """Of a position (3,) and a quaternion xyzw (4,)."""
        return cls(position, quat_to_matrix(quat))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Pose:
        """Of a homogeneous matrix (4, 4)."""
        m = np.asarray(matrix, np.float64)
        return cls(m[:3, 3], m[:3, :3])

    @property
    def rotvec(self) -> _Array:
        """(3,), angle in [0, pi]."""
        return log_map(self.rotation)

    @property
    def quat(self) -> _Array:
        """xyzw (4,), w >= 0."""
        return matrix_to_quat(self.rotation)

    @property
    def matrix(self) -> _Array:
        """Homogeneous (4, 4)."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.rotation, self.position
        return out

    @property
    def numbers(self) -> list[float]:
        """[x, y, z, qx, qy, qz, qw], for records."""
        return [*map(float, self.position), *map(float, self.quat)]

    def __matmul__(self, other: Pose) -> Pose:
        """`other`, given in this frame, seen from the frame in which this pose is given."""
        return Pose(self.rotation @ other.position + self.position, self.rotation @ other.rotation)

    def inverse(self) -> Pose:
        """The frame of reference seen from here."""
        return Pose(-self.rotation.T @ self.position, self.rotation.T)

    def distance(self, other: Pose) -> tuple[float, float]:
        """(metres, radians) between two poses."""
        angle = float(np.linalg.norm(log_map(self.rotation.T @ other.rotation)))
        return float(np.linalg.norm(self.position - other.position)), angle

    def towards(self, other: Pose, share: float) -> Pose:
        """The pose `share` of the way to `other`: position on the line, rotation on the shortest turn."""
        turn = log_map(self.rotation.T @ other.rotation)
        return Pose(self.position + share * (other.position - self.position), self.rotation @ exp_map(share * turn))
