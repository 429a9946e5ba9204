"""`Arm`: forward kinematics, Jacobian and inverse kinematics of a serial arm, for one set of joints or for many."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from real_robot.poses import Pose
from real_robot.types import Array, finite

__all__ = ["Arm", "KinematicsError"]


_YZX, _ZXY, _EYE6 = np.array([1, 2, 0]), np.array([2, 0, 1]), np.eye(6)


class KinematicsError(RuntimeError):
    """A pose that no joints near the given ones reach."""


class Arm:
    """n revolute joints; immutable. Build one with `load_arm`.

    dof: n. joint_low, joint_high (n,) rad, joint_velocity (n,) rad/s: the maker's hard limits. length: metres of all
    links together, at least 1; no joint's axis is further from the tool.
    """

    def __init__(
        self,
        name: str,
        *,
        base: Array,
        before: Sequence[Array],
        after: Sequence[Array],
        end: Array,
        joint_low: Array,
        joint_high: Array,
        joint_velocity: Array,
    ) -> None:
        self.name = name
        self.dof = len(before)
        self.joint_low, self.joint_high, self.joint_velocity = joint_low, joint_high, joint_velocity
        # pose(q) = first Rz(q_1) k_1 Rz(q_2) ... Rz(q_n) k_n, with all that is fixed between two joints in one matrix
        self._first = base @ before[0]
        fixed = np.stack([a @ b for a, b in zip(after, [*before[1:], end], strict=True)])
        # Rz(q) k = cos(q) A + sin(q) B + C, for all joints at once
        self._cosine, self._sine, self._rest = np.zeros_like(fixed), np.zeros_like(fixed), fixed.copy()
        self._cosine[:, :2] = fixed[:, :2]
        self._sine[:, 0], self._sine[:, 1] = -fixed[:, 1], fixed[:, 0]
        self._rest[:, :2] = 0
        self.length = max(1.0, float(np.linalg.norm(fixed[:, :3, 3], axis=-1).sum()))
        for array in (self._first, self._cosine, self._sine, self._rest, joint_low, joint_high, joint_velocity):
            array.setflags(write=False)

    def within(self, joint_low: ArrayLike, joint_high: ArrayLike, joint_velocity: ArrayLike) -> Arm:
        """The same arm with the tighter of its limits and these (n,) each, rad and rad/s."""
        out = copy.copy(self)
        out.joint_low = np.maximum(self.joint_low, finite("joint_low", joint_low, (self.dof,)))
        out.joint_high = np.minimum(self.joint_high, finite("joint_high", joint_high, (self.dof,)))
        out.joint_velocity = np.minimum(self.joint_velocity, finite("joint_velocity", joint_velocity, (self.dof,)))
        return out

    def _frames(self, joints: Array) -> Array:
        """(n + 1, ..., 4, 4): the frame of each joint before it turns, its z the axis, and at last the tool's."""
        cosine, sine = np.cos(joints)[..., None, None], np.sin(joints)[..., None, None]
        local = cosine * self._cosine + sine * self._sine + self._rest
        out = np.empty((self.dof + 1, *joints.shape[:-1], 4, 4))
        out[0] = self._first
        for i in range(self.dof):
            np.matmul(out[i], local[..., i, :, :], out=out[i + 1])
        return out

    def forward(self, joints: Array) -> Array:
        """Homogeneous matrices (..., 4, 4) of the tool for joints (..., n)."""
        return np.asarray(self._frames(joints)[-1])

    def pose(self, joints: ArrayLike) -> Pose:
        """Pose of the tool for joints (n,). ValueError unless they are n finite numbers."""
        return Pose.from_matrix(self.forward(finite("joints", joints, (self.dof,))))

    def forward_jacobian(self, joints: Array) -> tuple[Array, Array]:
        """Matrices (..., 4, 4) of the tool, and Jacobians (..., 6, n): its velocity m/s, then its angular velocity
        rad/s, along the axes of the base, for each rad/s of a joint; joints (..., n)."""
        frames = self._frames(joints)
        tool = frames[-1]
        last = frames.transpose(*range(1, frames.ndim), 0)  # (..., 4, 4, n + 1)
        axis, arm = last[..., :3, 2, :-1], last[..., :3, 3, -1:] - last[..., :3, 3, :-1]
        jacobian = np.empty((*joints.shape[:-1], 6, self.dof))
        # axis x arm
        jacobian[..., :3, :] = axis[..., _YZX, :] * arm[..., _ZXY, :] - axis[..., _ZXY, :] * arm[..., _YZX, :]
        jacobian[..., 3:, :] = axis
        return tool, jacobian

    def step(
        self, joints: Array, target: Array, *, pull: Array | None = None, damping: float = 1e-3
    ) -> tuple[Array, Array, Array]:
        """One step of damped least squares towards `target` (..., 4, 4): the new joints (..., n), the error (..., 6)
        that they had before it, and what of it the damping leaves (..., 6); the damping is metres and radians.

        dq = z + J' (J J' + damping^2 I)^-1 (e - J z) (Wampler 1986; Nakamura and Hanafusa 1986), of which `pull`
        z (..., n) is what the joints shall do besides, as far as it leaves the tool alone.
        """
        frame, jacobian = self.forward_jacobian(joints)
        error = pose_error(frame, target)
        transposed = jacobian.swapaxes(-1, -2)
        square = jacobian @ transposed
        square += damping**2 * _EYE6
        wanted = error[..., None] if pull is None else error[..., None] - jacobian @ pull[..., None]
        solved = np.linalg.solve(square, wanted)
        moved = joints + (transposed @ solved)[..., 0]
        return (moved if pull is None else moved + pull), error, damping**2 * solved[..., 0]

    def bend(self, change: Array) -> Array:
        """(...): by how many metres or radians, at most, the tool is not where the Jacobian says after the joints
        changed by `change` (..., n): half the second derivative, no entry of which is above the arm's length or 1."""
        total = np.abs(change).sum(-1)
        return np.asarray(0.5 * self.length * total * total)

    def inverse(self, pose: Pose, near: ArrayLike, *, tolerance: float = 1e-6, steps: int = 50) -> Array:
        """Joints (n,) that bring the tool to `pose`, in the same branch as `near` (n,), inside the joint limits.

        tolerance: metres and radians. KinematicsError when `steps` steps from there do not reach it, or end outside
        the joint limits.
        """
        joints, target = finite("near", near, (self.dof,)), pose.matrix
        for _ in range(steps):
            moved, error, _ = self.step(joints, target)
            if np.abs(error).max() < tolerance:
                break
            change = moved - joints
            # far away the linear model is wrong: a fifth of a turn at most in one step
            joints = joints + change * min(1.0, 0.3 / max(float(np.abs(change).max()), 1e-12))
        else:
            raise KinematicsError(
                f"{self.name}: no joints near {np.asarray(near).round(3).tolist()} reach {pose.position.round(3)} with "
                f"rotation vector {pose.rotvec.round(3)}: {float(np.abs(error).max()):.2g} m or rad are left"
            )
        outside = (joints < self.joint_low) | (joints > self.joint_high)
        if outside.any():
            raise KinematicsError(
                f"{self.name}: {pose.position.round(3)} needs joint {int(np.flatnonzero(outside)[0]) + 1} at "
                f"{joints[outside][0]:.3f} rad, outside its limits"
            )
        return joints


def pose_error(frame: Array, target: Array) -> Array:
    """(..., 6): metres and the rotation vector, along the base's axes, from `frame` (..., 4, 4) to `target`."""
    turn = target[..., :3, :3] @ frame[..., :3, :3].swapaxes(-1, -2)
    error = np.empty((*turn.shape[:-2], 6))
    error[..., :3] = target[..., :3, 3] - frame[..., :3, 3]
    twist = turn[..., _ZXY, _YZX] - turn[..., _YZX, _ZXY]  # 2 sin(angle) times the axis
    square = (twist * twist).sum(-1)
    cosine = turn[..., 0, 0] + turn[..., 1, 1] + turn[..., 2, 2] - 1  # twice
    if square.max() < 4e-6 and cosine.min() > 0:
        error[..., 3:] = (0.5 + square / 48)[..., None] * twist  # arcsine's series, exact to 1e-15
        return error
    sine = np.sqrt(square)
    angle = np.arctan2(sine, cosine)
    error[..., 3:] = twist * (angle / np.maximum(sine, 1e-300))[..., None]
    # half a turn away has no direction; the first axis is as good as another
    error[..., 3] += np.where((sine < 1e-12) & (angle > 1), np.pi, 0)
    return error
