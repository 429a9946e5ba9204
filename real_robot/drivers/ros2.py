"""`Ros2Robot`: an arm behind ros2_control, by trajectories of its joints; rclpy is imported when it connects.

Each target becomes the joints that reach it (inverse kinematics from where the arm was last sent), published as a
trajectory of one point for the time it is due. A joint_trajectory_controller runs a trajectory to its end and holds
there, so that an arm whose commands stop coming comes to rest by itself; this driver also says so, after
`command_timeout`. Homing is such a stream, too, never further ahead than that. What ROS does not tell: protective stops
and the like are seen only as joints that do not move.
"""

from __future__ import annotations

import importlib
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from real_robot.contract import Robot, RobotError, RobotFeatures
from real_robot.drivers.ros2_settings import Ros2Settings
from real_robot.hold import Hold
from real_robot.kinematics import Arm, KinematicsError, load_arm
from real_robot.poses import Pose
from real_robot.types import Array, RobotMode, RobotState, Sent, Target, finite

__all__ = ["Ros2Robot", "Ros2Settings"]

_AT_REST = 0.02
"""rad/s"""
_ARRIVES_WITHIN = 3.0
"""Seconds after the end of the way home until which the arm must be there."""


class Ros2Robot(Robot):
    """`Ros2Robot(Ros2Settings("ur5e", joints=[...]))`."""

    def __init__(self, settings: Ros2Settings) -> None:
        self.settings = s = settings
        self._arm = load_arm(s.arm, self.tool, self.maker_base)
        self._features = RobotFeatures(
            name=s.name, arm=s.arm, joint_low=self._arm.joint_low, joint_high=self._arm.joint_high,
            joint_velocity=self._arm.joint_velocity, gripper=(0.0, s.gripper_stroke if s.gripper_topic else 0.0),
            command_hz=s.command_hz, base_yaw=s.base_yaw,
            base_position=(s.base_position[0], s.base_position[1], s.base_position[2]),
        )  # fmt: skip
        self._lock = threading.RLock()
        self._ros: SimpleNamespace | None = None
        self._state: RobotState | None = None
        self._last: tuple[Pose, Array, float] | None = None
        """Pose and joints sent last, and when."""
        self._hold = Hold(s.command_timeout)
        self._quit = threading.Event()

    @property
    def maker_base(self) -> Pose:
        """The maker's base frame seen from the base frame of the poses."""
        return Pose.from_rotvec([0, 0, 0], [0, 0, self.settings.base_turn])

    @property
    def tool(self) -> Pose:
        """Seen from the flange."""
        return Pose.from_rotvec(self.settings.tool[:3], self.settings.tool[3:])

    @property
    def arm(self) -> Arm:
        """Kinematics up to the tool, in the base frame of the poses."""
        return self._arm

    @property
    def features(self) -> RobotFeatures:
        return self._features

    @property
    def connected(self) -> bool:
        return self._ros is not None

    def _error(self, what: str) -> RobotError:
        return RobotError(f"{self.settings.name}: {what}")

    # -- connection

    def connect(self) -> None:
        if self._ros is not None:
            raise self._error("connected already")
        ros, s = _library(), self.settings
        context = ros.rclpy.Context()
        ros.rclpy.init(context=context)
        node = ros.rclpy.create_node("equidiff", context=context)
        executor = ros.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        self._quit = threading.Event()
        self._ros = SimpleNamespace(
            **vars(ros),
            context=context,
            node=node,
            executor=executor,
            trajectories=node.create_publisher(ros.JointTrajectory, s.trajectory_topic, 1),
            gripper=node.create_publisher(ros.Float64MultiArray, s.gripper_topic, 1) if s.gripper_topic else None,
            # the newest only: joint states are sent best effort by some drivers
            states=node.create_subscription(ros.JointState, s.state_topic, self._hear, ros.qos_profile_sensor_data),
        )
        thread = threading.Thread(target=self._run, args=(executor, self._quit), name="ros2", daemon=True)
        self._ros.thread = thread
        thread.start()
        end = time.monotonic() + s.lost_after
        while self._state is None or self._ros.trajectories.get_subscription_count() == 0:
            if time.monotonic() > end:
                what = f"no {s.state_topic} with {', '.join(s.joints)}" if self._state is None else (
                    f"nobody listens to {s.trajectory_topic}"
                )  # fmt: skip
                self.disconnect()
                raise self._error(
                    f"{what} within {s.lost_after} s; is the controller active, is ROS_DOMAIN_ID its own?"
                )
            time.sleep(0.01)
        self._last = None
        self._hold.end()

    def _run(self, executor: Any, quit_: threading.Event) -> None:
        while not quit_.is_set():
            executor.spin_once(timeout_sec=0.01)
            with self._lock:
                last = self._last
                if last is not None and time.monotonic() - last[2] > self.settings.command_timeout:
                    self._halt()  # nobody commands any more

    def disconnect(self) -> None:
        ros = self._ros
        if ros is None:
            return
        self.stop()
        self._quit.set()
        ros.thread.join(2.0)
        ros.executor.shutdown(timeout_sec=1.0)
        ros.node.destroy_node()
        ros.rclpy.shutdown(context=ros.context)
        self._ros = self._state = self._last = None

    # -- measurements

    def _hear(self, message: Any) -> None:
        at = {name: i for i, name in enumerate(message.name)}
        if any(name not in at for name in self.settings.joints):
            return  # of another device, a gripper for instance
        order = [at[name] for name in self.settings.joints]
        joints = np.array(message.position)[order]
        speeds = np.array(message.velocity)[order] if len(message.velocity) else self._difference(joints)
        if not (np.isfinite(joints).all() and np.isfinite(speeds).all()):
            return  # not a measurement; the old one grows stale
        opening = 0.0
        if self.settings.gripper_joint in at:
            opening = float(message.position[at[self.settings.gripper_joint]]) * self.settings.gripper_scale
        now = time.monotonic()
        # the header's stamp is of another clock, often of another computer
        self._state = RobotState(now, joints, speeds, self._arm.pose(joints), opening)

    def _difference(self, joints: Array) -> Array:
        before, now = self._state, time.monotonic()
        if before is None or now - before.stamp < 1e-4:
            return np.zeros(len(joints))
        out: Array = (joints - before.joints) / (now - before.stamp)
        return out

    def observe(self) -> RobotState:
        state = self._state
        if self._ros is None or state is None:
            raise self._error("not connected")
        age = time.monotonic() - state.stamp
        if age > self.settings.lost_after:
            raise self._error(f"no {self.settings.state_topic} for {age:.2f} s; is its driver still running?")
        return state

    # -- motion

    def _require(self) -> RobotState:
        state, now = self.observe(), time.monotonic()
        if now - state.stamp > self.settings.max_state_age:
            self._halt()
            raise self._error(f"the newest measurement is {now - state.stamp:.3f} s old")
        if self._hold.refuses(now, at_rest=bool(np.abs(state.velocities).max() <= _AT_REST)):
            raise self._error(self._hold.why)
        return state

    def command(self, target: Target, at: float) -> Sent:
        s, now = self.settings, time.monotonic()
        if not (np.isfinite(target.pose.matrix).all() and np.isfinite([target.gripper, at]).all()):
            raise self._error(f"a target that is not finite: {target.pose.matrix.tolist()}, {target.gripper}, at {at}")
        if not -s.command_timeout <= at - now <= 1.0:
            raise self._error(f"a target for {at - now:+.3f} s from now: expected -{s.command_timeout} to 1 s")
        with self._lock:
            state = self._require()
            if self._last is None:
                before, near, allowed, when = state.pose, state.joints, list(s.start_within), "start where the arm is"
            else:
                before, near, sent = self._last
                elapsed = max(now - sent, 1 / s.command_hz)
                allowed, when = [speed * elapsed for speed in s.max_speed], "targets must be smooth"
            metres, radians = before.distance(target.pose)
            if metres > allowed[0] or radians > allowed[1]:
                raise self._error(
                    f"a jump of {metres:.4f} m and {radians:.4f} rad, more than {allowed[0]:.4f} and {allowed[1]:.4f}; "
                    + when
                )
            try:
                joints = self._arm.inverse(target.pose, near)
            except KinematicsError as error:
                raise self._error(str(error)) from error
            due = max(at - now, 0.5 / s.command_hz)
            # at a singularity a small way of the tool is a long one of the joints
            reach = self._arm.joint_velocity * (due + 1 / s.command_hz) if self._last else np.full(len(near), 0.3)
            if (np.abs(joints - near) > reach).any():
                worst = int(np.argmax(np.abs(joints - near) / reach))
                raise self._error(
                    f"joint {s.joints[worst]} would go {abs(joints - near)[worst]:.3f} rad in {due:.3f} s, faster than "
                    "it can; keep away from stretched poses"
                )
            self._publish(joints, due)
            self._last = target.pose, joints, now
        opening = min(max(target.gripper, 0.0), s.gripper_stroke)
        self._grip(opening)
        return Sent(Target(target.pose, opening if s.gripper_topic else 0.0), at, now)

    def _publish(self, joints: Array, seconds: float) -> None:
        ros = self._ros
        assert ros is not None
        point = ros.JointTrajectoryPoint()
        point.positions = [float(q) for q in joints]
        point.time_from_start.sec = int(seconds)
        point.time_from_start.nanosec = int(seconds % 1 * 1e9)
        message = ros.JointTrajectory()  # stamp 0: from now on, by the controller's clock
        message.joint_names, message.points = list(self.settings.joints), [point]
        ros.trajectories.publish(message)

    def _grip(self, opening: float) -> None:
        ros = self._ros
        if ros is not None and ros.gripper is not None:
            ros.gripper.publish(ros.Float64MultiArray(data=[opening / self.settings.gripper_scale]))

    def _halt(self) -> None:
        """To rest where the arm is: a trajectory that ends there. Called with the lock held."""
        moving, self._last = self._last, None
        state = self._state
        if moving is None or state is None or self._ros is None:
            return
        # where it is by now, and gets to while it slows down evenly; not back to where it was measured
        seconds = time.monotonic() - state.stamp + self.settings.stop_time / 2
        ahead = state.joints + state.velocities * seconds
        self._publish(np.clip(ahead, self._arm.joint_low, self._arm.joint_high), self.settings.stop_time)

    def stop(self) -> None:
        with self._lock:
            self._hold.begin(time.monotonic())
            self._halt()

    def recover(self) -> None:
        """ROS has no message for it: clear the stop at the arm or by its own driver, then this takes commands again."""
        with self._lock:
            state = self.observe()
            if state.mode is not RobotMode.READY or time.monotonic() - state.stamp > self.settings.max_state_age:
                raise self._error("no fresh joint states; bring the arm's driver back first")
            self._last = None
            self._hold.end()

    def move_joints(self, joints: Array, speed: float) -> None:
        goal = finite("joints", joints, (len(self.settings.joints),))
        if not ((goal >= self._arm.joint_low) & (goal <= self._arm.joint_high)).all() or not speed > 0:
            raise self._error(
                f"joints {goal.round(3).tolist()} at {speed} rad/s: outside the limits of {self.settings.arm}"
            )
        with self._lock:
            start = self._require().joints
        arrived = False
        try:
            self._go(start, goal, speed)
            arrived = True
        finally:
            if not arrived:  # Ctrl-C and what a signal raises included: it must not go on alone
                self.stop()

    def _go(self, start: Array, goal: Array, speed: float) -> None:
        """Along a line of the joints, evenly faster and slower, in pieces that end `command_timeout` from now: so far
        the arm goes on when this process dies. Returns at the goal."""
        s = self.settings
        period = min(1 / s.command_hz, s.command_timeout / 4)
        duration = 1.5 * float(np.abs(goal - start).max()) / speed + 0.5  # 1.5: the greatest slope of `share`
        passed, sent = 0.0, time.monotonic()
        while True:
            with self._lock:
                now = time.monotonic()
                if self._hold.on:
                    raise self._error("stopped on its way")
                if now - sent > s.command_timeout:
                    raise self._error(
                        f"nobody attended to homing for {s.command_timeout} s; is this computer too busy?"
                    )
                state = self._require()
                passed, sent = passed + min(now - sent, 1.5 * period), now  # who is late does not hurry then
                u = min(1.0, (passed + s.command_timeout) / duration)
                share = u * u * (3 - 2 * u)
                joints = start + share * (goal - start)
                self._publish(joints, s.command_timeout)
                self._last = self._arm.pose(joints), joints, now
                off = float(np.abs(state.joints - goal).max())
                if passed > duration and off < 0.02 and np.abs(state.velocities).max() < _AT_REST:
                    self._last = None
                    return
            if passed > duration + _ARRIVES_WITHIN:
                raise self._error(f"homing ended {off:.3f} rad away from its goal; is the controller active?")
            time.sleep(period)


def _library() -> SimpleNamespace:
    names = {
        "rclpy": "rclpy",
        "executors": "rclpy.executors",
        "qos": "rclpy.qos",
        "trajectory": "trajectory_msgs.msg",
        "sensor": "sensor_msgs.msg",
        "standard": "std_msgs.msg",
    }
    try:
        found = {key: importlib.import_module(name) for key, name in names.items()}
    except ImportError as error:
        raise RobotError(
            f"the ROS 2 driver needs rclpy and its messages ({error}): source a ROS 2 installation, or pip install "
            "ros-rclpy ros-rmw-fastrtps-cpp ros-trajectory-msgs ros-sensor-msgs ros-std-msgs"
        ) from error
    return SimpleNamespace(
        rclpy=found["rclpy"],
        executors=found["executors"],
        qos_profile_sensor_data=found["qos"].qos_profile_sensor_data,
        JointTrajectory=found["trajectory"].JointTrajectory,
        JointTrajectoryPoint=found["trajectory"].JointTrajectoryPoint,
        JointState=found["sensor"].JointState,
        Float64MultiArray=found["standard"].Float64MultiArray,
    )
