"""What cameras cost a turn of the control loop: python scripts/bench_tick.py [seconds].

Cameras of 640 x 480 with depth, each in its own process, and a policy that reads a cloud of 1024 points of all of them
(farthest-point sampling) over a history of two steps. The loop turns at 125 Hz, looks at the age of the pictures in
each turn and asks for a plan each 0.4 s, as a UR arm with a policy of 20 Hz does. Prints milliseconds of processor time
of the loop's thread, in the turns that ask and in the others, with perception in that thread and in its own process
(PerceivingPlanner), and how late turns began, which depends on what else the computer does: `run.max_late` is 100 ms.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from equidiff.fields import PointCloud, Position, Scalars
from equidiff.perception import CameraSettings, PerceptionSettings, PointCloudSettings
from equidiff.spec import Horizon, Space, Spec
from real_robot.calibration import CameraCalibration, Lens
from real_robot.calibration.live import Scene
from real_robot.camera_process import CameraProcess
from real_robot.contract import Camera, CameraFeatures
from real_robot.loop.cameras import CameraSensor
from real_robot.loop.history import StateHistory
from real_robot.loop.observer import Observer
from real_robot.loop.sensors import RobotSensor
from real_robot.planner import Planner
from real_robot.planners.perceiving import PerceivingPlanner, perceive
from real_robot.poses import Pose, exp_map
from real_robot.rings import RingReader
from real_robot.types import CameraFrame, Plan, PlanRequest, RobotState
from real_robot.world import World

PERIOD, ASK, HZ = 0.008, 0.4, 20.0
WIDTH, HEIGHT, FPS = 640, 480, 30.0
POINTS = 1024
SPEC = Spec(
    Space((Position("robot0_eef_pos"), PointCloud("point_cloud", points=POINTS, colour=True))),
    Space((Position("to"), Scalars("close"))),
    Horizon(obs=2, predict=16, execute=8),
    control_hz=HZ,
)
SHAPES = ((2, 84), (4, 128))
"""(cameras, side of the pictures that the policy was trained on)."""


class NoisyTable(Camera):
    """A table 0.8 m away, with noise in colour and depth."""

    def __init__(self, name: str) -> None:
        self._features = CameraFeatures(name, WIDTH, HEIGHT, FPS, has_depth=True)
        self._number = 0

    @property
    def features(self) -> CameraFeatures:
        return self._features

    @property
    def connected(self) -> bool:
        return self._number > 0

    def connect(self) -> None:
        random = np.random.default_rng(0)
        self._image = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self._depth = random.integers(7000, 8000, (HEIGHT, WIDTH), np.uint16)
        self._due, self._number = time.monotonic(), 1

    def disconnect(self) -> None:
        self._number = 0

    def read(self, timeout: float) -> CameraFrame:
        self._due += 1 / FPS
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._number += 1
        return CameraFrame(time.monotonic(), self._number, self._image, self._depth)


@dataclass
class Swallow(Planner):
    """A policy that takes no time."""

    taken: list[PlanRequest] = field(default_factory=list)

    @property
    def spec(self) -> Spec:
        return SPEC

    def submit(self, request: PlanRequest) -> None:
        self.taken.append(request)

    def poll(self) -> Plan | None:
        return Plan(0, 0.0, np.zeros((15, 4)), 0.0) if self.taken and self.taken.pop() else None

    def close(self) -> None:
        self.taken.clear()


def main(seconds: float) -> None:
    print(f"milliseconds, {'p50':>35} {'p99':>7} {'max':>7}")
    for cameras, side in SHAPES:
        with ExitStack() as stack:
            _measure(stack, cameras, side, seconds)


def _measure(stack: ExitStack, cameras: int, side: int, seconds: float) -> None:
    names = [f"camera{i}" for i in range(cameras)]
    sources = {name: stack.enter_context(CameraProcess(partial(NoisyTable, name), stale=5.0)) for name in names}
    rings = {name: source.ring for name, source in sources.items()}
    bounds = ((-2.0, 2.0), (-2.0, 2.0), (-2.0, 2.0))
    settings = PerceptionSettings(
        {name: CameraSettings(side, side) for name in names},
        point_cloud=PointCloudSettings(tuple(names), bounds, POINTS),
    )
    lens = Lens(np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]]), WIDTH, HEIGHT)
    calibrations = {
        name: CameraCalibration(name, "base", Pose([0.1 * i, 0.0, 0.8], exp_map([np.pi, 0, 0])), lens)
        for i, name in enumerate(names)
    }
    history = StateHistory()
    world = World(Pose([0, 0, 0], np.eye(3)), (0.0, 0.08))
    observer = Observer(SPEC, [RobotSensor(history, world)], CameraSensor(tuple(settings.shapes), sources, history))
    label = f"{cameras} cameras, {side} x {side}"

    scene = Scene(settings, calibrations)
    readers = {name: stack.enter_context(RingReader(ring)) for name, ring in rings.items()}
    keys = ("point_cloud",)

    def in_the_loop(request: PlanRequest) -> None:
        perceive(scene, readers, request.sights, keys)

    _report(f"{label}, in the loop", _turns(history, observer, in_the_loop, lambda: True, seconds))
    planner = PerceivingPlanner(Swallow(), settings, calibrations, rings, timeout=5.0)
    stack.callback(planner.close)
    free = lambda: planner.poll() is not None
    _report(f"{label}, own process", _turns(history, observer, planner.submit, free, seconds))


def _turns(
    history: StateHistory,
    observer: Observer,
    submit: Callable[[PlanRequest], None],
    answered: Callable[[], bool],
    seconds: float,
) -> Mapping[str, list[float]]:
    """Seconds of the thread in turns that ask and in others, and how late turns began."""
    found: dict[str, list[float]] = {"asks": [], "others": [], "late": []}
    begin = due = asked = time.monotonic()
    pending = False
    while (now := time.monotonic()) < begin + seconds:
        found["late"].append(now - due)
        before = time.thread_time()
        history.add(RobotState(now, np.zeros(6), np.zeros(6), Pose([0.4, 0, 0.3], np.eye(3)), 0.04))
        observer.newest  # noqa: B018 - how old the pictures are
        pending = pending and not answered()
        asking = not pending and now >= asked + ASK
        if asking:
            seen = observer.observe()
            submit(PlanRequest(0, seen.stamp, seen.arrays, sights=seen.sights))
            asked, pending = now, True
        found["asks" if asking else "others"].append(time.thread_time() - before)
        due = due + PERIOD if now < due + PERIOD else now + PERIOD
        time.sleep(max(0.0, due - time.monotonic()))
    return found


def _report(label: str, found: Mapping[str, list[float]]) -> None:
    print(label)
    for name, words in (("asks", "a turn that asks"), ("others", "any other"), ("late", "begun late by")):
        p50, p99 = 1e3 * np.quantile(found[name], [0.5, 0.99])
        print(f"    {words:44} {p50:7.2f} {p99:7.2f} {1e3 * max(found[name]):7.2f}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
