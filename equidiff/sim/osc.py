"""The torques of robosuite's operational-space controller for a pose, compiled.

Same law as robosuite 1.4.1's OSC_POSE with fixed impedance and decoupled position and orientation
(Khatib, "A unified approach for motion and force control of robot manipulators", 1987): a test holds
it against robosuite's own step.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["osc_torques"]

_NULLSPACE_KP = 10.0  # robosuite's gain of the pull towards the initial joint positions


_V, _M = "f8[::1]", "f8[:,::1]"
# one fixed signature: compiled once (some seconds), then read from the cache on disk
_SIGNATURE = f"{_V}({_M},{_M},{_M},{_V},i8[::1],{_V},{_V},{_V},{_M},{_V},{_M},{_V},{_V},{_V},{_V},{_V})"


@njit(_SIGNATURE, cache=True)
def osc_torques(
    mass: np.ndarray,
    jacp: np.ndarray,
    jacr: np.ndarray,
    velocity: np.ndarray,
    joints: np.ndarray,
    q: np.ndarray,
    q_rest: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    goal_position: np.ndarray,
    goal_rotation: np.ndarray,
    kp: np.ndarray,
    kd: np.ndarray,
    bias: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """(n,) torques in Nm, clipped to [low, high].

    mass (n, n): joint inertia of the arm; jacp, jacr (3, nv): site Jacobians; velocity (nv,) of all
    joints; joints (n,): the arm's entries of it; q, q_rest (n,); position (3,), rotation (3, 3) of the
    site and of its goal; kp, kd (6,); bias (n,): gravity, Coriolis and centrifugal torques.
    """
    n = joints.shape[0]
    jacobian = np.empty((6, n))
    twist = np.zeros(6)
    arm_velocity = np.empty(n)
    for k in range(velocity.shape[0]):
        for r in range(3):
            twist[r] += jacp[r, k] * velocity[k]
            twist[3 + r] += jacr[r, k] * velocity[k]
    for k in range(n):
        arm_velocity[k] = velocity[joints[k]]
        for r in range(3):
            jacobian[r, k] = jacp[r, joints[k]]
            jacobian[3 + r, k] = jacr[r, joints[k]]
    wanted = np.empty(6)
    for r in range(3):
        a, b = (r + 1) % 3, (r + 2) % 3
        turn = 0.0  # half of the sum over the columns of (column of the site) x (column of the goal)
        for c in range(3):
            turn += 0.5 * (rotation[a, c] * goal_rotation[b, c] - rotation[b, c] * goal_rotation[a, c])
        wanted[r] = (goal_position[r] - position[r]) * kp[r] - twist[r] * kd[r]
        wanted[3 + r] = turn * kp[3 + r] - twist[3 + r] * kd[3 + r]
    inverse = np.linalg.inv(mass)
    spread = jacobian @ inverse
    compliance = spread @ jacobian.T
    wrench = np.empty(6)
    wrench[:3] = np.linalg.inv(compliance[:3, :3].copy()) @ wanted[:3]
    wrench[3:] = np.linalg.inv(compliance[3:, 3:].copy()) @ wanted[3:]
    pull = mass @ (_NULLSPACE_KP * (q_rest - q) - 2 * np.sqrt(_NULLSPACE_KP) * arm_velocity)
    nullspace = np.eye(n) - (spread.T @ np.linalg.inv(compliance)) @ jacobian
    torques = jacobian.T @ wrench + bias + nullspace.T @ pull
    return np.minimum(np.maximum(torques, low), high)
