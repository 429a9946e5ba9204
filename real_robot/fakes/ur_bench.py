"""Measures the UR driver on the fake controller: times, rates, accuracy, and how it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from real_robot.contract import RobotError
from real_robot.drivers.ur import URRobot
from real_robot.drivers.ur_settings import URSettings
from real_robot.fakes.ur_controller import FakeUR
from real_robot.poses import Pose
from real_robot.types import Array, Target

__all__ = ["FAULTS", "Accuracy", "Following", "Stopping", "measure_accuracy", "measure_connection", "measure_following",
           "measure_stopping"]  # fmt: skip


def measure_connection(fake: FakeUR, settings: URSettings, times: int) -> tuple[Array, Array]:
    """(times,) seconds of connect, and of disconnect."""
    found = []
    for _ in range(times):
        robot = URRobot(settings)
        begin = time.monotonic()
        robot.connect()
        middle = time.monotonic()
        robot.disconnect()
        found.append((middle - begin, time.monotonic() - middle))
    connect, disconnect = np.array(found).T
    return connect, disconnect


def _stream(robot: URRobot, seconds: float, speed: float, until: Callable[[], bool] = lambda: False) -> Array:
    """Up and down in triangles of 40 mm at `speed` m/s; (n, 3): when `command` began and returned, and the height in
    the UR base frame."""
    start, begin, period = robot.observe().pose, time.monotonic(), 1 / robot.features.command_hz
    opening, due, sent = robot.observe().gripper, begin, []
    while (passed := time.monotonic() - begin) < seconds and not until():
        height = 0.04 * abs((passed * speed / 0.08 + 0.5) % 1 - 0.5) * 2
        pose = Pose(start.position + np.array([0, 0, height]), start.rotation)
        called = time.monotonic()
        robot.command(Target(pose, opening), called + period)
        sent.append((called, time.monotonic(), pose.position[2]))
        due = max(due + period, time.monotonic() - period)
        time.sleep(max(0.0, due - time.monotonic()))
    return np.array(sent)


@dataclass(frozen=True, eq=False)
class Following:
    """Seconds: between targets as they arrive at the controller; from the call of `command` to that; of the call
    itself; and the age of a state when it is read. sent, arrived: how many targets."""

    intervals: Array
    latencies: Array
    calls: Array
    ages: Array
    sent: int
    arrived: int


def measure_following(fake: FakeUR, settings: URSettings, seconds: float) -> Following:
    """Targets at the rate of the settings."""
    robot = URRobot(settings)
    ages = []

    def look() -> bool:
        ages.append(time.monotonic() - robot.observe().stamp)
        return False

    with robot:
        begin = time.monotonic()
        sent = _stream(robot, seconds, 0.05, look)
        arrived = fake.servo_times(begin)
    when = {height: called for called, _, height in sent}
    latencies = [t - when[height] for t, height in arrived if height in when]
    return Following(
        np.diff(arrived[:, 0]), np.array(latencies), sent[:, 1] - sent[:, 0], np.array(ages), len(sent), len(arrived)
    )


@dataclass(frozen=True)
class Accuracy:
    """Metres and radians between the last target and where the arm truly ended; rad of homing, the worst joint."""

    line: float
    turn: float
    homing: float


def measure_accuracy(fake: FakeUR, settings: URSettings) -> Accuracy:
    """A line of 100 mm at 0.1 m/s with a turn of 0.3 rad, and homing by half a radian."""
    robot = URRobot(settings)
    with robot:
        goal = robot.observe().joints + 0.5 * np.array([1, -0.5, 0.5, -1, 0.5, 1])
        robot.move_joints(goal, 1.0)
        homing = float(np.abs(np.array(fake.status()["joints"]) - goal).max())
        state, begin = robot.observe(), time.monotonic()
        start = state.pose
        end = start @ Pose.from_rotvec([0.04, -0.03, -0.0866], [0.2, 0.2, 0.1])
        target = start
        while (passed := time.monotonic() - begin) < 2.0:
            target = start.towards(end, min(1.0, passed))
            robot.command(Target(target, state.gripper), time.monotonic() + 0.01)
            time.sleep(1 / settings.command_hz)
        truth = np.array(fake.status()["pose"])
        metres, radians = (robot.maker_base @ Pose.from_rotvec(truth[:3], truth[3:])).distance(target)
    return Accuracy(metres, radians, homing)


def _kill(robot: URRobot, fake: FakeUR) -> None:
    assert robot._servo is not None
    robot._servo.kill()


FAULTS: Mapping[str, Callable[[URRobot, FakeUR], object]] = {
    "stop()": lambda robot, fake: robot.stop(),
    "commands cease": lambda robot, fake: None,
    "servo process killed": _kill,
    "protective stop": lambda robot, fake: fake.protective_stop(),
    "connections reset": lambda robot, fake: fake.drop(),
    "frozen for 1 s, released": lambda robot, fake: fake.freeze(1.0),
}


@dataclass(frozen=True)
class Stopping:
    """From the fault: seconds to rest, metres until there, and the largest step between two cycles, in metres."""

    seconds: float
    metres: float
    step: float


def measure_stopping(fake: FakeUR, settings: URSettings, fault: str, speed: float) -> Stopping:
    """Move at `speed` m/s, bring on the fault, go on commanding as long as the driver takes it."""
    robot = URRobot(settings)
    injected: list[float] = []

    def inject() -> None:
        injected.append(time.monotonic())
        FAULTS[fault](robot, fake)

    with robot:
        begin = time.monotonic()
        thread = threading.Timer(0.6, inject)
        thread.start()
        refused = None
        try:
            _stream(robot, 2.5, speed, (lambda: bool(injected)) if fault == "commands cease" else lambda: False)
        except RobotError as error:  # right after the fault, wrong before it
            refused = time.monotonic(), error
        thread.join()
        if refused is not None and refused[0] < injected[0]:
            raise RobotError(f"refused before the fault came, too busy a computer: {refused[1]}")
        time.sleep(1.5)
        track = fake.track(begin)
    at = np.array([np.interp(injected[0], track.stamps, track.tool[:, i]) for i in range(3)])
    end = float(np.linalg.norm(track.tool[-1, :3] - at))
    return Stopping(max(0.0, track.rest_since() - injected[0]), end, float(track.steps().max()))
