"""Kinematics of the UR5e of robosuite, computed by MuJoCo, in the frame that a UR controller calls base.

robosuite's base is that frame turned by 180 degrees about z.
"""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from equidiff.sim.backend import SimulatorError, load_mujoco
from real_robot.poses import Pose
from real_robot.types import Array

__all__ = ["Kinematics"]

_HALF_TURN = "0 0 0 1"


def _model_xml() -> str:
    found = importlib.util.find_spec("robosuite")
    if found is None or found.origin is None:
        raise SimulatorError("the fake UR controller needs the model of robosuite: pip install 'equidiff[sim]'")
    file = Path(found.origin).parent / "models/assets/robots/ur5e/robot.xml"
    root = ET.parse(file).getroot()
    for name in ("asset", "actuator"):
        for element in root.findall(name):
            root.remove(element)
    for body in list(root.iter("body")):
        for element in [*body.findall("geom"), *body.findall("camera")]:
            body.remove(element)
        if body.get("name") == "base":
            body.set("quat", _HALF_TURN)
        if body.get("name") == "right_hand":
            ET.SubElement(body, "body", name="tool")
    # robosuite adds it when it merges models; MuJoCo alone would read the ranges as degrees
    root.insert(0, ET.Element("compiler", angle="radian"))
    return ET.tostring(root, encoding="unicode")


class Kinematics:
    """Of the tool in the UR base frame; joints (6,) rad, low and high their limits."""

    def __init__(self) -> None:
        self._mujoco = load_mujoco()
        self._model = self._mujoco.MjModel.from_xml_string(_model_xml())
        self._data = self._mujoco.MjData(self._model)
        self._hand, self._tool = (int(self._model.body(name).id) for name in ("right_hand", "tool"))
        self._rotvec = np.zeros(3)
        self.low, self.high = self._model.jnt_range.T.copy()
        self.tcp = Pose([0, 0, 0], np.eye(3))

    def set_tcp(self, tcp: Pose) -> None:
        """The tool seen from the flange."""
        self.tcp = tcp
        self._model.body_pos[self._tool] = tcp.position
        self._model.body_quat[self._tool] = np.roll(tcp.quat, 1)

    def numbers(self, joints: Array) -> list[float]:
        """URScript's p[x, y, z, rx, ry, rz] of the tool."""
        self._data.qpos[:] = joints
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mju_quat2Vel(self._rotvec, self._data.xquat[self._tool], 1.0)
        return [*self._data.xpos[self._tool].tolist(), *self._rotvec.tolist()]

    def pose(self, joints: Array) -> Pose:
        """Of the tool."""
        self.numbers(joints)
        return Pose(self._data.xpos[self._tool], self._data.xmat[self._tool].reshape(3, 3))

    def flange(self, joints: Array) -> Pose:
        """Of the flange."""
        self.numbers(joints)
        return Pose(self._data.xpos[self._hand], self._data.xmat[self._hand].reshape(3, 3))

    def jacobian(self, joints: Array) -> Array:
        """(6, 6): velocity of the tool's point and its angular velocity, in the base's axes, per joint velocity."""
        self._data.qpos[:] = joints
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)
        out = np.zeros((6, 6))
        self._mujoco.mj_jacBody(self._model, self._data, out[:3], out[3:], self._tool)
        return out

    def inverse(self, pose: Pose, near: Array) -> Array | None:
        """Joints near `near` at which the tool is at `pose` (within 1e-6 m and rad), or None; damped Newton steps."""
        joints = np.array(near, np.float64)
        wanted, back, turn = np.roll(pose.quat, 1), np.zeros(4), np.zeros(4)
        error = np.zeros(6)
        for _ in range(60):
            jacobian = self.jacobian(joints)
            error[:3] = pose.position - self._data.xpos[self._tool]
            self._mujoco.mju_negQuat(back, self._data.xquat[self._tool])
            self._mujoco.mju_mulQuat(turn, wanted, back)
            self._mujoco.mju_quat2Vel(self._rotvec, turn, 1.0)
            error[3:] = self._rotvec
            if np.abs(error).max() < 1e-6:
                inside = (joints >= self.low).all() and (joints <= self.high).all()
                return joints if inside else None
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), error)
            joints = joints + step * min(1.0, 0.3 / max(float(np.abs(step).max()), 1e-12))
        return None
