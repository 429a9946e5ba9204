"""How soon and how near a UR arm stops with the settings as shipped, by the fake controller's own record of the arm.

Other work on this computer can only lengthen a stop: the shortest of some trials counts, and those in which the driver
refused before the fault came, since a measurement was late, do not.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from ur_bench import follow, fresh_fake

from real_robot.contract import RobotError
from real_robot.drivers.ur import URRobot
from real_robot.drivers.ur_settings import URSettings
from real_robot.fakes.ur_controller import FakeUR
from real_robot.types import RobotMode

pytestmark = [pytest.mark.sim, pytest.mark.realtime]
SPEED = 0.2
"""m/s of the tool, or the next one in rad/s, when the fault comes."""
HOMING_SPEED = 0.5
TRIALS = 10


@dataclass(frozen=True)
class Stop:
    """Seconds from the fault to rest; metres that the tool went on, or radians that the joint did."""

    seconds: float
    way: float


def _following(fake: FakeUR, robot: URRobot, fault: Callable[[URRobot], object]) -> Stop | None:
    """The fault while the arm follows a line, up and down in turn; None if it was refused before."""
    begin = time.monotonic()
    up = robot.observe().pose.position[2] < 0.3
    if follow(robot, 0.3, SPEED if up else -SPEED) is not None:
        return None
    at = time.monotonic()
    fault(robot)
    time.sleep(0.5)
    track = fake.track(begin)
    there = np.searchsorted(track.stamps, at)
    return Stop(track.rest_since() - at, float(np.linalg.norm(track.tool[-1, :3] - track.tool[there, :3])))


def _homing(fake: FakeUR, robot: URRobot, fault: Callable[[URRobot], object]) -> Stop | None:
    """The fault while the arm goes home, by turns to one side and the other."""
    begin, ended = time.monotonic(), []
    side = 1.0 if robot.observe().joints[0] < 0 else -1.0

    def home() -> None:
        with suppress(RobotError):  # that it was stopped
            robot.move_joints(robot.observe().joints + np.array([side, 0, 0, 0, 0, 0]), HOMING_SPEED)
        ended.append(time.monotonic())

    thread = threading.Thread(target=home)
    thread.start()
    time.sleep(0.6)  # at its full speed
    at = time.monotonic()
    refused = bool(ended)
    fault(robot)
    thread.join()
    if refused:
        return None
    time.sleep(0.4)
    track = fake.track(begin)
    there = np.searchsorted(track.stamps, at)
    return Stop(track.rest_since() - at, float(np.abs(track.joints[-1] - track.joints[there]).max()))


def _hush(robot: URRobot) -> None:
    """The process lives, but the thread that attends to homing hangs."""
    assert robot._servo is not None
    send = robot._servo.send
    robot._servo.send = lambda **message: message["do"] == "alive" or send(**message)  # type: ignore[method-assign]


def _kill(robot: URRobot) -> None:
    assert robot._servo is not None
    robot._servo.kill()


# seconds and ways are those of the settings: timeout or watchdog, then speed / deceleration; and a half more at most
@pytest.mark.parametrize(
    ("bring", "fault", "seconds", "way"),
    [
        pytest.param(_following, lambda robot: None, 0.105, 0.0115, id="commands cease"),
        pytest.param(_following, lambda robot: robot.stop(), 0.018, 0.0015, id="stop"),
        pytest.param(_following, _kill, 0.2, 0.016, id="servo process killed"),
        pytest.param(_homing, lambda robot: robot.stop(), 0.175, 0.045, id="stop while homing"),
        pytest.param(_homing, _hush, 0.275, 0.095, id="nobody attends to homing"),
    ],
)
def test_stops_of_the_settings_as_shipped(
    bring: Callable[[FakeUR, URRobot, Callable[[URRobot], object]], Stop | None],
    fault: Callable[[URRobot], object],
    seconds: float,
    way: float,
) -> None:
    fake = fresh_fake()
    found: list[Stop] = []
    with URRobot(URSettings(fake.address)) as robot:
        for _ in range(TRIALS):
            stop = bring(fake, robot, fault)
            found += [] if stop is None else [stop]
            if stop is not None and stop.seconds < 1.5 * seconds and stop.way < 1.5 * way:
                return
            if robot.observe().mode is not RobotMode.READY:
                robot.recover()
    pytest.fail(f"expected {seconds} s and {way} (m or rad), a half more at most, got {found} of {TRIALS} trials")
