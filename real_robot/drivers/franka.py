"""`FrankaRobot`: a Panda or FR3 by the franky-control package, with the Franka hand.

Targets are followed by franky's Cartesian impedance in its 1 kHz loop. Between them the reference moves on a straight
line in time, so that the arm is at each target when it is due. The base frame of the poses is Franka's own, which is
robosuite's, too. After anything went wrong it takes no command until `recover`; after `stop`, or when no command came
for `command_timeout`, it takes them again once it is at rest. Homing is watched as following is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np

from real_robot.contract import Robot, RobotError, RobotFeatures
from real_robot.drivers.franka_gripper import FrankaHand
from real_robot.drivers.franka_library import errors, library, mode_of, pose_of
from real_robot.drivers.franka_motions import Line, braking, following, homing, reference
from real_robot.drivers.franka_settings import FrankaSettings
from real_robot.hold import Hold
from real_robot.kinematics import Arm, load_arm
from real_robot.poses import Pose
from real_robot.types import Array, RobotMode, RobotState, Sent, Target, finite

__all__ = ["FrankaRobot"]

_AT_REST = 0.02  # rad/s
_PERIOD = 0.004  # seconds between two readings of the state, and between two references
_SPAN = 0.04  # seconds over which velocities are means


class FrankaRobot(Robot):
    """`FrankaRobot(FrankaSettings("172.16.0.2"))`. Not in one process with pylibfranka."""

    def __init__(self, settings: FrankaSettings) -> None:
        self.settings = s = settings
        low, high, speed = s.joint_limits
        self._features = RobotFeatures(
            name=s.name, arm="panda", joint_low=low, joint_high=high, joint_velocity=speed,
            gripper=(0.0, s.gripper.stroke if s.gripper else 0.0), command_hz=s.command_hz, has_wrench=True,
            base_yaw=s.base_yaw, base_position=(s.base_position[0], s.base_position[1], s.base_position[2]),
        )  # fmt: skip
        self._robot: Any = None
        self._hand: FrankaHand | None = None
        self._lock = threading.RLock()
        """Held while franky is spoken to, and what is written below is changed."""
        self._state: RobotState | None = None
        self._device_time = -1.0
        self._recent: deque[tuple[float, Array]] = deque(maxlen=64)
        """Device times and joints of the last measurements."""
        self._to_tool = Pose([0, 0, 0], np.eye(3))
        """The tool in the frame that the controller calls end effector."""
        self._motion: Any = None
        """The motion under way: that follows targets, or of homing; None at rest."""
        self._homing = False
        """Whether it is that of homing."""
        self._line: Line | None = None
        self._commanded = 0.0
        """When somebody last wanted the motion under way."""
        self._hold = Hold(s.command_timeout)
        self._trouble: str | None = None
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def tool(self) -> Pose:
        """Seen from the flange."""
        return Pose.from_rotvec(self.settings.tool[:3], self.settings.tool[3:])

    @property
    def arm(self) -> Arm:
        """Kinematics up to the tool, within the model's joint limits."""
        return load_arm("panda", self.tool).within(*self.settings.joint_limits)

    @property
    def features(self) -> RobotFeatures:
        return self._features

    @property
    def connected(self) -> bool:
        return self._robot is not None and self._thread is not None and self._thread.is_alive()

    def _error(self, what: str) -> RobotError:
        return RobotError(f"{self.settings.name} at {self.settings.address}: {what}")

    # -- connection

    def connect(self) -> None:
        if self._robot is not None:
            raise self._error("connected already; after a loss, recover() or disconnect() first")
        try:
            self._open()
        except RobotError:
            self.disconnect()
            raise
        state = self.observe()
        if state.mode is not RobotMode.READY:
            self.disconnect()
            raise self._error(f"the controller reports {state.mode.value}; clear it (Desk, user stop), then connect")

    def _open(self) -> None:
        franky, s = library(), self.settings
        realtime = franky.RealtimeConfig.Enforce if s.realtime else franky.RealtimeConfig.Ignore
        try:
            self._robot = franky.Robot(s.address, realtime_config=realtime)
            self._robot.set_collision_behavior(s.torque_threshold, s.force_threshold)
            self._trouble, self._motion, self._device_time = None, None, -1.0
            self._hold.end()
            self._recent.clear()
            self._read()
            if s.gripper is not None:
                self._hand = FrankaHand(franky.Gripper(s.address), errors(franky), s.gripper)
        except errors(franky) as error:
            raise self._error(
                f"{error}; is FCI active, is the cable in the control unit, is nobody else connected?"
            ) from error
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._quit,), name="franka", daemon=True)
        self._thread.start()

    def _shut(self) -> None:
        self._quit.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(3.0)
        hand, self._hand = self._hand, None
        if hand is not None:
            hand.close()
        self._robot = self._motion = None

    def disconnect(self) -> None:
        if self._robot is not None and self._trouble is None:
            self.stop()
            end = time.monotonic() + self.settings.stop_within
            while time.monotonic() < end and self._trouble is None and not self._at_rest():
                time.sleep(0.01)
        self._shut()
        self._state = None

    # -- measurements, references and the watchdog, in the thread

    def _run(self, quit_: threading.Event) -> None:
        franky = library()
        while not quit_.wait(_PERIOD):
            try:
                with self._lock:
                    self._read()
                    self._follow(franky)
            except errors(franky) as error:
                with self._lock:
                    self._motion, self._trouble = None, f"{error}"
                if not isinstance(error, franky.ControlException):
                    return  # the connection is lost

    def _read(self) -> None:
        state = self._robot.state
        device_time = float(state.time.to_sec())
        if device_time == self._device_time:
            return  # the same measurement once more: its stamp says how old it is
        self._device_time = device_time
        joints = np.array(state.q)
        self._recent.append((device_time, joints))
        flange = pose_of(state.O_T_EE) @ pose_of(state.F_T_EE).inverse()
        self._to_tool = pose_of(state.F_T_EE).inverse() @ self.tool
        self._state = RobotState(
            stamp=time.monotonic(),
            joints=joints,
            velocities=self._velocities(np.array(state.dq)),
            pose=flange @ self.tool,
            gripper=0.0,
            mode=mode_of(state.robot_mode),
            wrench=np.array(state.O_F_ext_hat_K),
        )

    def _velocities(self, measured: Array) -> Array:
        """Mean over the last _SPAN: an arm that rings by a hair's breadth is at rest."""
        now, joints = self._recent[-1]
        while len(self._recent) > 2 and self._recent[1][0] <= now - _SPAN:
            self._recent.popleft()
        then, before = self._recent[0]
        return (joints - before) / (now - then) if now - then >= _SPAN / 2 else measured

    def _follow(self, franky: Any) -> None:
        if self._motion is None:
            return
        now = time.monotonic()
        if not self._robot.is_in_control:
            self._motion = None
            self._robot.poll_motion()  # raises what ended it
            if self._homing:
                return  # to its end
            raise franky.ControlException("the controller ended the motion")
        state = self._state
        if state is None or now - state.stamp > self.settings.max_state_age:
            self._trouble = "measurements stopped coming while it moved"
            self._halt(franky)
        elif now - self._commanded > self.settings.command_timeout:
            if self._homing:
                self._trouble = f"nobody attended to homing for {self.settings.command_timeout} s"
            self._halt(franky)  # nobody commands any more
        elif self._line is not None:
            self._motion.set_reference(reference(franky, self._line, now, self._to_tool))

    def _halt(self, franky: Any) -> None:
        """End what is under way, coming to rest. Called with the lock held."""
        moving, self._motion, self._line = self._motion, None, None
        if moving is None or not self._robot.is_in_control:
            return
        self._robot.move(braking(franky, self._homing, self.settings.stop_within), asynchronous=True)

    # -- the contract

    def observe(self) -> RobotState:
        state, hand = self._state, self._hand
        if state is None or self._robot is None:
            raise self._error("not connected")
        age = time.monotonic() - state.stamp
        if not self.connected or age > self.settings.lost_after:
            raise self._error(
                f"the connection was lost {age:.2f} s ago ({self._trouble or 'no measurement'}); recover()"
            )
        opening = hand.read()[0] if hand is not None else 0.0
        mode = state.mode
        if mode is RobotMode.READY and self._trouble is not None:
            mode = RobotMode.FAULT
        return RobotState(state.stamp, state.joints, state.velocities, state.pose, opening, mode, state.wrench)

    def _at_rest(self) -> bool:
        state = self._state
        return state is not None and not self._in_control() and float(np.abs(state.velocities).max()) < _AT_REST

    def _in_control(self) -> bool:
        return self._robot is not None and bool(self._robot.is_in_control)

    def _require(self) -> RobotState:
        """A measurement on which it may be moved; else RobotError."""
        state, now = self.observe(), time.monotonic()
        if self._trouble is not None:
            raise self._error(f"{self._trouble}; it takes commands again after recover()")
        if state.mode is not RobotMode.READY:
            raise self._error(f"the controller reports {state.mode.value}; it takes commands again after recover()")
        if now - state.stamp > self.settings.max_state_age:
            raise self._error(f"the newest measurement is {now - state.stamp:.3f} s old")
        if self._motion is None and self._in_control():
            raise self._error("it is still stopping; it takes commands again at rest")
        if self._hold.refuses(now, self._at_rest()):
            raise self._error(self._hold.why)
        return state

    def command(self, target: Target, at: float) -> Sent:
        s, now = self.settings, time.monotonic()
        if not (np.isfinite(target.pose.matrix).all() and np.isfinite([target.gripper, at]).all()):
            raise self._error(f"a target that is not finite: {target.pose.matrix.tolist()}, {target.gripper}, at {at}")
        if not -s.command_timeout <= at - now <= 1.0:
            raise self._error(f"a target for {at - now:+.3f} s from now: expected -{s.command_timeout} to 1 s")
        franky = library()
        with self._lock:
            state = self._require()
            start = self._motion is None or self._line is None
            if self._line is None or start:
                before, allowed = state.pose, list(s.start_within)
            else:
                elapsed = max(now - self._commanded, 1 / s.command_hz)
                before, allowed = self._line[2], [speed * elapsed for speed in s.max_speed]
            metres, radians = before.distance(target.pose)
            if metres > allowed[0] or radians > allowed[1]:
                raise self._error(
                    f"a jump of {metres:.4f} m and {radians:.4f} rad, more than {allowed[0]:.4f} and {allowed[1]:.4f}; "
                    + ("start where the arm is" if start else "targets must be smooth")
                )
            if start:
                self._start(franky, following(franky, s, state.pose @ self._to_tool.inverse()), home=False)
                begin = state.pose
            else:
                assert self._line is not None
                b, t0, e, t1 = self._line
                begin = b.towards(e, min(1.0, (now - t0) / (t1 - t0)))
            self._line = begin, now, target.pose, max(at, now + 0.5 / s.command_hz)
            self._commanded = now
        opening = self._hand.move(target.gripper) if self._hand is not None else 0.0
        return Sent(Target(target.pose, opening), at, now)

    def _start(self, franky: Any, motion: Any, home: bool) -> None:
        """Called with the lock held."""
        # noted before it moves, so that it can be stopped whatever interrupts this
        self._motion, self._homing, self._commanded = motion, home, time.monotonic()
        try:
            self._robot.poll_motion()  # what ended before is told here, not taken for the new motion
            self._robot.move(motion, asynchronous=True)
        except errors(franky) as error:
            self._motion, self._trouble = None, str(error)
            raise self._error(f"{error}; it takes commands again after recover()") from error

    def stop(self) -> None:
        if self._robot is None:
            return
        franky = library()
        with self._lock:
            self._hold.begin(time.monotonic())
            try:
                self._halt(franky)
            except errors(franky) as error:  # nothing left that could be stopped; the controller stops by itself
                self._trouble = str(error)
        if self._hand is not None:
            self._hand.hold()

    def recover(self) -> None:
        if self._robot is None:
            raise self._error("not connected")
        franky = library()
        lost = not self.connected
        if not lost:
            try:
                with self._lock:
                    self._halt(franky)
                    self._clear(franky)
                    self._robot.recover_from_errors()
                    self._trouble = None
                    self._hold.end()
            except errors(franky) as error:
                if isinstance(error, franky.ControlException | franky.CommandException):
                    raise self._error(f"recovery refused: {error}") from error
                lost = True
        if lost or (self._hand is not None and self._hand.lost):
            self._shut()
            self._open()
            with self._lock:
                self._robot.recover_from_errors()
        self._wait_ready()

    def _clear(self, franky: Any) -> None:
        try:
            self._robot.join_motion(timeout=self.settings.stop_within)
        except franky.ControlException:  # the fault that is recovered from
            return

    def _wait_ready(self) -> None:
        end = time.monotonic() + self.settings.stop_within
        while (state := self.observe()).mode is not RobotMode.READY or not self._at_rest():
            if time.monotonic() > end:
                raise self._error(f"not ready after recovery: {state.mode.value}; look at the lights, release the stop")
            time.sleep(0.01)

    def move_joints(self, joints: Array, speed: float) -> None:
        goal = finite("joints", joints, (7,))
        low, high, fastest = self.settings.joint_limits
        if not ((goal >= low) & (goal <= high)).all() or not speed > 0:
            raise self._error(
                f"joints {goal.round(3).tolist()} at {speed} rad/s: outside the limits of {self.settings.model}"
            )
        franky = library()
        motion = homing(franky, goal, min(1.0, speed / float(fastest.max())), self.settings.homing_acceleration)
        with self._lock:
            self._require()
        arrived = False
        try:
            with self._lock:
                self._attend()
                self._start(franky, motion, home=True)
            self._arrive(goal)
            arrived = True
        finally:
            if not arrived:  # Ctrl-C and what a signal raises included: it must not go on alone
                self.stop()

    def _attend(self) -> None:
        """Somebody still wants it to go home. RobotError if that was ended. Called with the lock held."""
        if self._trouble is not None:
            raise self._error(f"{self._trouble}; it takes commands again after recover()")
        if self._hold.on:
            raise self._error("stopped on its way")
        self._commanded = time.monotonic()

    def _arrive(self, goal: Array) -> None:
        moving, end = True, 0.0
        while moving or not self._at_rest() or float(np.abs(self.observe().joints - goal).max()) > 0.02:
            with self._lock:
                self._attend()
                if moving and self._motion is None:
                    moving, end = False, time.monotonic() + self.settings.stop_within
            if not moving and time.monotonic() > end:
                off = float(np.abs(self.observe().joints - goal).max())
                raise self._error(f"homing ended {off:.3f} rad away from its goal; is something in the way?")
            time.sleep(0.01)
