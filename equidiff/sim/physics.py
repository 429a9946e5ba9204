"""How one control step is computed: by robosuite itself, or several times faster with the same result.

robosuite runs three forward passes and a Python controller in each of the 25 sub-steps of a control
step. `FastPhysics` splits MuJoCo's step in two halves, puts the compiled controller between them and
leaves robosuite's observables alone. scripts/bench_physics.py measures both.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from equidiff.sim.backend import load_mujoco
from equidiff.sim.osc import osc_torques

mujoco = load_mujoco()

__all__ = ["FastPhysics", "Physics", "RobosuitePhysics", "goal_of", "make_physics"]


class Physics(Protocol):
    """Advances a robosuite environment by one control step."""

    def advance(self, action: np.ndarray) -> None:
        """Execute `action` (7,) for one control step."""


def make_physics(env: Any, kind: str = "fast") -> Physics:
    """kind: "fast" or "robosuite". Falls back to robosuite where the fast step does not apply."""
    if kind not in ("fast", "robosuite"):
        raise ValueError(f"physics: expected 'fast' or 'robosuite', got {kind!r}")
    if kind == "fast" and FastPhysics.applies(env):
        return FastPhysics(env)
    return RobosuitePhysics(env)


def goal_of(env: Any) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and rotation (3, 3) the controller steers to, world frame."""
    controller = env.robots[0].controller
    return np.array(controller.goal_pos), np.array(controller.goal_ori)


class RobosuitePhysics:
    """robosuite's own step."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def advance(self, action: np.ndarray) -> None:
        self.env.step(action)


class FastPhysics:
    """One arm with OSC_POSE, fixed impedance and no interpolation; made anew after each reset."""

    def __init__(self, env: Any) -> None:
        robot, sim = env.robots[0], env.sim
        self.env, self.robot, self.controller = env, robot, robot.controller
        self.model, self.data = sim.model._model, sim.data._data
        self.site = robot.eef_site_id
        self.positions = np.array(robot._ref_joint_pos_indexes)
        self.velocities = np.array(robot._ref_joint_vel_indexes, dtype=np.int64)
        self.actuators = np.array(robot._ref_joint_actuator_indexes)
        self.fingers = np.array([sim.model.actuator_name2id(name) for name in robot.gripper.actuators])
        self.low, self.high = (np.array(limit, dtype=np.float64) for limit in robot.torque_limits)
        limits = np.array(self.model.actuator_ctrlrange[self.fingers])
        self.finger_middle, self.finger_range = limits.mean(1), (limits[:, 1] - limits[:, 0]) / 2
        self.substeps = int(env.control_timestep / env.model_timestep)
        size = self.model.nv
        self.jacp, self.jacr, self.mass = np.zeros((3, size)), np.zeros((3, size)), np.zeros((size, size))
        self.block = np.ix_(self.velocities, self.velocities)

    @staticmethod
    def applies(env: Any) -> bool:
        """Whether the environment is one that the fast step reproduces."""
        if len(env.robots) != 1 or env.robots[0].controller.name != "OSC_POSE":
            return False
        controller, model = env.robots[0].controller, env.sim.model._model
        interpolated = controller.interpolator_pos is not None or controller.interpolator_ori is not None
        euler = model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
        return bool(controller.impedance_mode == "fixed" and controller.uncoupling and not interpolated and euler)

    def advance(self, action: np.ndarray, substeps: int | None = None) -> None:
        """substeps: of model_timestep each; None: those of a control step."""
        model, data, controller, robot = self.model, self.data, self.controller, self.robot
        action = np.asarray(action, dtype=np.float64)
        arm, grip = action[: controller.control_dim], action[controller.control_dim :]
        position, rotation = data.site_xpos[self.site], data.site_xmat[self.site].reshape(3, 3)
        rest, kp, kd = (_array(value) for value in (controller.initial_joint, controller.kp, controller.kd))
        for substep in range(self.substeps if substeps is None else substeps):
            mujoco.mj_step1(model, data)
            if substep == 0:
                controller.ee_pos, controller.ee_ori_mat = position.copy(), rotation.copy()
                controller.new_update = False  # else set_goal runs a forward pass of its own
                controller.set_goal(arm)
                goal_position, goal_rotation = _array(controller.goal_pos), _array(controller.goal_ori)
            mujoco.mj_jacSite(model, data, self.jacp, self.jacr, self.site)
            mujoco.mj_fullM(model, self.mass, data.qM)
            data.ctrl[self.actuators] = osc_torques(
                self.mass[self.block],
                self.jacp,
                self.jacr,
                data.qvel,
                self.velocities,
                data.qpos[self.positions],
                rest,
                position,
                rotation,
                goal_position,
                goal_rotation,
                kp,
                kd,
                data.qfrc_bias[self.velocities],
                self.low,
                self.high,
            )
            data.ctrl[self.fingers] = self.finger_middle + self.finger_range * robot.gripper.format_action(grip)
            mujoco.mj_step2(model, data)
        controller.new_update = True
        self.env.timestep += 1
        self.env.cur_time += self.env.control_timestep if substeps is None else substeps * self.env.model_timestep


def _array(values: Any) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float64)
