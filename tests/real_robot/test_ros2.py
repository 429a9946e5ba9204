"""The ROS 2 driver and a trajectory controller that follows what it publishes: over a made-up bus in this process, and
over ROS 2 where rclpy is installed."""

import _thread
import importlib.util
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from real_robot.check import check_robot
from real_robot.contract import RobotError
from real_robot.drivers import ros2
from real_robot.drivers.ros2 import Ros2Robot, Ros2Settings
from real_robot.poses import Pose
from real_robot.types import Target

pytestmark = pytest.mark.realtime

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
HOME = np.array([0.0, -1.5, 1.6, -1.6, -1.57, 0.3])


class Bus:
    """As much of rclpy as the driver uses: what is published waits until the subscriber's node spins."""

    def __init__(self) -> None:
        self.subscribers: dict[str, list[tuple[Any, Callable[[Any], None]]]] = {}

    def library(self) -> SimpleNamespace:
        bus = self

        class Executor:
            def __init__(self, context: Any) -> None:
                self.nodes: list[Any] = []

            def add_node(self, node: Any) -> None:
                self.nodes.append(node)

            def spin_once(self, timeout_sec: float) -> None:
                for node in self.nodes:
                    while node.waiting:
                        callback, message = node.waiting.popleft()
                        callback(message)
                time.sleep(min(timeout_sec, 0.002))

            def shutdown(self, timeout_sec: float) -> None:
                self.nodes = []

        def create_node(name: str, context: Any) -> Any:
            node = SimpleNamespace(waiting=deque(), destroy_node=lambda: bus.forget(node))

            def create_publisher(kind: Any, topic: str, depth: int) -> Any:
                return SimpleNamespace(
                    publish=lambda message: bus.publish(topic, message),
                    get_subscription_count=lambda: len(bus.subscribers.get(topic, [])),
                )

            def create_subscription(kind: Any, topic: str, callback: Any, qos: Any) -> None:
                bus.subscribers.setdefault(topic, []).append((node, callback))

            node.create_publisher, node.create_subscription = create_publisher, create_subscription
            return node

        def point() -> Any:
            return SimpleNamespace(positions=[], time_from_start=SimpleNamespace(sec=0, nanosec=0))

        return SimpleNamespace(
            rclpy=SimpleNamespace(
                Context=object, init=lambda context: None, shutdown=lambda context: None, create_node=create_node
            ),
            executors=SimpleNamespace(SingleThreadedExecutor=Executor),
            qos_profile_sensor_data=None,
            JointTrajectory=lambda: SimpleNamespace(joint_names=[], points=[]),
            JointTrajectoryPoint=point,
            JointState=lambda: SimpleNamespace(name=[], position=[], velocity=[]),
            Float64MultiArray=lambda data: SimpleNamespace(data=data),
        )

    def publish(self, topic: str, message: Any) -> None:
        for node, callback in self.subscribers.get(topic, []):
            node.waiting.append((callback, message))

    def forget(self, node: Any) -> None:
        for topic, all_ in self.subscribers.items():
            self.subscribers[topic] = [pair for pair in all_ if pair[0] is not node]


class Controller:
    """A joint_trajectory_controller and its arm: goes on a line to each trajectory's point, holds there."""

    def __init__(self, ros: SimpleNamespace) -> None:
        self.ros = ros
        self.context = ros.rclpy.Context()
        ros.rclpy.init(context=self.context)
        self.node = ros.rclpy.create_node("controller", context=self.context)
        self.executor = ros.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.states = self.node.create_publisher(ros.JointState, "/joint_states", 10)
        self.heard = [
            self.node.create_subscription(
                ros.JointTrajectory, "/joint_trajectory_controller/joint_trajectory", self.hear, 10
            ),
            self.node.create_subscription(ros.Float64MultiArray, "/gripper", self.grip, 10),
        ]
        self.joints, self.opening = HOME.copy(), 0.02
        self.line: tuple[np.ndarray, float, np.ndarray, float] | None = None
        self.received: list[np.ndarray] = []
        self.ahead: list[float] = []
        """Seconds in which each trajectory is to end: what the arm does with nobody there any more."""
        self.way: list[tuple[float, np.ndarray]] = []
        self.silent = self.broken = self.deaf = False
        self.quit = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def hear(self, message: Any) -> None:
        point = message.points[0]
        goal = np.array([point.positions[list(message.joint_names).index(name)] for name in JOINTS])
        seconds = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
        now = time.monotonic()
        if not self.deaf:
            self.line = self.joints.copy(), now, goal, now + seconds
        self.received.append(goal)
        self.ahead.append(seconds)

    def grip(self, message: Any) -> None:
        self.opening = message.data[0]

    def run(self) -> None:
        order = [3, 0, 5, 1, 2, 4]  # joint states come in any order, with others among them
        while not self.quit.is_set():
            self.executor.spin_once(timeout_sec=0.005)
            speed = np.zeros(6)
            if self.line is not None and not self.silent:
                begin, t0, goal, t1 = self.line
                share = min(1.0, (time.monotonic() - t0) / (t1 - t0))
                self.joints = begin + share * (goal - begin)
                speed = (goal - begin) / (t1 - t0) if share < 1 else speed
                self.way.append((time.monotonic(), self.joints))
            if not self.silent:
                message = self.ros.JointState()
                message.name = [*(JOINTS[i] for i in order), "finger"]
                values = self.joints * (np.nan if self.broken else 1.0)
                message.position = [*(float(values[i]) for i in order), self.opening]
                message.velocity = [*(float(speed[i]) for i in order), 0.0]
                self.states.publish(message)

    def close(self) -> None:
        self.quit.set()
        self.thread.join()
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self.ros.rclpy.shutdown(context=self.context)


@pytest.fixture(params=["bus", "ros"])
def controller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    if request.param == "bus":
        made = Bus().library()
        monkeypatch.setattr(ros2, "_library", lambda: made)
    elif importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed (a ROS 2 installation, or the packages ros-rclpy ... by pip)")
    controller = Controller(ros2._library())
    yield controller
    controller.close()


def settings(**changes: Any) -> Ros2Settings:
    defaults = {
        "joints": JOINTS, "gripper_topic": "/gripper", "gripper_joint": "finger", "lost_after": 3.0,
        "command_timeout": 0.5, "max_state_age": 0.5, "tool": (0, 0, 0.1, 0, 0, 0.5), "base_turn": np.pi,
    }  # fmt: skip
    return Ros2Settings("ur5e", **{**defaults, **changes})


@pytest.fixture
def robot(controller: Controller) -> Iterator[Ros2Robot]:
    made = Ros2Robot(settings())
    made.connect()
    yield made
    made.disconnect()


def command(robot: Ros2Robot, away: float = 0.0, ahead: float = 0.05) -> Target:
    pose = robot.observe().pose
    target = Target(Pose(pose.position + [0, 0, away], pose.rotation), 0.05)
    robot.command(target, time.monotonic() + ahead)
    return target


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_states_come_by_name_and_targets_go_out_as_joints(controller: Controller, robot: Ros2Robot) -> None:
    state = robot.observe()
    assert np.abs(state.joints - HOME).max() < 1e-9
    assert state.pose.distance(robot.arm.pose(HOME)) == pytest.approx((0, 0), abs=1e-7)
    until(lambda: robot.observe().gripper == pytest.approx(0.02))
    target = command(robot, 0.01, 0.2)
    until(lambda: robot.observe().pose.distance(target.pose)[0] < 1e-4)
    until(lambda: robot.observe().gripper == pytest.approx(0.05))
    assert robot.arm.pose(controller.received[-1]).distance(target.pose)[0] < 1e-5
    with pytest.raises(RobotError, match="connected already"):
        robot.connect()


def test_a_stream_is_followed_and_a_stop_holds(controller: Controller, robot: Ros2Robot) -> None:
    start, begin = robot.observe().pose, time.monotonic()
    while (t := time.monotonic() - begin) < 1.0:
        goal = Pose(start.position + [0, 0, 0.05 * (t + 0.05)], start.rotation)
        robot.command(Target(goal, 0.05), begin + t + 0.05)
        time.sleep(0.02)
    assert robot.observe().pose.position[2] - start.position[2] > 0.03
    robot.stop()
    robot.stop()
    until(lambda: np.abs(robot.observe().velocities).max() < 0.02)
    held = robot.observe().pose
    for _ in range(10):
        with pytest.raises(RobotError, match=r"stopped; it takes commands again after 0\.5 s of silence"):
            command(robot)
        time.sleep(0.02)
    assert robot.observe().pose.distance(held)[0] < 1e-3
    time.sleep(0.6)
    command(robot)


def test_it_stops_without_commands_and_starts_only_where_it_is(controller: Controller, robot: Ros2Robot) -> None:
    command(robot)
    sent = len(controller.received)
    until(lambda: len(controller.received) == sent + 1 or robot._last is None)
    until(lambda: robot._last is None)
    with pytest.raises(RobotError, match=r"a jump of 0\.0500 m .*start where the arm is"):
        command(robot, 0.05)
    command(robot, 0.001)
    with pytest.raises(RobotError, match="targets must be smooth"):
        command(robot, 0.7)


def test_silence_of_the_arm_is_an_error(controller: Controller, robot: Ros2Robot) -> None:
    command(robot)
    controller.broken = True  # not a number is not a measurement
    until(lambda: time.monotonic() - robot._state.stamp > 0.6)  # type: ignore[union-attr]
    with pytest.raises(RobotError, match="the newest measurement is"):
        command(robot)
    with pytest.raises(RobotError, match="no fresh joint states"):
        robot.recover()
    until(lambda: time.monotonic() - robot._state.stamp > 3.1)  # type: ignore[union-attr]
    with pytest.raises(RobotError, match="no /joint_states for"):
        robot.observe()
    controller.broken = False
    until(lambda: time.monotonic() - robot._state.stamp < 0.3)  # type: ignore[union-attr]
    robot.recover()
    command(robot)


def test_bad_targets_are_refused(robot: Ros2Robot) -> None:
    here = robot.observe().pose
    for gripper, at, said in ((np.nan, 0.0, "not finite"), (0.0, 5.0, "from now: expected")):
        with pytest.raises(RobotError, match=said):
            robot.command(Target(here, gripper), time.monotonic() + at)
    with pytest.raises(RobotError, match="outside the limits of ur5e"):
        robot.move_joints(np.full(6, 9.0), 0.5)


def test_the_driver_keeps_the_contract(controller: Controller) -> None:
    report = check_robot(Ros2Robot(settings(command_timeout=0.15)), confirm=lambda question: True)
    assert report.passed, str(report)


def at_rest(controller: Controller) -> None:
    """Somewhere on its way to HOME, and not there."""
    until(lambda: controller.line is not None and np.abs(controller.joints - controller.line[2]).max() < 1e-9)
    held = controller.joints
    time.sleep(0.3)
    assert np.abs(controller.joints - held).max() < 1e-9
    assert np.abs(controller.joints - HOME).max() > 0.1


def test_homing_arrives_in_pieces_no_longer_than_the_command_timeout(controller: Controller, robot: Ros2Robot) -> None:
    goal = HOME + 0.3
    robot.move_joints(goal, 0.5)
    assert np.abs(robot.observe().joints - goal).max() < 0.02
    # if this computer dies, the arm goes no further than that
    assert max(controller.ahead) <= 0.5 + 1e-6
    at, joints = np.array([t for t, _ in controller.way]), np.array([q for _, q in controller.way])
    # over tenths of a second, since both sides are late now and then
    early = np.searchsorted(at, at + 0.2) - 1
    speeds = np.abs(joints[early] - joints).max(axis=1) / np.maximum(at[early] - at, 0.1)
    assert speeds.max() < 0.5 * 1.1
    command(robot)  # and takes commands at once


def test_stop_while_homing_is_sent_at_once(controller: Controller, robot: Ros2Robot) -> None:
    robot.move_joints(HOME + 0.3, 1.0)
    sent: list[int] = []

    def stop() -> None:
        robot.stop()
        sent.append(len(controller.received))

    stopper = threading.Timer(0.8, stop)
    stopper.start()
    with pytest.raises(RobotError, match="stopped on its way"):
        robot.move_joints(HOME, 0.2)
    stopper.join()
    with pytest.raises(RobotError, match="silence"):
        robot.move_joints(HOME, 0.2)
    at_rest(controller)
    assert len(controller.received) - sent[0] <= 2, "the stop, and what was under way"


def test_homing_that_is_interrupted_stops_the_arm(controller: Controller, robot: Ros2Robot) -> None:
    """Ctrl-C, or a signal that the program turns into an exception."""
    robot.move_joints(HOME + 0.3, 1.0)
    threading.Timer(0.8, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        robot.move_joints(HOME, 0.2)
    at_rest(controller)


def test_homing_without_joint_states_stops_the_arm(controller: Controller, robot: Ros2Robot) -> None:
    robot.move_joints(HOME + 0.3, 1.0)
    threading.Timer(0.8, setattr, (controller, "broken", True)).start()
    begin, before = time.monotonic(), len(controller.way)
    with pytest.raises(RobotError, match=r"the newest measurement is 0\.\d+ s old"):
        robot.move_joints(HOME, 0.1)
    assert time.monotonic() - begin < 2.5
    controller.broken = False
    at_rest(controller)
    assert np.diff([q[0] for _, q in controller.way[before:]]).max() < 1e-9, "back to where it was measured last"


def test_homing_that_does_not_arrive_stops_the_arm(
    controller: Controller, robot: Ros2Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ros2, "_ARRIVES_WITHIN", 0.3)
    controller.deaf = True
    with pytest.raises(RobotError, match=r"homing ended 0\.300 rad away from its goal; is the controller active"):
        robot.move_joints(HOME + 0.3, 2.0)
    until(lambda: np.abs(controller.received[-1] - HOME).max() < 1e-6)  # where it is


def test_homing_that_nobody_attends_to_stops_and_does_not_catch_up(
    controller: Controller, robot: Ros2Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a program that was frozen for a while: the way goes on where the clock went on, the arm must not."""
    robot.move_joints(HOME + 0.3, 1.0)
    slept: list[float] = []

    def sleep(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        slept.append(seconds)
        sleep(1.5 if len(slept) == 40 else seconds)

    monkeypatch.setattr(ros2, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with pytest.raises(RobotError, match=r"nobody attended to homing for 0\.5 s"):
        robot.move_joints(HOME, 0.2)
    at_rest(controller)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus().library()
    monkeypatch.setattr(ros2, "_library", lambda: bus)
    robot = Ros2Robot(settings(lost_after=0.2))
    with pytest.raises(RobotError, match=r"no /joint_states with shoulder_pan, .* within 0\.2 s; is the controller"):
        robot.connect()
    assert not robot.connected
    with pytest.raises(RobotError, match="not connected"):
        robot.observe()
    robot.stop()


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(RobotError, match=r"the ROS 2 driver needs rclpy .* ros-rclpy"):
        Ros2Robot(settings()).connect()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"joints": JOINTS[:5]}, "ur5e has 6 joints of different names"),
        ({"joints": ("a",) * 6}, "ur5e has 6 joints of different names"),
        ({"stop_time": 0.0}, "robot.stop_time: expected 0.05 to 2"),
        ({"tool": (0, 0)}, "robot.tool: expected"),
        ({"gripper_scale": 0.0}, "gripper_scale: expected finite numbers, the last not 0"),
    ],
)
def test_settings(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**change)


def test_an_unknown_arm() -> None:
    with pytest.raises(ValueError, match=r"robot\.arm: expected one of ur5e"):
        Ros2Settings("ur6", JOINTS)
