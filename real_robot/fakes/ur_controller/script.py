"""The register loop of ur_rtde's control script, cycle by cycle.

URScript is not interpreted: when the client uploads the script, this loop does what it would do. Commands come as a
number in input_int_register_0 with arguments in the others; output_int_register_0 says 1 (ready) or 2 (done).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from real_robot.fakes.ur_controller.arm import Arm, Line, Motion, Move, Servo, Speed
from real_robot.poses import Pose
from real_robot.types import Array

if TYPE_CHECKING:
    from real_robot.fakes.ur_controller.controller import Controller

__all__ = ["REALTIME", "SERVO_L", "Script", "ScriptError", "pose_numbers"]

READY, DONE = 1, 2
SERVO_J, SERVO_L, SPEED_J, SPEED_L, STEP_TIME, STOP_SCRIPT = 11, 24, 9, 10, 26, 255
REALTIME = {SERVO_J, SERVO_L, SPEED_J, SPEED_L, STEP_TIME}
"""Commands the loop takes in every cycle and answers with ready at once, without done."""


class ScriptError(RuntimeError):
    """What a real controller would end the program for: a pose out of reach, an unknown command."""


def pose_numbers(pose: Pose) -> list[float]:
    """URScript's p[x, y, z, rx, ry, rz]."""
    return [*map(float, pose.position), *map(float, pose.rotvec)]


class Script:
    """One run of the script; `offset` is that of the registers (0, or 24 for the upper range)."""

    def __init__(self, controller: Controller, offset: int) -> None:
        self._controller, self._offset = controller, offset
        self._executing = False
        self._waits_for: Motion | None = None
        self._last: tuple[float, ...] = ()
        controller.outputs["output_int_register_2"] = -1
        self._signal(READY)

    @property
    def _arm(self) -> Arm:
        return self._controller.arm

    def _signal(self, value: int) -> None:
        self._controller.outputs[f"output_int_register_{self._offset}"] = value

    def _int(self, index: int) -> int:
        return int(self._controller.inputs.get(f"input_int_register_{index + self._offset}", 0))

    def _floats(self, first: int, count: int = 6) -> Array:
        names = (f"input_double_register_{i + self._offset}" for i in range(first, first + count))
        return np.array([self._controller.inputs.get(name, 0.0) for name in names])

    def _pose(self, first: int) -> Pose:
        numbers = self._floats(first)
        if not np.isfinite(numbers).all():
            raise ScriptError(f"not a pose: {numbers}")
        return Pose.from_rotvec(numbers[:3], numbers[3:])

    def _answer(self, numbers: list[float]) -> None:
        for i, number in enumerate(numbers):
            self._controller.outputs[f"output_double_register_{i + self._offset}"] = float(number)

    def cycle(self) -> bool:
        """What the script does between two sync(): False when it has ended."""
        if self._waits_for is not None:  # a command that blocks the loop until the arm has arrived or rests
            if self._arm.motion is self._waits_for:
                return True
            self._waits_for = None
            self._signal(DONE)
        command = self._int(0)
        if command in REALTIME:
            self._process(command)
            self._signal(READY)
        elif command == 0:
            self._executing = False
            self._signal(READY)
        elif not self._executing:
            self._executing = True
            if command == STOP_SCRIPT:
                return False
            self._process(command)
            if self._waits_for is None:
                self._signal(DONE)
        return True

    def _process(self, command: int) -> None:
        handler = self._COMMANDS.get(command)
        if handler is None:
            raise ScriptError(f"command {command} is not one of those this fake knows")
        handler(self)

    def _begin(self, motion: Motion, asynchronous: bool) -> None:
        self._arm.motion = motion
        if not asynchronous:
            self._waits_for = motion

    def _reach(self, pose: Pose) -> Array:
        joints = self._arm.inverse(pose)
        if joints is None:
            raise ScriptError(f"get_inverse_kin: no solution for {pose_numbers(pose)}")
        return joints

    def _move_j(self) -> None:
        speed, acceleration = self._floats(6, 2)
        self._begin(Move(self._arm, self._floats(0), speed, acceleration), self._int(1) == 1)

    def _move_j_ik(self) -> None:
        speed, acceleration = self._floats(6, 2)
        self._begin(Move(self._arm, self._reach(self._pose(0)), speed, acceleration), self._int(1) == 1)

    def _move_l(self) -> None:
        speed, acceleration = self._floats(6, 2)
        self._begin(Line(self._arm, self._pose(0), speed, acceleration), self._int(1) == 1)

    def _move_l_fk(self) -> None:
        speed, acceleration = self._floats(6, 2)
        target = self._arm.kinematics.pose(self._floats(0))
        self._begin(Line(self._arm, target, speed, acceleration), self._int(1) == 1)

    def _servo_j(self) -> None:
        lookahead, gain = self._floats(9, 2)
        self._arm.motion = Servo(self._floats(0), lookahead, gain)

    def _servo_l(self) -> None:
        now = tuple(self._floats(0, 11))
        if now == self._last and isinstance(self._arm.motion, Servo):  # the script would find the same again
            return
        lookahead, gain = self._floats(9, 2)
        self._arm.motion = Servo(self._reach(self._pose(0)), lookahead, gain)
        self._last = now

    def _speed_j(self) -> None:
        self._arm.motion = Speed(self._floats(0), float(self._floats(6, 1)[0]))

    def _speed_l(self) -> None:
        jacobian = self._arm.kinematics.jacobian(self._arm.joints)
        joints = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), self._floats(0))
        # the acceleration is the tool's; its share of each joint's is of the same size for an arm of about 1 m
        self._arm.motion = Speed(joints, float(self._floats(6, 1)[0]))

    def _servo_stop(self) -> None:
        self._arm.stop_tool(float(self._floats(0, 1)[0]))
        self._waits_for = self._arm.motion

    def _speed_stop(self) -> None:
        self._arm.stop_joints(float(self._floats(0, 1)[0]))
        self._waits_for = self._arm.motion

    def _stop_l(self) -> None:
        self._arm.stop_tool(float(self._floats(0, 1)[0]))
        self._waits_for = None if self._int(1) == 1 else self._arm.motion

    def _stop_j(self) -> None:
        self._arm.stop_joints(float(self._floats(0, 1)[0]))
        self._waits_for = None if self._int(1) == 1 else self._arm.motion

    def _set_tcp(self) -> None:
        self._arm.kinematics.set_tcp(self._pose(0))

    def _set_payload(self) -> None:
        mass, *centre = self._floats(0, 4)
        self._controller.payload = (float(mass), [float(x) for x in centre])

    def _zero_wrench(self) -> None:
        self._controller.wrench_offset = self._controller.wrench.copy()

    def _protective_stop(self) -> None:
        self._controller.protective_stop()

    def _watchdog(self) -> None:
        hertz = float(self._floats(0, 1)[0])
        self._controller.watchdog = 1 / hertz if hertz > 0 else None

    def _pose_is_safe(self) -> None:
        self._truth(self._arm.inverse(self._pose(0)) is not None)

    def _joints_are_safe(self) -> None:
        joints, kinematics = self._floats(0), self._arm.kinematics
        self._truth(bool((joints >= kinematics.low).all() and (joints <= kinematics.high).all()))

    def _steady(self) -> None:
        self._truth(not self._arm.velocities.any())

    def _truth(self, value: bool) -> None:
        self._controller.outputs[f"output_int_register_{1 + self._offset}"] = int(value)

    def _pose_trans(self) -> None:
        self._answer(pose_numbers(self._pose(0) @ self._pose(6)))

    def _tcp_offset(self) -> None:
        self._answer(pose_numbers(self._arm.kinematics.tcp))

    def _forward(self) -> None:
        self._answer(pose_numbers(self._arm.tool_pose()))

    def _forward_of(self) -> None:
        self._answer(pose_numbers(self._arm.kinematics.flange(self._floats(0)) @ self._pose(6)))

    def _inverse(self) -> None:
        self._answer([float(x) for x in self._reach(self._pose(0))])

    def _inverse_near(self) -> None:
        joints = self._arm.kinematics.inverse(self._pose(0), self._floats(6))
        if joints is None:
            raise ScriptError("get_inverse_kin: no solution")
        self._answer([float(x) for x in joints])

    def _step_time(self) -> None:
        self._answer([0.002])

    _COMMANDS: dict[int, Callable[[Script], None]] = {  # noqa: RUF012 - a table, not a field
        1: _move_j, 2: _move_j_ik, 3: _move_l, 4: _move_l_fk, 8: _zero_wrench, SPEED_J: _speed_j, SPEED_L: _speed_l,
        SERVO_J: _servo_j, 15: _speed_stop, 16: _servo_stop, 17: _set_payload, SERVO_L: _servo_l, STEP_TIME: _step_time,
        29: _set_tcp, 30: _inverse_near, 31: _protective_stop, 33: _stop_l, 34: _stop_j, 35: _watchdog,
        36: _pose_is_safe, 37: _joints_are_safe, 39: _pose_trans, 40: _tcp_offset, 43: _forward, 44: _forward_of,
        46: _inverse, 47: _steady,
    }  # fmt: skip
