"""`check_robot` and `check_camera`: a right driver passes, and each broken rule is found by its name."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from camera_fakes import CountingCamera
from ur_bench import fresh_fake, settings_for

from real_robot.check import CheckSettings, Report, check_camera, check_robot
from real_robot.clock import ManualClock
from real_robot.contract import CameraError, CameraFeatures, Robot, RobotError, RobotFeatures
from real_robot.drivers.ur import URRobot
from real_robot.poses import Pose
from real_robot.types import Array, CameraFrame, RobotMode, RobotState, Sent, Target

pytestmark = pytest.mark.realtime

DOWN = np.diag([1.0, -1.0, -1.0])


class ToyRobot(Robot):
    """An arm whose tool follows its target at up to 0.3 m/s; `broken` names the rule it breaks."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.clock = ManualClock(time=100.0)
        self.clock.listeners.append(self._step)
        self.position, self.speed, self._coast = np.array([0.4, 0.0, 0.4]), np.zeros(3), np.zeros(3)
        self._target: Array | None = None
        self._connected = self._stopped = False
        self._connections = 0
        self._heard = self._asked = 0.0

    def _step(self, now: float) -> None:
        silent = now - self._heard > 0.1
        if silent and self.broken == "goes on":
            self.position, self.speed = self.position + self._coast * 0.001, self._coast
            return
        if silent or self._stopped:
            self._target = None
        gap = np.zeros(3) if self._target is None else self._target - self.position
        if self.broken == "half way" and self._target is not None:
            gap = gap - np.array([0, 0, 0.005])
        length = float(np.linalg.norm(gap))
        step = gap * min(1.0, 0.0003 / max(length, 1e-12))
        self.position, self.speed = self.position + step, step / 0.001
        self._coast = self.speed if self.speed.any() else self._coast

    @property
    def features(self) -> RobotFeatures:
        low, high = np.full(6, -3.0), np.full(6, 3.0)
        if self.broken == "features":
            low, high = high, low
        return RobotFeatures("toy", "ur5e", low, high, np.ones(6), (0.0, 0.08), 100.0)

    @property
    def connected(self) -> bool:
        return self._connected

    def connect(self) -> None:
        if self._connected and self.broken != "connects twice":
            raise RobotError("connected already")
        self._connections += 1
        if self._connections > 1 and self.broken == "once only":
            raise RobotError("busy")
        self._connected = True

    def disconnect(self) -> None:
        if not self._connected and self.broken == "disconnects once":
            raise RuntimeError("not connected")
        self._connected = False

    def observe(self) -> RobotState:
        if not self._connected and self.broken != "observes anyway":
            raise RobotError("not connected")
        now = self.clock.now()
        stamp = now - 0.002
        stamp += {"old": -0.5, "future": 0.05, "backwards": 1000 - 2 * now}.get(self.broken, 0.0)
        if self.broken == "frozen":
            stamp = 99.99
        joints = np.zeros(5 if self.broken == "joints" else 6)
        velocities = np.concatenate([self.speed, np.zeros(len(joints) - 3)])
        mode = RobotMode.FAULT if self.broken == "mode" else RobotMode.READY
        return RobotState(stamp, joints, velocities, Pose(self.position, DOWN), 0.04, mode)

    def command(self, target: Target, at: float) -> Sent:
        if not self._connected:
            raise RobotError("not connected")
        finite = np.isfinite(target.pose.position).all() and math.isfinite(target.gripper) and math.isfinite(at)
        if not finite and self.broken != "takes NaN":
            raise ValueError("not finite") if self.broken == "wrong error" else RobotError("not finite")
        now, asked = self.clock.now(), self._asked
        self._asked = now
        if self._stopped and now - asked < 0.1 and self.broken != "overruled":
            raise RobotError("stopped")
        self._stopped, self._heard, self._target = False, now, np.array(target.pose.position)
        return None if self.broken == "tells nothing" else Sent(target, at, now)  # type: ignore[return-value]

    def stop(self) -> None:
        if self.broken == "stop raises" and self._connected:
            raise RuntimeError("stop twice")
        if self.broken != "stop is nothing":
            self._stopped, self._asked = True, self.clock.now()

    def recover(self) -> None:
        if self.broken == "never recovers":
            raise RobotError("no")
        self._stopped = False

    def move_joints(self, joints: Array, speed: float) -> None:
        raise NotImplementedError


def _checked(broken: str, confirm: Callable[[str], bool] = lambda question: True) -> Report:
    robot = ToyRobot(broken)
    return check_robot(robot, confirm, clock=robot.clock)


def test_a_right_driver_passes() -> None:
    report = _checked("")
    assert report.passed, str(report)
    assert len(report.checks) == 14
    assert str(report).count("\n") == 13


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("features", "features without a connection"),
        ("observes anyway", "refuses without a connection"),
        ("disconnects once", "stop and disconnect without a connection"),
        ("connects twice", "connects"),
        ("old", "observations are fresh and in order"),
        ("future", "observations are fresh and in order"),
        ("backwards", "observations are fresh and in order"),
        ("frozen", "observations are fresh and in order"),
        ("joints", "state agrees with features"),
        ("mode", "state agrees with features"),
        ("takes NaN", "refuses what is not finite"),
        ("wrong error", "refuses what is not finite"),
        ("half way", "commands are followed"),
        ("tells nothing", "commands are followed"),
        ("goes on", "stops when commands cease"),
        ("stop raises", "stop from another thread"),
        ("overruled", "stop is not overruled by commands under way"),
        ("stop is nothing", "stop is not overruled by commands under way"),
        ("never recovers", "recovers"),
        ("once only", "connects again"),
    ],
)
def test_each_broken_rule_is_found(broken: str, found: str) -> None:
    report = _checked(broken)
    assert found in report.failed, str(report)


def test_nothing_moves_without_a_yes() -> None:
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    robot = ToyRobot()
    report = check_robot(robot, no, clock=robot.clock)
    assert report.failed == ("moving was confirmed",)
    assert "at most 20 mm at 50 mm/s" in questions[0]
    assert robot.position.tolist() == [0.4, 0.0, 0.4]


def test_the_arm_stays_within_the_distance_it_was_confirmed_for() -> None:
    robot, heights = ToyRobot(), []
    robot.clock.listeners.append(lambda now: heights.append(robot.position[2]))
    assert check_robot(robot, lambda question: True, clock=robot.clock).passed
    assert max(abs(height - 0.4) for height in heights) <= 0.0201
    assert np.abs(np.diff(heights)).max() < 0.00035


@pytest.mark.sim
@pytest.mark.slow
def test_the_ur_driver_on_the_fake_controller() -> None:
    fake = fresh_fake()
    settings = CheckSettings(max_age=0.5, patience=5.0)
    report = check_robot(URRobot(settings_for(fake, command_timeout=0.2)), lambda question: True, settings)
    assert report.passed, str(report)


class BrokenCamera(CountingCamera):
    """As `CountingCamera` with one rule broken."""

    def __init__(self, broken: str) -> None:
        super().__init__(fps=100.0)
        self.broken = broken
        self._buffer = np.zeros((24, 32, 3), np.uint8)

    @property
    def features(self) -> CameraFeatures:
        f = super().features
        width, fps = 0 if self.broken == "size" else 32, 300.0 if self.broken == "rate" else f.fps
        return CameraFeatures("wrist", width, 24, fps, self.broken != "depth", f.intrinsics)

    def read(self, timeout: float) -> CameraFrame:
        if not self.connected and self.broken != "reads anyway":
            raise CameraError("not connected")
        frame = super().read(timeout)
        stamp = frame.stamp + {"future": 0.1, "old": -2.0}.get(self.broken, 0.0)
        number = 7 if self.broken == "numbers" else frame.number
        image = self._buffer if self.broken == "memory" else frame.image
        if self.broken == "colours":
            image = image.astype(np.float32)  # type: ignore[assignment]
        return CameraFrame(stamp, number, image, frame.depth)


def test_a_right_camera_passes() -> None:
    report = check_camera(BrokenCamera(""))
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("size", "features without a connection"),
        ("reads anyway", "refuses without a connection"),
        ("future", "pictures are fresh and in order"),
        ("old", "pictures are fresh and in order"),
        ("numbers", "pictures are fresh and in order"),
        ("rate", "rate is the one of the features"),
        ("memory", "pictures are those of the features"),
        ("colours", "pictures are those of the features"),
        ("depth", "pictures are those of the features"),
    ],
)
def test_each_broken_rule_of_a_camera_is_found(broken: str, found: str) -> None:
    report = check_camera(BrokenCamera(broken))
    assert found in report.failed, str(report)
