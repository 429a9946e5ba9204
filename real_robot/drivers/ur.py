"""`URRobot`: an arm of Universal Robots (e-Series, PolyScope 5) by the ur-rtde package, with a Robotiq gripper.

The base frame of its poses is the controller's base frame turned by `base_turn` about z: with the default of half a
turn, the axes of robosuite's UR5e, in which x points the other way. `base_yaw` is what the frame so obtained is
turned by against the world frame of the training data; it is told in `features` and changes no pose.

Three parts, each of which can be lost without the others hanging: measurements (`ur_receive`), the servo process
(`ur_servo`), and the gripper (`robotiq`). After anything went wrong, or `stop`, it takes no command until `recover`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from real_robot.contract import Robot, RobotError, RobotFeatures
from real_robot.drivers.robotiq import Robotiq
from real_robot.drivers.ur_process import ServoProcess
from real_robot.drivers.ur_receive import Measurement, Receiver
from real_robot.poses import Pose
from real_robot.types import Array, RobotMode, RobotState, Sent, Target, finite

__all__ = ["GripperSettings", "URRobot", "URSettings"]

_ELBOW = 2
_LIMITS = {  # data sheets of Universal Robots: rad/s of each joint; all turn by a whole turn both ways, the elbow half
    "ur3e": (np.pi, np.pi, np.pi, 2 * np.pi, 2 * np.pi, 2 * np.pi),
    "ur5e": (np.pi,) * 6,
    "ur10e": (2 * np.pi / 3, 2 * np.pi / 3, np.pi, np.pi, np.pi, np.pi),
}
_INSTALL = "the UR driver needs ur-rtde: pip install 'equidiff[ur]'"


@dataclass(frozen=True)
class GripperSettings:
    """port: of the URCap; stroke: metres between the open fingers; ends: counts (open, closed); speed, force: 0..1."""

    port: int = 63352
    stroke: float = 0.085
    ends: Sequence[int] = (0, 255)
    speed: float = 1.0
    force: float = 0.3


@dataclass(frozen=True)
class URSettings:
    """All settings; metres, radians, seconds, kg.

    tcp: of the tool in the flange's frame, position and rotation vector. payload: mass and centre of gravity
    (kg, m, m, m), or None to leave the pendant's. command_hz: at most 500. lookahead: 0.03 to 0.2, gain: 100 to 2000,
    of servoj. max_state_age: measurements older than that stop it. lost_after: older than that, the connection counts
    as lost. command_timeout: without a command for that long it stops. watchdog_hz: the controller ends the script
    when nothing comes for one period of it. start_within: metres and radians by which the first target may be away
    from the tool. max_speed: m/s and rad/s between one target and the next; the safety gate's limits are tighter.
    deceleration: m/s^2 of a stop. joint_acceleration, joint_deceleration: rad/s^2 of homing.
    """

    address: str
    name: str = "ur5e"
    arm: str = "ur5e"
    base_turn: float = float(np.pi)
    base_yaw: float = 0.0
    tcp: Sequence[float] = (0.0, 0.0, 0.145, 0.0, 0.0, 0.0)
    payload: Sequence[float] | None = None
    gripper: GripperSettings | None = field(default_factory=GripperSettings)
    command_hz: float = 125.0
    lookahead: float = 0.1
    gain: float = 300.0
    max_state_age: float = 0.1
    lost_after: float = 2.0
    command_timeout: float = 0.1
    watchdog_hz: float = 5.0
    start_within: Sequence[float] = (0.02, 0.1)
    max_speed: Sequence[float] = (1.0, 3.0)
    deceleration: float = 10.0
    joint_acceleration: float = 1.4
    joint_deceleration: float = 3.0
    connect_timeout: float = 15.0
    unlock_timeout: float = 8.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("command_hz", 10, 500), ("lookahead", 0.03, 0.2), ("gain", 100, 2000), ("max_state_age", 0.01, 0.5),
            ("command_timeout", 0.02, 0.5), ("watchdog_hz", 1, 100), ("deceleration", 0.5, 50),
            ("joint_acceleration", 0.1, 20), ("joint_deceleration", 0.1, 20),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"robot.{name}: expected {low} to {high}, got {value}")
        if self.arm not in _LIMITS:
            raise ValueError(f"robot.arm: expected one of {', '.join(_LIMITS)}, got {self.arm!r}")
        finite("robot.tcp", self.tcp, (6,))
        finite("robot.start_within", self.start_within, (2,))
        finite("robot.max_speed", self.max_speed, (2,))
        if self.payload is not None:
            finite("robot.payload", self.payload, (4,))


class URRobot(Robot):
    """`URRobot(address="192.168.1.10")`; the keyword arguments are those of `URSettings`."""

    def __init__(self, **settings: Any) -> None:
        if isinstance(settings.get("gripper"), dict):
            settings["gripper"] = GripperSettings(**settings["gripper"])
        self.settings = s = URSettings(**settings)
        self._base = Pose.from_rotvec([0, 0, 0], [0, 0, s.base_turn])
        turns = np.full(6, 2 * np.pi)
        turns[_ELBOW] = np.pi
        grip = s.gripper
        self._features = RobotFeatures(
            name=s.name, arm=s.arm, joint_low=-turns, joint_high=turns, joint_velocity=np.array(_LIMITS[s.arm]),
            gripper=(0.0, grip.stroke if grip else 0.0), command_hz=s.command_hz, has_wrench=True, base_yaw=s.base_yaw,
        )  # fmt: skip
        self._gripper: Robotiq | None = None
        if grip is not None:
            low, high = grip.ends
            self._gripper = Robotiq(
                s.address, grip.port, stroke=grip.stroke, ends=(low, high), speed=grip.speed, force=grip.force
            )
        self._receiver: Receiver | None = None
        self._servo: ServoProcess | None = None
        self._halted: str | None = None
        self._last: tuple[Pose, float] | None = None

    # -- connection

    @property
    def features(self) -> RobotFeatures:
        return self._features

    @property
    def connected(self) -> bool:
        return self._receiver is not None

    def _error(self, what: str) -> RobotError:
        return RobotError(f"{self.settings.name} at {self.settings.address}: {what}")

    def connect(self) -> None:
        if self.connected:
            raise self._error("connected already")
        for module in ("rtde_receive", "rtde_control", "dashboard_client"):
            if importlib.util.find_spec(module) is None:
                raise RobotError(_INSTALL)
        try:
            self._open()
            if self._gripper is not None:
                self._gripper.connect()
        except RobotError:
            self.disconnect()
            raise

    def _open(self) -> None:
        """Measurements and script, new; at rest afterwards."""
        s = self.settings
        receiver = self._receiver = Receiver(s.address, s.max_state_age)
        receiver.wait(s.connect_timeout)
        mode = self._newest().mode
        if mode in (RobotMode.PROTECTIVE_STOP, RobotMode.EMERGENCY_STOP, RobotMode.IDLE):
            raise self._error(f"the controller reports {mode.value}; clear it on the pendant, then connect")
        self._servo = ServoProcess(
            {
                "address": s.address, "tcp": list(map(float, s.tcp)), "command_hz": s.command_hz,
                "lookahead": s.lookahead, "gain": s.gain, "deceleration": s.deceleration,
                "joint_deceleration": s.joint_deceleration, "command_timeout": s.command_timeout,
                "watchdog_hz": s.watchdog_hz, "payload": list(map(float, s.payload)) if s.payload else None,
            },
            s.connect_timeout,
        )  # fmt: skip
        self._wait_ready(s.connect_timeout)
        receiver.watching.set()
        self._last, self._halted = None, None

    def _wait_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while self._newest().mode is not RobotMode.READY or self._age() > self.settings.max_state_age:
            if time.monotonic() > end:
                raise self._error(f"not ready after {timeout} s: {self._newest().mode.value}, {self._age():.2f} s old")
            time.sleep(0.002)

    def _shut(self, gently: bool) -> None:
        servo, self._servo = self._servo, None
        if servo is not None:
            if gently:
                servo.end(1.0)
            else:
                servo.kill()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def disconnect(self) -> None:
        gently = self._receiver is not None and self._receiver.trouble is None
        self._shut(gently)
        if self._gripper is not None:
            self._gripper.disconnect()
        self._last = None

    # -- measurements

    def _newest(self) -> Measurement:
        if self._receiver is None or self._receiver.newest is None:
            raise self._error("not connected")
        return self._receiver.newest

    def _age(self) -> float:
        return time.monotonic() - self._newest().stamp

    def observe(self) -> RobotState:
        newest, receiver = self._newest(), self._receiver
        if receiver is None or not receiver.connected:
            raise self._error(
                f"the connection was lost {time.monotonic() - newest.stamp:.2f} s ago; recover, or connect"
            )
        age = time.monotonic() - newest.stamp
        if age > self.settings.lost_after:
            raise self._error(f"no measurement for {age:.2f} s: the controller is frozen, or the cable is out")
        turn = self._base.rotation
        wrench = np.array(newest.wrench)
        mode = newest.mode
        if mode is RobotMode.READY and self._refusal() is not None:
            mode = RobotMode.IDLE if self._halted is not None and receiver.trouble is None else RobotMode.FAULT
        return RobotState(
            stamp=newest.stamp,
            joints=np.array(newest.joints),
            velocities=np.array(newest.velocities),
            pose=self._base @ Pose.from_rotvec(newest.pose[:3], newest.pose[3:]),
            gripper=self._gripper.read()[0] if self._gripper is not None else 0.0,
            mode=mode,
            wrench=np.concatenate([turn @ wrench[:3], turn @ wrench[3:]]),
        )

    def _refusal(self) -> str | None:
        """Why no command is taken until `recover`, if so."""
        receiver, servo = self._receiver, self._servo
        if receiver is None:
            return "not connected"
        if self._halted is not None:
            return self._halted
        if receiver.trouble is not None:
            return receiver.trouble
        if servo is None or not servo.alive:
            return f"the servo process ended: {servo.last_words if servo else ''}"
        return None

    def _require(self) -> Measurement:
        """The newest measurement, on which it may be moved; else halt and raise."""
        why = self._refusal()
        newest = self._newest()
        age = time.monotonic() - newest.stamp
        if why is None and age > self.settings.max_state_age:
            why = f"the newest measurement is {age:.3f} s old, more than {self.settings.max_state_age} s"
        if why is None and newest.mode is not RobotMode.READY:
            why = f"the controller reports {newest.mode.value}"
        if why is not None:
            self._halt(why)
            raise self._error(f"{why}; it takes commands again after recover()")
        return newest

    # -- motion

    def command(self, target: Target, at: float) -> Sent:
        s, now = self.settings, time.monotonic()
        numbers = [*target.pose.position, *target.pose.rotation.ravel(), target.gripper, at]
        if not np.isfinite(numbers).all():
            raise self._error(f"a target that is not finite: {numbers}")
        if not -s.command_timeout <= at - now <= 1.0:
            raise self._error(f"a target for {at - now:+.3f} s from now: expected -{s.command_timeout} to 1 s")
        newest = self._require()
        if self._last is not None and now - self._last[1] < s.command_timeout:
            start, elapsed = self._last[0], max(now - self._last[1], 1 / s.command_hz)
            allowed = [speed * elapsed + 1e-6 for speed in s.max_speed]
        else:
            start = self._base @ Pose.from_rotvec(newest.pose[:3], newest.pose[3:])
            allowed = list(s.start_within)
        metres, radians = start.distance(target.pose)
        if metres > allowed[0] or radians > allowed[1]:
            raise self._error(
                f"a jump of {metres:.4f} m and {radians:.4f} rad, more than {allowed[0]:.4f} and {allowed[1]:.4f}; "
                + ("targets must be smooth" if self._last is not None else "start where the arm is")
            )
        pose = self._base.inverse() @ target.pose
        opening = self._gripper.move(target.gripper) if self._gripper is not None else 0.0
        sent = time.monotonic()
        if self._servo is None or not self._servo.send(
            do="servo", pose=[*map(float, pose.position), *map(float, pose.rotvec)], stamp=sent
        ):
            self._halt("the servo process ended")
            raise self._error(f"the servo process ended: {self._servo.last_words if self._servo else ''}")
        self._last = (target.pose, sent)
        return Sent(Target(target.pose, opening), at, sent)

    def _halt(self, why: str) -> None:
        if self._halted is None:
            self._halted = why
        self._last = None
        servo = self._servo
        if servo is not None:
            servo.send(do="stop")

    def stop(self) -> None:
        self._halt("stopped")
        if self._gripper is not None:
            self._gripper.hold()

    def recover(self) -> None:
        if not self.connected:
            raise self._error("not connected")
        self._shut(gently=False)
        try:
            self._unlock()
            self._open()
            if self._gripper is not None:
                try:
                    self._gripper.read()
                except RobotError:
                    self._gripper.disconnect()
                    self._gripper.connect()
        except RobotError:
            self.disconnect()
            raise

    def _unlock(self) -> None:
        """Ends the program, so that nothing resumes by itself, then unlocks a protective stop."""
        from dashboard_client import DashboardClient

        dashboard = DashboardClient(self.settings.address)
        try:
            dashboard.connect(2000)
            with contextlib.suppress(RuntimeError):  # nothing was running
                dashboard.stop()
            status = dashboard.safetystatus()
            if "PROTECTIVE_STOP" in status:
                dashboard.closeSafetyPopup()
                self._unlock_within(dashboard, self.settings.unlock_timeout)
            elif "NORMAL" not in status and "REDUCED" not in status:
                raise self._error(f"{status}; clear it at the arm and on the pendant, then recover again")
        except RuntimeError as error:
            if isinstance(error, RobotError):
                raise
            raise self._error(f"dashboard: {error}") from error
        finally:
            dashboard.disconnect()

    def _unlock_within(self, dashboard: Any, timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            try:
                dashboard.unlockProtectiveStop()
                return
            except RuntimeError as error:  # the controller asks for 5 s since the stop
                if time.monotonic() > end:
                    raise self._error(f"it does not unlock: {error}") from error
            time.sleep(0.1)

    def move_joints(self, joints: Array, speed: float) -> None:
        s, f = self.settings, self._features
        goal = finite("joints", joints, (6,))
        if (goal < f.joint_low).any() or (goal > f.joint_high).any():
            raise self._error(f"joints {goal.round(3).tolist()} are outside the limits")
        if not 0 < speed <= f.joint_velocity.min():
            raise self._error(f"speed: expected 0 to {f.joint_velocity.min():.2f} rad/s, got {speed}")
        away = float(np.abs(goal - self._require().joints).max())
        self._last = None
        if self._servo is None or not self._servo.send(
            do="movej", joints=goal.tolist(), speed=speed, acceleration=s.joint_acceleration
        ):
            raise self._error("the servo process ended")
        end = time.monotonic() + 2 * (away / speed + speed / s.joint_acceleration) + 3
        while True:
            time.sleep(0.005)
            newest = self._require()
            arrived = np.abs(goal - newest.joints).max() < 1e-3
            if arrived and np.abs(newest.velocities).max() < 1e-3:
                return
            if time.monotonic() > end:
                self._halt("homing took too long")
                raise self._error(f"still {np.abs(goal - newest.joints).max():.3f} rad from {goal.round(3).tolist()}")
