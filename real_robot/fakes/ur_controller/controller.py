"""The fake controller itself: its cycle, its modes, its registers, and the faults that a test can put in."""

from __future__ import annotations

import re
import threading
import time
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from real_robot.fakes.ur_controller.arm import CYCLE, Arm, Motion
from real_robot.fakes.ur_controller.gripper import Gripper
from real_robot.fakes.ur_controller.rtde import Value
from real_robot.fakes.ur_controller.script import SERVO_L, Script, ScriptError
from real_robot.types import Array

__all__ = ["Controller", "Settings"]

HOME = (0.0, -1.6, 1.9, -1.87, -1.57, 0.0)
_RUNNING, _POWER_OFF = 7, 3
_NORMAL, _PROTECTIVE, _EMERGENCY = 1, 3, 7
_STOPPED, _PLAYING, _PAUSED = 1, 2, 4
_MOST_CYCLES_AT_ONCE = 100
"""After a pause of the computer the arm makes up for it, but not for more than 0.2 s."""


class Settings:
    """version of URControl; unlock_after: seconds a protective stop must last before it may be unlocked (5 in a real
    controller); paused: whether a protective stop pauses the program, as PolyScope 5 does, or ends it."""

    def __init__(self, version: tuple[int, int] = (5, 11), unlock_after: float = 5.0, paused: bool = True) -> None:
        self.version, self.unlock_after, self.paused = version, unlock_after, paused


class Controller:
    """All of it under `lock`; `cycle` is called at 500 Hz by `run`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self.going = threading.Event()
        """Cleared while the controller is frozen: nothing is read, computed or sent."""
        self.going.set()
        self.listeners: list[Callable[[int], None]] = []
        self.reset()

    def reset(self) -> None:
        """As after switching on: at home, no program, no fault, no watchdog."""
        with self.lock:
            self.arm = Arm(np.array(HOME))
            self.gripper = Gripper()
            self.inputs: dict[str, Any] = {}
            self.outputs: dict[str, Value] = {}
            self.payload: tuple[float, list[float]] = (0.0, [0.0, 0.0, 0.0])
            self.wrench, self.wrench_offset = np.zeros(6), np.zeros(6)
            self.watchdog: float | None = None
            self.script: Script | None = None
            self.robot_mode, self.safety_mode, self.runtime = _RUNNING, _NORMAL, _STOPPED
            self.network_delay = 0.0
            self.remote = True
            self.messages: deque[str] = deque(maxlen=50)
            self.history: deque[tuple[float, list[float], list[float]]] = deque(maxlen=60000)
            self.time = 1000.0
            self.servo_times: deque[tuple[float, float]] = deque(maxlen=60000)
            self.counts = {"uploads": 0, "commands": 0, "watchdog_stops": 0}
            self._heard = self.time
            self._stopped_at = 0.0
            self._interrupted: Motion | None = None
            self._cycles = 0
            self._pose, self._joints = self.arm.kinematics.numbers(self.arm.joints), list(HOME)

    # -- the cycle

    def run(self, until: threading.Event) -> None:
        """Cycle in real time until told to end."""
        due = time.monotonic()
        while not until.is_set():
            if not self.going.is_set():
                self.going.wait(0.05)
                due = time.monotonic()
                continue
            late = int((time.monotonic() - due) / CYCLE)
            due += (late + 1) * CYCLE
            with self.lock:  # what is beyond making up is lost, but the clock shows it
                self.time += max(0, late - _MOST_CYCLES_AT_ONCE) * CYCLE
            for left in range(min(late, _MOST_CYCLES_AT_ONCE), -1, -1):
                self.cycle(time.monotonic() - left * CYCLE, send=left == 0)
            time.sleep(max(0.0, due - time.monotonic()))

    def cycle(self, now: float, send: bool = True) -> None:
        """One cycle, whose measurement is of the computer's time `now`, and goes to the clients with `send`."""
        with self.lock:
            self.time += CYCLE
            self._cycles += 1
            if self.script is not None and self.runtime == _PLAYING:
                self._run_script(self.script)
            self.arm.cycle()
            self.gripper.cycle(CYCLE)
            self._pose, self._joints = self.arm.kinematics.numbers(self.arm.joints), self.arm.joints.tolist()
            self.history.append((now, self._pose, self._joints))
            if send:
                for listener in list(self.listeners):
                    listener(self._cycles)

    def _run_script(self, script: Script) -> None:
        if self.watchdog is not None and self.time - self._heard > self.watchdog:
            self.counts["watchdog_stops"] += 1
            self.stop_program("RTDE watchdog: no input in time")
            return
        try:
            if not script.cycle():
                self.stop_program("the script came to its end")
        except (ScriptError, ValueError) as error:
            self.stop_program(f"runtime error: {error}")

    # -- what clients do

    def write_inputs(self, values: dict[str, Value]) -> None:
        """A data package of a client came."""
        with self.lock:
            self.inputs.update(values)
            self.counts["commands"] += 1
            if SERVO_L in values.values() and "input_double_register_2" in values:
                self.servo_times.append((time.monotonic(), float(values["input_double_register_2"])))  # type: ignore[arg-type]
            if any(name.startswith("input_int_register_") for name in values):
                self._heard = self.time

    def read_outputs(self, names: Iterable[str]) -> Mapping[str, Value]:
        """What RTDE calls them, of this cycle; those of `names` at least."""
        arm, power = self.arm, self.robot_mode == _RUNNING
        pose, joints, playing = self._pose, self._joints, self.runtime == _PLAYING
        velocities = arm.velocities.tolist()
        stopped = {_PROTECTIVE: 1 << 2, _EMERGENCY: 1 << 6 | 1 << 7}.get(self.safety_mode, 0)
        known: dict[str, Value] = {
            "timestamp": self.time,
            "actual_q": joints, "target_q": joints, "actual_qd": velocities, "target_qd": velocities,
            "target_qdd": arm.accelerations.tolist(),
            "actual_TCP_pose": pose, "target_TCP_pose": pose,
            "actual_TCP_force": (self.wrench - self.wrench_offset).tolist(),
            "ft_raw_wrench": self.wrench.tolist(),
            "robot_mode": self.robot_mode, "safety_mode": self.safety_mode, "runtime_state": self.runtime,
            "robot_status_bits": int(power) | int(playing) << 1,
            "safety_status_bits": stopped | (1 << 10 if stopped else 1),
            "joint_mode": [253] * 6,
            "speed_scaling": 1.0, "target_speed_fraction": 1.0,
            "payload": self.payload[0], "payload_cog": self.payload[1],
        }  # fmt: skip
        if {"actual_TCP_speed", "target_TCP_speed"} & set(names):
            known["actual_TCP_speed"] = known["target_TCP_speed"] = arm.tool_speed().tolist()
        return ChainMap(known, self.outputs, _ZEROS)

    def upload(self, text: str) -> None:
        """A script came: the control script starts its loop, replacing what runs; others are noted only."""
        with self.lock:
            self.counts["uploads"] += 1
            if self.robot_mode != _RUNNING or self.safety_mode != _NORMAL:
                self.messages.append("script refused: the robot is not running normally")
                return
            if "rtde_control" not in text:
                self.messages.append("script ignored: not ur_rtde's control script")
                return
            self.arm.motion = None
            found = re.search(r"# int register offset\s*(\d+)", text)
            offset = int(found[1]) if found else 0
            self.watchdog, self.runtime = None, _PLAYING
            self._heard = self.time
            self.script = Script(self, offset)

    def stop_program(self, why: str) -> None:
        """The program ends and the arm comes to rest."""
        with self.lock:
            self.messages.append(why)
            self.script, self.runtime, self._interrupted = None, _STOPPED, None
            if self.safety_mode == _NORMAL:
                self.arm.stop_joints(8.0)

    def play(self) -> bool:
        """Resume a paused program: with the motion that was interrupted, as the real one."""
        with self.lock:
            if self.runtime != _PAUSED or self.safety_mode != _NORMAL or self.script is None:
                return False
            self.runtime, self._heard = _PLAYING, self.time
            self.arm.motion, self._interrupted = self._interrupted, None
            return True

    def unlock(self) -> str:
        """Release a protective stop; the dashboard's answer."""
        with self.lock:
            if self.safety_mode != _PROTECTIVE:
                return "Protective stop releasing"
            if self.time - self._stopped_at < self.settings.unlock_after:
                return (
                    "Cannot unlock protective stop until 5s after occurrence. "
                    "Always inspect cause of protective stop before unlocking"
                )
            self.safety_mode = _NORMAL
            return "Protective stop releasing"

    # -- faults

    def protective_stop(self) -> None:
        """The arm stops hard; the program is paused or ended."""
        with self.lock:
            self.safety_mode, self._stopped_at = _PROTECTIVE, self.time
            self._interrupted = self.arm.motion
            self.arm.stop_joints(30.0)
            if self.script is not None and self.settings.paused:
                self.runtime = _PAUSED
            else:
                self.script, self.runtime = None, _STOPPED

    def emergency_stop(self) -> None:
        """Somebody pressed the button: stopped, then without power."""
        with self.lock:
            self.safety_mode, self.robot_mode = _EMERGENCY, _POWER_OFF
            self.script, self.runtime = None, _STOPPED
            self.arm.stop_joints(30.0)

    def release_emergency(self) -> None:
        """The button is out again, and somebody switched on and released the brakes on the pendant."""
        with self.lock:
            self.safety_mode, self.robot_mode = _NORMAL, _RUNNING

    def freeze(self, seconds: float, clock_stands: bool = False) -> None:
        """Nothing happens for `seconds`; its joints hold. Returns at once."""
        with self.lock:
            self.arm.velocities = np.zeros(6)
            self.going.clear()

        def release() -> None:
            with self.lock:
                if not clock_stands:
                    self.time += seconds
                self.going.set()

        timer = threading.Timer(seconds, release)
        timer.daemon = True
        timer.start()

    def push(self, wrench: Array) -> None:
        """Force and torque (6,) at the tool, in the axes of the UR base."""
        with self.lock:
            self.wrench = np.array(wrench, np.float64)


def _zeros() -> dict[str, Value]:
    vectors = "target_current target_moment actual_current joint_control_output joint_temperatures actual_joint_voltage"
    out: dict[str, Value] = {
        name: [0.0] * 6 for name in (*vectors.split(), "payload_inertia", "actual_current_as_torque")
    }
    doubles = (
        "actual_execution_time actual_momentum actual_main_voltage actual_robot_voltage actual_robot_current "
        "standard_analog_input0 standard_analog_input1 standard_analog_output0 standard_analog_output1 tcp_force_scalar"
    )
    out.update(dict.fromkeys(doubles.split(), 0.0))
    out.update(dict.fromkeys(("actual_digital_input_bits", "actual_digital_output_bits", "safety_status"), 0))
    out["actual_tool_accelerometer"] = [0.0, 0.0, 9.81]
    for i in range(48):
        out[f"output_int_register_{i}"] = 0
        out[f"output_double_register_{i}"] = 0.0
    out.update({f"output_bit_register_{i}": False for i in range(128)})
    return out


_ZEROS = _zeros()
