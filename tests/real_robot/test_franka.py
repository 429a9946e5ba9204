"""The Franka driver's faults, on a made-up franky whose arm is at once where it is told to be.

What it does with a real protocol is tested by test_franka_sim.py.
"""

import _thread
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from real_robot.check import check_robot
from real_robot.contract import RobotError
from real_robot.drivers import franka
from real_robot.drivers.franka import FrankaRobot
from real_robot.drivers.franka_settings import FrankaGripperSettings, FrankaSettings
from real_robot.poses import Pose
from real_robot.types import RobotMode, Target

pytestmark = pytest.mark.realtime

START = Pose.from_rotvec([0.5, 0.0, 0.5], [np.pi, 0, 0])


class FrankyError(Exception):
    pass


class NetworkException(FrankyError):
    pass


class ControlException(FrankyError):
    pass


class CommandException(FrankyError):
    pass


class Affine:
    def __init__(self, translation: Any, quaternion: Any) -> None:
        self.translation, self.quaternion = np.array(translation), np.array(quaternion)


class FakeArm:
    """All of franky that the driver uses, as one object that is its own Robot."""

    def __init__(self) -> None:
        self.mode, self.alive, self.frozen = "Idle", True, False
        self.motion: Any = None
        self.moves: list[str] = []
        """Kinds of the motions that it was told, in their order."""
        self.homing_takes, self.home = 0.0, (np.zeros(7), 0.0)
        self.stopping, self.refuse_recovery = False, False
        self.pending: Exception | None = None
        self.place = Affine(START.position, START.quat)
        self.joints = np.array([0.0, 0.0, 0.0, -1.57, 0.0, 1.57, 0.785])
        self.width, self.hand_alive, self.hand_calls = 0.04, True, []
        self.references: list[Any] = []
        self._time = 0

    # franky.Robot
    @property
    def state(self) -> Any:
        if not self.alive:
            raise RuntimeError("Net Exception")
        self._go_home()
        if not self.frozen:
            self._time += 1
        if self.motion is not None and self.references:
            self.place = self.references[-1].target
        identity = Affine([0, 0, 0], [0, 0, 0, 1])
        stamp = self._time / 1000
        return types.SimpleNamespace(
            time=types.SimpleNamespace(to_sec=lambda: stamp),
            O_T_EE=self.place,
            F_T_EE=identity,
            q=self.joints.tolist(),
            dq=[0.0] * 7,
            O_F_ext_hat_K=[1.0, 2, 3, 4, 5, 6],
            robot_mode=types.SimpleNamespace(name=self.mode),
        )

    @property
    def is_in_control(self) -> bool:
        self._go_home()
        return self.motion is not None

    def _go_home(self) -> None:
        motion, now = self.motion, time.monotonic()
        if motion is None or motion.kind != "joints":
            return
        start, began = self.home
        share = min(1.0, (now - began) / self.homing_takes) if self.homing_takes else 1.0
        self.joints = start + share * (np.array(motion.goal) - start)
        if share == 1.0:
            self.motion = None

    def set_collision_behavior(self, torque: float, force: float) -> None:
        self.thresholds = torque, force

    def move(self, motion: Any, asynchronous: bool) -> None:
        assert asynchronous
        kind = motion.kind
        self._go_home()
        self.moves.append(kind)
        if kind in ("stop", "joint_stop"):
            # the type of control signal must not change while the robot is in motion
            assert self.motion is None or (self.motion.kind == "joints") == (kind == "joint_stop")
            self.motion = None
        elif kind == "joints":
            self.motion, self.home = motion, (self.joints.copy(), time.monotonic())
        else:
            self.motion, self.references = motion, [motion.reference]

    def poll_motion(self) -> bool:
        error, self.pending = self.pending, None
        if error is not None:
            raise error
        return self.motion is not None

    def join_motion(self, timeout: float) -> bool:
        return not self.poll_motion()

    def recover_from_errors(self) -> bool:
        if self.refuse_recovery:
            raise CommandException("the user stop is pressed")
        self.mode = "Idle"
        return True

    # franky.Gripper
    def hand_state(self) -> Any:
        if not self.hand_alive:
            raise NetworkException("UDP receive: Timeout")
        return types.SimpleNamespace(width=self.width)

    # faults
    def reflex(self, text: str = "cartesian_reflex") -> None:
        self.motion, self.mode, self.pending = None, "Reflex", ControlException(text)

    def module(self) -> Any:
        arm = self

        def motion(**settings: Any) -> Any:
            made = types.SimpleNamespace(kind="follow", reference=None, settings=settings)

            def set_reference(reference: Any) -> None:
                made.reference = reference
                arm.references.append(reference)

            made.set_reference = set_reference
            return made

        class Hand:
            def __init__(self, address: str) -> None:
                pass

            @property
            def state(self) -> Any:
                return arm.hand_state()

            def homing(self) -> bool:
                arm.hand_calls.append("homing")
                return True

            def stop(self) -> bool:
                arm.hand_calls.append("stop")
                return True

            def _start(self, kind: str, width: float) -> Any:
                arm.hand_calls.append((kind, round(width, 4)))
                arm.width = width
                return types.SimpleNamespace(wait=lambda timeout: True, get=lambda: True)

            def move_async(self, width: float, speed: float) -> Any:
                return self._start("move", width)

            def grasp_async(self, width: float, *rest: float) -> Any:
                return self._start("grasp", width)

        def connect(address: str, realtime_config: str) -> FakeArm:
            if not arm.alive:
                raise NetworkException("Connection to FCI refused")
            arm.realtime = realtime_config
            return arm

        made: Any = types.ModuleType("franky")
        made.Robot, made.Gripper, made.Affine = connect, Hand, Affine
        made.RealtimeConfig = types.SimpleNamespace(Enforce="enforce", Ignore="ignore")
        made.Exception, made.ControlException, made.CommandException = FrankyError, ControlException, CommandException
        made.CartesianImpedanceTrackingMotion = motion
        made.CartesianReference = lambda **values: types.SimpleNamespace(**{"target_twist": None, **values})
        made.Twist = lambda linear, angular: (np.array(linear), np.array(angular))
        made.TorqueStopMotion = lambda **settings: types.SimpleNamespace(kind="stop")
        made.JointStopMotion = lambda: types.SimpleNamespace(kind="joint_stop")
        made.JointMotion = lambda goal, **settings: types.SimpleNamespace(kind="joints", goal=goal)
        made.RelativeDynamicsFactor = lambda *values: values
        return made


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> FakeArm:
    made = FakeArm()
    monkeypatch.setitem(sys.modules, "franky", made.module())
    return made


def settings(**changes: Any) -> FrankaSettings:
    # generous times, for busy machines
    return FrankaSettings("10.0.0.1", **{"max_state_age": 0.5, "command_timeout": 0.5, "lost_after": 2.0, **changes})


@pytest.fixture
def robot(arm: FakeArm) -> Iterator[FrankaRobot]:
    made = FrankaRobot(settings())
    made.connect()
    yield made
    made.disconnect()


def command(robot: FrankaRobot, pose: Pose | None = None, gripper: float = 0.04) -> None:
    robot.command(Target(robot.observe().pose if pose is None else pose, gripper), time.monotonic() + 0.05)


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_features_before_the_state_after_connecting(arm: FakeArm) -> None:
    robot = FrankaRobot(settings(base_yaw=0.3))
    assert (robot.features.name, robot.features.arm, robot.features.base_yaw) == ("franka", "panda", 0.3)
    assert robot.features.joint_low[5] == 0.5445, "an FR3, not a Panda"
    assert not robot.connected
    with pytest.raises(RobotError, match="not connected"):
        robot.observe()
    robot.stop()
    with robot:
        state = robot.observe()
        assert arm.realtime == "enforce"
        assert arm.thresholds == (20.0, 30.0)
        # robosuite's tool: 0.097 m beyond the flange, turned by -135 degrees
        assert np.abs(state.pose.position - [0.5, 0, 0.5 - 0.097]).max() < 1e-9
        assert state.wrench is not None
        assert state.wrench.tolist() == [1, 2, 3, 4, 5, 6]
        with pytest.raises(RobotError, match="connected already"):
            robot.connect()
    robot.disconnect()
    assert not robot.connected


def test_references_run_in_a_line_to_each_target_and_stay_there(arm: FakeArm, robot: FrankaRobot) -> None:
    here = robot.observe().pose
    goal = Pose(here.position + [0, 0.01, 0], here.rotation)
    due = time.monotonic() + 0.2
    sent = robot.command(Target(goal, 0.2), due)
    assert sent.target.gripper == 0.08, "as far as the hand opens"
    assert sent.at == due
    until(lambda: time.monotonic() > due + 0.02)
    y = [r.target.translation[1] for r in arm.references]
    assert y[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(y) >= -1e-9).all()
    assert y[-1] == pytest.approx(0.01, abs=1e-6)
    twists = [r.target_twist for r in arm.references if r.target_twist is not None]
    assert twists
    assert twists[0][0][1] == pytest.approx(0.01 / 0.2, rel=0.1)
    assert robot.observe().pose.distance(goal)[0] < 1e-6


def test_it_stops_without_commands_and_takes_them_again_only_where_it_is(arm: FakeArm, robot: FrankaRobot) -> None:
    begin = time.monotonic()
    command(robot)
    until(lambda: not arm.is_in_control)
    assert time.monotonic() - begin >= 0.45
    here = robot.observe().pose
    with pytest.raises(RobotError, match=r"a jump of 0\.0500 m .*start where the arm is"):
        command(robot, Pose(here.position + [0, 0.05, 0], here.rotation))
    assert not arm.is_in_control
    command(robot)
    with pytest.raises(RobotError, match="targets must be smooth"):
        command(robot, Pose(here.position + [0, 0.8, 0], here.rotation))


def test_a_stop_holds_while_somebody_goes_on_commanding(arm: FakeArm, robot: FrankaRobot) -> None:
    command(robot)
    robot.stop()
    robot.stop()
    assert not arm.is_in_control
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        with pytest.raises(RobotError, match=r"stopped; it takes commands again after 0\.5 s of silence"):
            command(robot)
        time.sleep(0.02)
    time.sleep(0.6)
    command(robot)
    assert arm.is_in_control


@pytest.mark.parametrize(
    ("target", "at", "said"),
    [((np.nan, 0.0), 0.0, "not finite"), ((0.0, 0.0), 3.0, "from now: expected"), ((0.0, 0.0), np.inf, "not finite")],
)
def test_targets_that_are_none(robot: FrankaRobot, target: tuple[float, float], at: float, said: str) -> None:
    with pytest.raises(RobotError, match=said):
        robot.command(Target(robot.observe().pose, target[0]), time.monotonic() + at)


def test_a_reflex_ends_it_until_recovery(arm: FakeArm, robot: FrankaRobot) -> None:
    command(robot)
    arm.reflex("motion aborted by reflex: cartesian_reflex")
    until(lambda: robot.observe().mode is RobotMode.PROTECTIVE_STOP and robot._trouble is not None)
    for _ in range(3):
        with pytest.raises(RobotError, match=r"aborted by reflex.*after recover\(\)"):
            command(robot)
    arm.refuse_recovery = True
    with pytest.raises(RobotError, match="recovery refused: the user stop is pressed"):
        robot.recover()
    arm.refuse_recovery = False
    robot.recover()
    assert robot.observe().mode is RobotMode.READY
    command(robot)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("Guiding", RobotMode.IDLE),
        ("UserStopped", RobotMode.EMERGENCY_STOP),
        ("AutomaticErrorRecovery", RobotMode.PROTECTIVE_STOP),
        ("Other", RobotMode.IDLE),
        ("Strange", RobotMode.FAULT),
    ],
)
def test_modes(arm: FakeArm, robot: FrankaRobot, mode: str, expected: RobotMode) -> None:
    arm.mode = mode
    until(lambda: robot.observe().mode is expected)
    with pytest.raises(RobotError, match=f"the controller reports {expected.value}"):
        command(robot)


def test_measurements_that_stop_stop_the_arm(arm: FakeArm, robot: FrankaRobot) -> None:
    command(robot)
    arm.frozen = True
    with pytest.raises(RobotError, match="measurement"):  # noqa: PT012
        for _ in range(300):
            command(robot)
            time.sleep(0.01)
    until(lambda: not arm.is_in_control)
    with pytest.raises(RobotError):
        command(robot)
    until(lambda: robot._state is not None and time.monotonic() - robot._state.stamp > 2.1)
    with pytest.raises(RobotError, match=r"the connection was lost .*recover\(\)"):
        robot.observe()


def test_a_lost_connection_is_opened_anew_by_recovery(arm: FakeArm, robot: FrankaRobot) -> None:
    command(robot)
    arm.alive = False
    until(lambda: not robot.connected)
    with pytest.raises(RobotError, match=r"the connection was lost .*Net Exception"):
        robot.observe()
    with pytest.raises(RobotError, match="FCI refused; is FCI active"):
        robot.recover()
    arm.alive, arm.motion = True, None
    robot.disconnect()
    robot.connect()
    command(robot)


def test_connecting_to_an_arm_that_is_not_ready_or_not_there(arm: FakeArm, monkeypatch: pytest.MonkeyPatch) -> None:
    arm.mode = "UserStopped"
    robot = FrankaRobot(settings())
    with pytest.raises(RobotError, match=r"franka at 10\.0\.0\.1: the controller reports emergency_stop; clear it"):
        robot.connect()
    assert not robot.connected
    arm.alive = False
    with pytest.raises(RobotError, match="Connection to FCI refused; is FCI active"):
        robot.connect()
    monkeypatch.setitem(sys.modules, "franky", None)
    with pytest.raises(RobotError, match=r"pip install 'equidiff\[franka\]'"):
        robot.connect()


def test_the_hand_grasps_when_closing_and_is_told_when_lost(arm: FakeArm, robot: FrankaRobot) -> None:
    command(robot, gripper=0.07)
    until(lambda: robot.observe().gripper == pytest.approx(0.07))
    command(robot, gripper=0.071)  # less than its step: not sent
    command(robot, gripper=0.0)
    until(lambda: robot.observe().gripper == pytest.approx(0.0))
    assert arm.hand_calls == [("move", 0.07), ("grasp", 0.0)]
    arm.hand_alive = False

    def lost() -> bool:
        try:
            robot.observe()
        except RobotError as error:
            return "the Franka hand: UDP receive: Timeout" in str(error)
        return False

    until(lost)
    with pytest.raises(RobotError, match="the Franka hand"):
        command(robot)
    arm.hand_alive = True
    robot.recover()
    command(robot)


def test_the_driver_keeps_the_contract(arm: FakeArm) -> None:
    report = check_robot(FrankaRobot(settings(command_timeout=0.1)), confirm=lambda question: True)
    assert report.passed, str(report)


def test_homing_within_the_limits_only(arm: FakeArm, robot: FrankaRobot) -> None:
    robot.move_joints(GOAL, 0.5)
    assert robot.observe().joints.tolist() == GOAL.tolist()
    command(robot)
    robot.stop()
    for joints, speed in ((np.zeros(7), 0.5), (GOAL, 0.0), (GOAL, -1.0)):
        with pytest.raises(RobotError, match="outside the limits of fr3"):
            robot.move_joints(joints, speed)
    with pytest.raises(ValueError, match="joints"):
        robot.move_joints(GOAL[:6], 0.5)


GOAL = np.array([0.0, 0.1, 0.0, -1.5, 0.0, 1.6, 0.7])


def stopped_on_its_way(arm: FakeArm) -> None:
    assert arm.moves[-1] == "joint_stop"
    assert not arm.is_in_control
    assert np.abs(arm.joints - GOAL).max() > 0.01


def test_stop_while_homing_is_sent_at_once(arm: FakeArm, robot: FrankaRobot) -> None:
    arm.homing_takes = 5.0
    sent: list[str] = []

    def stop() -> None:
        robot.stop()
        sent.extend(arm.moves)

    stopper = threading.Timer(0.3, stop)
    stopper.start()
    with pytest.raises(RobotError, match="stopped on its way"):
        robot.move_joints(GOAL, 0.5)
    stopper.join()
    assert sent == ["joints", "joint_stop"], "not only when the loop that waits for the arm sees it"
    stopped_on_its_way(arm)
    with pytest.raises(RobotError, match="of silence"):
        robot.move_joints(GOAL, 0.5)


def test_homing_that_is_interrupted_stops_the_arm(arm: FakeArm, robot: FrankaRobot) -> None:
    """Ctrl-C, or a signal that the program turns into an exception."""
    arm.homing_takes = 5.0
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        robot.move_joints(GOAL, 0.5)
    stopped_on_its_way(arm)


def test_homing_without_measurements_stops_the_arm(arm: FakeArm, robot: FrankaRobot) -> None:
    arm.homing_takes = 5.0
    threading.Timer(0.2, setattr, (arm, "frozen", True)).start()
    with pytest.raises(RobotError, match=r"measurements stopped coming while it moved; .*after recover"):
        robot.move_joints(GOAL, 0.5)
    stopped_on_its_way(arm)


def test_homing_that_nobody_attends_to_stops_the_arm(
    arm: FakeArm, robot: FrankaRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that waits for the arm hangs, and may be the one that would see the operator let go."""
    arm.homing_takes = 5.0

    hanging = True

    def sleep(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        sleep(1.0 if hanging and threading.current_thread() is threading.main_thread() else seconds)

    monkeypatch.setattr(franka, "time", types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with pytest.raises(RobotError, match=r"nobody attended to homing for 0\.5 s; .*after recover"):
        robot.move_joints(GOAL, 0.5)
    stopped_on_its_way(arm)
    hanging, arm.homing_takes = False, 0.0
    robot.recover()
    robot.move_joints(GOAL, 0.5)


def test_a_reflex_while_homing_is_told(arm: FakeArm, robot: FrankaRobot) -> None:
    arm.homing_takes = 5.0
    threading.Timer(0.3, arm.reflex).start()
    with pytest.raises(RobotError, match=r"cartesian_reflex; it takes commands again after recover\(\)"):
        robot.move_joints(GOAL, 0.5)
    assert arm.moves == ["joints"], "the controller has stopped it"
    arm.homing_takes = 0.0
    robot.recover()
    robot.move_joints(GOAL, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "panda3"}, "robot.model: expected panda or fr3, got 'panda3'"),
        ({"command_hz": 5000}, "robot.command_hz: expected 10 to 500"),
        ({"tool": (0, 0, 0)}, "robot.tool: expected"),
        ({"gripper": {"sped": 1}}, "robot.gripper: no setting 'sped'"),
        ({"gripper": {"force": -1}}, "robot.gripper.force: expected a number > 0"),
    ],
)
def test_settings(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**change)


def test_a_gripper_from_a_config() -> None:
    assert settings(gripper={"force": 20.0}).gripper == FrankaGripperSettings(force=20.0)
    assert FrankaRobot(settings(gripper=None)).features.gripper == (0.0, 0.0)
