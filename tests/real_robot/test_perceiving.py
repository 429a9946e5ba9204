"""Perception in its own process: the same observations as made here, and how it dies, hangs and ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")

from planner_toys import answer, until
from test_calibration_live import TOOL, calibrations, lens, perception, pictures

from equidiff.fields import Image, Position, Scalars, Voxels
from equidiff.spec import Horizon, Space, Spec
from real_robot.calibration.live import Scene
from real_robot.planner import Planner, PlannerError
from real_robot.planners.perceiving import PerceivingPlanner, pack_sights, unpack_sights
from real_robot.poses import Pose
from real_robot.rings import Ring, RingWriter
from real_robot.types import Plan, PlanRequest, Sight

pytestmark = pytest.mark.realtime

LENS = lens()
SETTINGS = perception()
SPEC = Spec(
    Space((Position("at"), Image("top_image"), Voxels("voxels"))),
    Space((Position("to"), Scalars("close"))),
    Horizon(obs=2, predict=6, execute=3),
)
AT = np.arange(6, dtype=np.float32).reshape(2, 3)
LATER = Pose.from_rotvec([0.5, 0.05, 0.41], [np.pi, 0.0, 0.3])
SIGHTS = (Sight({"top": 2, "wrist": 1}, {"wrist": TOOL}), Sight({"top": 3, "wrist": 3}, {"wrist": LATER}))


class Inner(Planner):
    """Keeps what it is asked, answers at once; `why`: it is lost."""

    def __init__(self) -> None:
        self.asked: list[PlanRequest] = []
        self.given: set[int] = set()
        self.why: str | None = None
        self.closed = False

    @property
    def spec(self) -> Spec:
        return SPEC

    def submit(self, request: PlanRequest) -> None:
        if self.why is not None:
            raise PlannerError(self.why)
        self.asked.append(request)

    def poll(self) -> Plan | None:
        if self.why is not None:
            raise PlannerError(self.why)
        last = self.asked[-1] if self.asked else None
        if last is None or last.number in self.given:
            return None
        self.given.add(last.number)
        return Plan(last.number, last.stamp, np.zeros((5, 4)), 0.0)

    def close(self) -> None:
        self.closed = True


class Stage:
    """Rings of two cameras with four pictures each, the planner under test and the one behind it."""

    def __init__(self) -> None:
        fields: dict[str, Any] = {"image": ((30, 40, 3), "uint8"), "depth": ((30, 40), "uint16")}
        self.rings = {name: Ring(fields, 4) for name in ("top", "wrist")}
        self.writers = {name: RingWriter(ring.info) for name, ring in self.rings.items()}
        self.frames: dict[str, list[Any]] = {"top": [], "wrist": []}
        for number in range(4):
            for name in self.rings:
                self.write(name, number)
        self.inner = Inner()
        rings = {name: ring.info for name, ring in self.rings.items()}
        self.planner = PerceivingPlanner(self.inner, SETTINGS, calibrations(LENS, LENS), rings, timeout=60.0)

    def write(self, name: str, number: int) -> None:
        frame = pictures(LENS, 10 * number + len(name), 1500 if name == "wrist" else 5000)
        self.frames[name].append(frame)
        assert frame.depth is not None
        self.writers[name].write(1.0 + number, {"image": frame.image, "depth": frame.depth}, number)

    def close(self) -> None:
        self.planner.close()
        for part in (*self.writers.values(), *self.rings.values()):
            part.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def request(number: int, sights: tuple[Sight, ...] = SIGHTS) -> PlanRequest:
    return PlanRequest(number, 5.0 + number, {"at": AT}, sights=sights)


def test_sights_travel_as_arrays() -> None:
    for there, back in zip(SIGHTS, unpack_sights(pack_sights(SIGHTS)), strict=True):
        assert back.pictures == there.pictures
        assert back.tools["wrist"].distance(there.tools["wrist"]) == pytest.approx((0, 0), abs=1e-9)
    assert unpack_sights(pack_sights([Sight({"top": 7}, {})]))[0].tools == {}


def test_observations_are_those_that_would_be_made_here(shared: Stage) -> None:
    shared.planner.submit(request(1))
    with pytest.raises(ValueError, match="request 2: another one is still under way"):
        shared.planner.submit(request(2))
    assert answer(shared.planner).number == 1
    whole = shared.inner.asked[-1]
    assert whole.sights == ()
    assert (whole.observation["at"] == AT).all()
    scene = Scene(SETTINGS, calibrations(LENS, LENS))
    for step, sight in enumerate(SIGHTS):
        frames = {name: shared.frames[name][number] for name, number in sight.pictures.items()}
        expected = scene.observe(frames, sight.tools)
        assert set(whole.observation) == {"at", "top_image", "voxels"}  # what the policy reads
        for key in ("top_image", "voxels"):
            value = expected[key]
            assert whole.observation[key].dtype == value.dtype
            assert (whole.observation[key][step] == value).all()
    assert whole.observation["voxels"][:, 0].any()


def test_a_picture_that_is_gone_is_told_and_the_next_request_is_taken(shared: Stage) -> None:
    gone = Sight({"top": 50, "wrist": 1}, {"wrist": TOOL})
    shared.planner.submit(request(3, (gone, gone)))
    with pytest.raises(PlannerError, match="camera 'top': picture 50 was overwritten before it was looked at"):
        answer(shared.planner)
    with pytest.raises(ValueError, match="expected 2 sights, got 1"):
        shared.planner.submit(request(4, SIGHTS[:1]))
    shared.planner.submit(request(5))
    assert answer(shared.planner).number == 5


def test_a_lost_policy_is_told_and_can_come_back(shared: Stage) -> None:
    shared.planner.submit(request(6))
    shared.inner.why = "its server is gone"
    with pytest.raises(PlannerError, match="its server is gone"):
        answer(shared.planner)
    shared.inner.why = None
    shared.planner.submit(request(7))
    assert answer(shared.planner).number == 7


def test_an_answer_before_its_request_counts_as_sent_is_no_loss(shared: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = shared.planner._worker._pipe
    send = pipe.send_bytes

    def slow(message: bytes) -> None:
        send(message)
        time.sleep(0.3)  # the thread comes to run again when the answer is there long since

    monkeypatch.setattr(pipe, "send_bytes", slow)
    for number in (20, 21, 22):
        begin = time.monotonic()
        shared.planner.submit(request(number))
        plan = answer(shared.planner)
        assert plan.number == number
        assert plan.perceived_in is not None
        assert 0 < plan.perceived_in < time.monotonic() - begin


def test_a_hang_and_a_death_hold_nobody_up() -> None:
    stage = Stage()
    try:
        pid = stage.planner.pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGSTOP)
        stage.planner._slot._timeout = 0.2
        for number in (1, 2, 3):
            begin = time.perf_counter()
            stage.planner.submit(request(number))
            assert time.perf_counter() - begin < 1
            with pytest.raises(PlannerError, match=r"no answer within 0\.2 s|does not take requests"):
                answer(stage.planner)
        stage.planner._slot._timeout = 60.0
        os.kill(pid, signal.SIGCONT)
        until(lambda: not stage.planner._worker.busy)
        stage.planner.submit(request(4))
        assert answer(stage.planner).number == 4
        assert [asked.number for asked in stage.inner.asked] == [4]  # what was given up never reached the policy
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PlannerError, match=r"the perception's process has ended \(signal 9\)"):
            until(lambda: stage.planner.poll() is not None, within=10)
        with pytest.raises(PlannerError, match="has ended"):
            stage.planner.submit(request(5))
    finally:
        stage.close()
    assert stage.inner.closed
