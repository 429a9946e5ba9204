"""Faults of the real parts in real time: processes that are killed, and the fake UR controller through its driver."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from camera_fakes import CountingCamera
from deploy_toys import checkpoint
from loop_toys import SPEED, LinePlanner, limits
from ur_bench import connected, fresh_fake

from real_robot.camera_process import CameraProcess
from real_robot.clock import MonotonicClock
from real_robot.fakes.ur_controller import FakeUR
from real_robot.loop.faults import Fault
from real_robot.loop.history import StateHistory
from real_robot.loop.homing import go_home
from real_robot.loop.machine import State
from real_robot.loop.observer import Observer
from real_robot.loop.runner import Runner, RunResult
from real_robot.loop.schedule import ChunkScheduler, ScheduleSettings
from real_robot.loop.sensors import Arrays, RobotSensor, Sensor
from real_robot.loop.settings import RunSettings
from real_robot.operator.scripted import Moment, ScriptedOperator
from real_robot.planner import Planner
from real_robot.planners import ProcessPlanner
from real_robot.safety import SafetyGate
from real_robot.types import Array
from real_robot.world import World

pytestmark = pytest.mark.realtime

pytest.importorskip("rtde_control", reason="ur-rtde is not installed (extra ur)")

SOON = 1.0
"""Seconds in which the arm rests on a computer that other jobs keep busy; PATIENT's watchdog alone takes as long."""
PATIENT = RunSettings(longest=20.0, start=30.0, max_late=1.0, max_state_age=0.5, max_observation_age=1.0)
GATE = limits(box={"low": [-1, -1, -0.2], "high": [1, 1, 1.5]}, max_state_age=0.5)


class Cube(Sensor):
    """Where the cube is, by the time of a camera's pictures, or always known."""

    keys = ("cube_pos",)

    def __init__(self, camera: CameraProcess | None = None) -> None:
        self._camera = camera

    @property
    def newest(self) -> float:
        return time.monotonic() if self._camera is None else self._camera.latest().stamp

    def at(self, stamp: float) -> Arrays:
        return {"cube_pos": np.zeros(3, np.float32)}


@dataclass
class Ran:
    """rest: seconds from the injection until the arm stood; moved: metres from then on; path: the states."""

    result: RunResult
    rest: float
    moved: float
    path: list[str]

    @property
    def faults(self) -> list[str]:
        return [fault.kind.label for fault in self.result.faults]


@pytest.fixture
def fake() -> FakeUR:
    return fresh_fake()


def run(fake: FakeUR, planner: Planner, sensors: Sequence[Sensor], inject: Callable[[], None]) -> Ran:
    """`inject` comes when the policy has moved the arm for a second."""
    clock, history, path, when = MonotonicClock(), StateHistory(), list[str](), list[float]()
    hands = ScriptedOperator([Moment(0.0)])
    hands.connect()
    with connected(fake) as robot:
        gate = SafetyGate.for_robot(GATE, robot.features, robot.tool, robot.maker_base)
        world = World.of(robot.features)
        runner = Runner(
            robot, gate, planner, Observer(planner.spec, [RobotSensor(history, world), *sensors]),
            ChunkScheduler(planner.spec, world, ScheduleSettings()), history, hands, clock, PATIENT,
            say=lambda text: None,
        )  # fmt: skip
        listen, running = runner.machine._listener, threading.Event()

        def hear(source: State, target: State, why: str, now: float) -> None:
            path.append(target.value)
            listen(source, target, why, now)
            if target is State.RUNNING:
                running.set()

        runner.machine._listener = hear
        begin = time.monotonic()

        def wait() -> None:
            if running.wait(40):
                time.sleep(1.0)
                when.append(time.monotonic())
                inject()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        result = runner.run()
        thread.join(10)
        time.sleep(0.3)  # whether it really rests
    assert when, result
    before = fake.track(begin).tool[:, :3]
    track = fake.track(when[0])
    assert np.linalg.norm(track.tool[0, :3] - before[0]) > 0.01  # it moved
    return Ran(
        result, track.rest_since(1e-4) - when[0], float(np.linalg.norm(track.tool[-1, :3] - track.tool[0, :3])), path
    )


def check(ran: Ran, fault: str) -> None:
    assert ran.faults[0] == fault, ran.result
    assert (ran.result.by, ran.result.success) == ("fault", None)
    assert ran.path == ["homing", "ready", "running", "fault", "stopped"]
    assert ran.rest < SOON
    assert ran.moved < SPEED * SOON


@pytest.fixture
def line() -> LinePlanner:
    return LinePlanner(MonotonicClock())


def test_a_protective_stop_of_the_controller(fake: FakeUR, line: LinePlanner) -> None:
    ran = run(fake, line, [Cube()], fake.protective_stop)
    check(ran, "protective_stop")


def test_a_connection_that_drops(fake: FakeUR, line: LinePlanner) -> None:
    ran = run(fake, line, [Cube()], lambda: fake.drop(refuse=True))
    check(ran, "connection_lost")


def test_a_camera_whose_process_is_killed(fake: FakeUR, line: LinePlanner) -> None:
    with CameraProcess(partial(CountingCamera, depth=False)) as camera:
        ran = run(fake, line, [Cube(camera)], lambda: os.kill(camera.pid or 0, signal.SIGKILL))
    check(ran, "sensor_lost")
    assert "killed by signal 9" in ran.result.reason


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[ProcessPlanner]:
    planner = ProcessPlanner(checkpoint(tmp_path, rise=0.03), threads=1, timeout=9.0)
    yield planner
    planner.close()


@pytest.mark.slow
def test_a_policy_whose_process_is_killed(fake: FakeUR, policy: ProcessPlanner) -> None:
    ran = run(fake, policy, [], lambda: os.kill(policy.pid or 0, signal.SIGKILL))
    check(ran, "policy_lost")
    assert "ended (signal 9)" in ran.result.reason


def test_the_ur_goes_home_inside_the_limits_and_a_push_on_the_way_stops_it(fake: FakeUR) -> None:
    clock, hands = MonotonicClock(), ScriptedOperator([Moment(0.0)])
    hands.connect()
    box = {"low": [-1, -1, -0.2], "high": [1, 1, 1.5]}
    with connected(fake) as robot:
        gate = SafetyGate.for_robot(
            limits(box=box, force=40.0, max_state_age=0.5), robot.features, robot.tool, robot.maker_base
        )
        home = robot.observe().joints + [0.3, 0, 0, 0, 0, 0.2]

        def go(goal: Array) -> Fault | None:
            return go_home(robot, gate, goal, 0.5, hands, lambda pressed, now: None, clock, 0.008)

        assert go(home) is None
        assert np.abs(robot.observe().joints - home).max() < 2e-3
        refused = go(home + [6.5, 0, 0, 0, 0, 0])
        assert refused is not None
        assert "joint_limit: joint 1" in str(refused)
        push = threading.Timer(0.5, lambda: fake.push([0, 0, 60, 0, 0, 0]))
        push.start()
        begin = time.monotonic()
        found = go(home - [1.0, 0, 0, 0, 0, 0])
        push.join()
        fake.push([0, 0, 0, 0, 0, 0])
        assert found is not None
        assert "force 60" in str(found)
        time.sleep(0.3)
        track = fake.track(begin)
    assert track.rest_since(1e-4) - begin < 0.5 + SOON
    assert 0.02 < np.abs(track.joints[-1] - home).max() < 0.5 * (0.5 + SOON)
