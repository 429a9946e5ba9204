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
import math
import threading
import time
from typing import Any

import numpy as np

from real_robot.contract import Robot, RobotError, RobotFeatures
from real_robot.drivers.robotiq import Robotiq
from real_robot.drivers.ur_patience import within
from real_robot.drivers.ur_process import ServoProcess
from real_robot.drivers.ur_receive import Measurement, Receiver
from real_robot.drivers.ur_settings import URSettings
from real_robot.hold import Hold
from real_robot.kinematics import Arm, load_arm
from real_robot.poses import Pose, exp_map, log_map
from real_robot.types import Array, RobotMode, RobotState, Sent, Target, finite

__all__ = ["URRobot"]

_AT_REST = 0.01
"""rad/s"""
_POLL = 0.005
"""Seconds between two looks at the arm while homing."""
_INSTALL = "the UR driver needs ur-rtde: pip install 'equidiff[ur]'"


def _distance(a: Pose, b: Pose) -> tuple[float, float]:
    """As `a.distance(b)`; from the trace, which is fast and exact enough (1e-7 rad) for a limit."""
    cosine = (float((a.rotation * b.rotation).sum()) - 1) / 2
    return math.dist(a.position, b.position), math.acos(min(1.0, max(-1.0, cosine)))


class URRobot(Robot):
    """`URRobot(URSettings("192.168.1.10"))`.

    `stop` holds as long as commands keep coming: it takes them again when the arm is at rest and none came for
    `command_timeout`. Everything else that went wrong holds until `recover`. While homing this process says all the
    time that it lives; without that the servo process stops the arm as it does without commands.
    """

    def __init__(self, settings: URSettings) -> None:
        self.settings = s = settings
        self._base = self.maker_base
        chain = self.arm
        grip = s.gripper
        self._features = RobotFeatures(
            name=s.name, arm=s.arm, joint_low=chain.joint_low, joint_high=chain.joint_high,
            joint_velocity=chain.joint_velocity,
            gripper=(0.0, grip.stroke if grip else 0.0), command_hz=s.command_hz, has_wrench=True, base_yaw=s.base_yaw,
            base_position=(float(s.base_position[0]), float(s.base_position[1]), float(s.base_position[2])),
        )  # fmt: skip
        self._gripper: Robotiq | None = None
        if grip is not None:
            low, high = grip.ends
            self._gripper = Robotiq(
                s.address, grip.port, stroke=grip.stroke, ends=(low, high), speed=grip.speed, force=grip.force,
                timeout=s.lost_after,
            )  # fmt: skip
        self._receiver: Receiver | None = None
        self._servo: ServoProcess | None = None
        self._opened = False
        self._halted: str | None = None
        """What went wrong, until `recover`."""
        self._hold = Hold(s.command_timeout)
        self._last: tuple[Pose, float] | None = None
        self._sending = threading.Lock()
        """Held while a message goes out, so that none follows a stop."""

    @property
    def maker_base(self) -> Pose:
        """The controller's base frame seen from the base frame of the poses."""
        return Pose.from_rotvec([0, 0, 0], [0, 0, self.settings.base_turn])

    @property
    def tool(self) -> Pose:
        """Seen from the flange."""
        return Pose.from_rotvec(self.settings.tcp[:3], self.settings.tcp[3:])

    @property
    def arm(self) -> Arm:
        """Kinematics up to the tool, in the base frame of the poses."""
        return load_arm(self.settings.arm, self.tool, self.maker_base)

    # -- connection

    @property
    def features(self) -> RobotFeatures:
        return self._features

    @property
    def connected(self) -> bool:
        receiver = self._receiver
        return receiver is not None and receiver.connected

    def _error(self, what: str) -> RobotError:
        return RobotError(f"{self.settings.name} at {self.settings.address}: {what}")

    def connect(self) -> None:
        if self._opened:
            raise self._error("connected already; after a loss, recover() or disconnect() first")
        for module in ("rtde_receive", "rtde_control", "dashboard_client"):
            if importlib.util.find_spec(module) is None:
                raise RobotError(_INSTALL)
        self._opened = True
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
        receiver = self._receiver = Receiver(s.address, s.max_state_age, s.connect_timeout)
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
        self._hold.end()

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
        self._last, self._opened = None, False

    # -- measurements

    def _newest(self) -> Measurement:
        if self._receiver is None or self._receiver.newest is None:
            raise self._error("not connected")
        return self._receiver.newest

    def _age(self) -> float:
        return time.monotonic() - self._newest().stamp

    def _pose(self, measured: Measurement) -> Pose:
        turn = self._base.rotation  # the two frames share their origin
        return Pose(turn @ measured.pose[:3], turn @ exp_map(measured.pose[3:]))

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
            mode = RobotMode.FAULT
        return RobotState(
            stamp=newest.stamp,
            joints=np.array(newest.joints),
            velocities=np.array(newest.velocities),
            pose=self._pose(newest),
            gripper=self._opening(newest),
            mode=mode,
            wrench=np.concatenate([turn @ wrench[:3], turn @ wrench[3:]]),
        )

    def _opening(self, newest: Measurement) -> float:
        """At about the time of a measurement of the arm."""
        if self._gripper is None:
            return 0.0
        opening, stamp = self._gripper.read()
        age = newest.stamp - stamp  # a controller that is frozen leaves both as old
        if age > self.settings.max_gripper_age:
            raise self._error(f"the gripper said nothing for {age:.2f} s; look at its cable and at the URCap")
        return opening

    def _refusal(self) -> str | None:
        """Why no command is taken until `recover`, if so."""
        receiver, servo = self._receiver, self._servo
        if receiver is None:
            return "not connected"
        if receiver.trouble is not None:
            return receiver.trouble
        if servo is None:
            return "not recovered"
        return servo.trouble or self._halted

    def _require(self) -> Measurement:
        """The newest measurement, on which it may be moved; else halt and raise."""
        newest, why = self._newest(), self._refusal()
        if why is None:
            with self._sending:
                held = self._hold.refuses(time.monotonic(), bool(np.abs(newest.velocities).max() < _AT_REST))
            if held:
                raise self._error(self._hold.why)
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
        position, rotation = target.pose.position, target.pose.rotation
        # one that is not finite makes the sum so
        if not math.isfinite(float(position.sum()) + float(rotation.sum()) + target.gripper + at):
            raise self._error(f"a target that is not finite: {position}, {rotation}, {target.gripper}, at {at}")
        if not -s.command_timeout <= at - now <= 1.0:
            raise self._error(f"a target for {at - now:+.3f} s from now: expected -{s.command_timeout} to 1 s")
        newest = self._require()
        self._opening(newest)
        last = self._last
        start = last is None or now - last[1] > 0.8 * s.command_timeout
        if last is None or start:
            before, allowed = self._pose(newest), list(s.start_within)
        else:
            elapsed = max(now - last[1], 1 / s.command_hz)
            before, allowed = last[0], [speed * elapsed for speed in s.max_speed]
        metres, radians = _distance(before, target.pose)
        if metres > allowed[0] or radians > allowed[1]:
            raise self._error(
                f"a jump of {metres:.4f} m and {radians:.4f} rad, more than {allowed[0]:.4f} and {allowed[1]:.4f}; "
                + ("start where the arm is" if start else "targets must be smooth")
            )
        to_ur = self._base.rotation.T  # the two frames share their origin
        numbers = [*(to_ur @ position).tolist(), *log_map(to_ur @ rotation).tolist()]
        sent = time.monotonic()
        self._send(do="servo", pose=numbers, start=start, stamp=sent)
        self._last = (target.pose, sent)
        opening = self._gripper.move(target.gripper) if self._gripper is not None else 0.0
        return Sent(Target(target.pose, opening), at, sent)

    def _send(self, **message: object) -> None:
        """To the servo process, unless a stop came before."""
        with self._sending:
            why, servo = self._halted, self._servo
            if why is None and self._hold.on:
                raise self._error(self._hold.why)
            if why is None and (servo is None or not servo.send(**message)):
                why = "the servo process ended"
        if why is not None:
            raise self._error(f"{why}; it takes commands again after recover()")

    def _halt(self, why: str | None) -> None:
        """Stop the arm; `why`: what went wrong, so that it takes no command until `recover`."""
        with self._sending:
            self._last = None
            self._halted = self._halted or why
            self._hold.begin(time.monotonic())
            servo = self._servo
            if servo is not None:
                servo.send(do="stop")

    def stop(self) -> None:
        self._halt(None)
        if self._gripper is not None:
            self._gripper.hold()

    def recover(self) -> None:
        if not self._opened:
            raise self._error("not connected")
        s, receiver = self.settings, self._receiver
        if receiver is not None and receiver.connected and time.monotonic() - receiver.arrived > s.max_state_age:
            raise self._error("no measurement comes: the controller is still frozen, or the cable is out")
        servo, self._servo = self._servo, None
        if servo is not None:
            servo.kill()
        within(s.unlock_timeout + 5, self._unlock, f"{s.name} at {s.address}: the dashboard does not answer")
        self._shut(gently=False)
        try:
            self._open()
        except RobotError:
            self._shut(gently=False)
            raise
        if self._gripper is not None:
            try:
                self._gripper.read()
            except RobotError:  # lost too
                self._gripper.disconnect()
                self._gripper.connect()

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
        self._last, stamp = None, time.monotonic()
        arrived = False
        try:
            self._send(do="movej", joints=goal.tolist(), speed=speed, acceleration=s.joint_acceleration, stamp=stamp)
            self._wait_for(goal, stamp + 2 * (away / speed + speed / s.joint_acceleration) + 3)
            arrived = True
        finally:
            if not arrived:  # Ctrl-C and what a signal raises included: it must not go on alone
                self._halt(None)

    def _wait_for(self, goal: Array, end: float) -> None:
        """Until the arm is at its goal; says meanwhile that this process lives, or the servo process stops the arm."""
        said = time.monotonic()
        while True:
            time.sleep(_POLL)
            newest, now = self._require(), time.monotonic()
            off = float(np.abs(goal - newest.joints).max())
            if off < 1e-3 and np.abs(newest.velocities).max() < 1e-3:
                self._send(do="arrived")
                return
            if now > end:
                self._halt("homing took too long")
                raise self._error(f"still {off:.3f} rad from {goal.round(3).tolist()}; is something in its way?")
            if now - said > self.settings.command_timeout / 5:
                self._send(do="alive", stamp=now)
                said = now
