"""One fake UR controller for all tests of a process, since its start takes seconds; and moves to test with.

Run as a program it is one that moves the arm, to be frozen or interrupted from outside:

    python tests/real_robot/ur_bench.py home|follow '{"address": ..., ...}'

It says "ready" when it is about to move, and then, as one JSON line, what ended it and what its servo process said.
"""

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache

import numpy as np

from real_robot.contract import RobotError
from real_robot.drivers.ur import URRobot
from real_robot.drivers.ur_settings import URSettings
from real_robot.fakes.ur_controller import FakeUR
from real_robot.poses import Pose
from real_robot.types import Target

PERIOD = 1 / 125
# a busy machine may let a process wait for some tenths of a second
PATIENT = {"max_state_age": 0.5, "lost_after": 4.0, "watchdog_hz": 1.0, "command_timeout": 0.4}


@cache
def _started() -> FakeUR:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    fake = FakeUR(f"127.0.{os.getpid() % 250 + 1}.{worker + 1}", unlock_after=0.3)
    fake.__enter__()
    atexit.register(fake.__exit__, None, None, None)
    return fake


def fresh_fake() -> FakeUR:
    """The fake as after switching on, without clients."""
    fake = _started()
    fake.drop()
    fake.reset()
    fake.settings(unlock_after=0.3, paused=True)
    return fake


def settings_for(fake: FakeUR, **settings: object) -> URSettings:
    return URSettings.from_config({"address": fake.address, **PATIENT, **settings})


@contextmanager
def connected(fake: FakeUR, **settings: object) -> Iterator[URRobot]:
    robot = URRobot(settings_for(fake, **settings))
    robot.connect()
    try:
        yield robot
    finally:
        robot.disconnect()


def follow(
    robot: URRobot, seconds: float, velocity: float = 0.1, until: Callable[[], bool] = lambda: False
) -> RobotError | None:
    """Command a straight line upwards at `velocity` m/s; the error that ended it, or None."""
    start, begin = robot.observe().pose, time.monotonic()
    while (passed := time.monotonic() - begin) < seconds and not until():
        target = Pose(start.position + np.array([0, 0, velocity * passed]), start.rotation)
        try:
            robot.command(Target(target, 0.04), time.monotonic() + 0.1)
        except RobotError as error:
            return error
        time.sleep(PERIOD)
    return None


HOMING = (np.array([1.5, 0, 0, 0, 0, 0]), 0.5)
"""Radians away, and rad/s."""


@contextmanager
def program(fake: FakeUR, what: str, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """This file as a program, in a process group of its own, already moving the arm."""
    node = json.dumps(asdict(settings_for(fake, **settings)))
    process = subprocess.Popen(
        [sys.executable, __file__, what, node],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        end = time.monotonic() + 10
        while not np.abs(fake.status()["velocities"]).max() > 0.1:
            assert time.monotonic() < end, "the program does not move the arm"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


def _main() -> None:
    robot = URRobot(URSettings.from_config(json.loads(sys.argv[2])))
    robot.connect()
    print("ready", flush=True)
    try:
        if sys.argv[1] == "home":
            robot.move_joints(robot.observe().joints + HOMING[0], HOMING[1])
            why = "arrived"
        else:
            why = str(follow(robot, 20.0, 0.05))
    except RobotError as error:
        why = str(error)
    except KeyboardInterrupt:
        robot.stop()
        why = "interrupted"
    time.sleep(0.5)  # what the servo process has to say to it
    assert robot._servo is not None
    print(json.dumps({"why": why, "alive": robot._servo.alive, "events": list(robot._servo.events)}), flush=True)
    robot.disconnect()


if __name__ == "__main__":
    _main()
