"""Small rotations in numpy and the inverse kinematics that puts the gripper at its start pose."""

from __future__ import annotations

from typing import Any

import numpy as np

from equidiff.sim.backend import load_mujoco

mujoco = load_mujoco()

__all__ = ["matrix_to_quat", "matrix_to_rotvec", "rotation_z", "rotvec_to_matrix", "solve_ik", "wrap", "yaw_of"]


def rotation_z(angle: float) -> np.ndarray:
    """(3, 3) rotation by `angle` radians about the vertical."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def yaw_of(matrix: np.ndarray) -> float:
    """Heading in radians of the body's x axis seen from above."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def wrap(angle: float, period: float = 2 * np.pi) -> float:
    """Into [-period/2, period/2)."""
    return float((angle + period / 2) % period - period / 2)


def matrix_to_quat(matrix: np.ndarray) -> np.ndarray:
    """(3, 3) -> (4,) xyzw with w >= 0."""
    wxyz = np.empty(4)
    mujoco.mju_mat2Quat(wxyz, np.ascontiguousarray(matrix, dtype=np.float64).ravel())
    return np.array([*wxyz[1:], wxyz[0]]) * (1.0 if wxyz[0] >= 0 else -1.0)


def matrix_to_rotvec(matrix: np.ndarray) -> np.ndarray:
    """(3, 3) -> (3,) rotation vector in radians, length <= pi."""
    quat, out = matrix_to_quat(matrix), np.empty(3)
    mujoco.mju_quat2Vel(out, np.array([quat[3], *quat[:3]]), 1.0)
    return out


def rotvec_to_matrix(rotvec: np.ndarray) -> np.ndarray:
    """(3,) radians -> (3, 3)."""
    angle = float(np.linalg.norm(rotvec))
    quat, out = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(9)
    if angle > 0:
        mujoco.mju_axisAngle2Quat(quat, np.asarray(rotvec, dtype=np.float64) / angle, angle)
    mujoco.mju_quat2Mat(out, quat)
    return out.reshape(3, 3)


def solve_ik(
    model: Any,
    data: Any,
    site: int,
    positions: np.ndarray,
    velocities: np.ndarray,
    target_position: np.ndarray,
    target_rotation: np.ndarray,
    iterations: int = 200,
) -> bool:
    """Move the arm's joints in `data` until the site has the target pose; whether it was reached (0.5 mm, 5 mrad).

    Damped least squares; joints stay 0.05 rad inside their limits. positions, velocities: the joints'
    indices into qpos and qvel.
    """
    jacp, jacr = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    joints = model.dof_jntid[velocities]
    low, high = model.jnt_range[joints, 0] + 0.05, model.jnt_range[joints, 1] - 0.05
    for _ in range(iterations):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        away = target_position - data.site_xpos[site]
        turn = matrix_to_rotvec(target_rotation @ data.site_xmat[site].reshape(3, 3).T)
        if np.linalg.norm(away) < 5e-4 and np.linalg.norm(turn) < 5e-3:
            return True
        mujoco.mj_jacSite(model, data, jacp, jacr, site)
        jacobian = np.concatenate([jacp[:, velocities], jacr[:, velocities]])
        turn *= min(1.0, 0.3 / max(float(np.linalg.norm(turn)), 1e-9))
        damped = jacobian @ jacobian.T + 1e-4 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(damped, np.concatenate([away, turn]))
        data.qpos[positions] = np.clip(data.qpos[positions] + 0.7 * step, low, high)
    return False
