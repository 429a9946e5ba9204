"""`PerceivingPlanner`: what the cameras saw becomes observations in a process of its own, on the way to any planner."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.perception import PerceptionError, PerceptionSettings
from equidiff.spec import Spec
from real_robot.calibration.board import CalibrationError
from real_robot.calibration.live import Scene
from real_robot.calibration.result import CameraCalibration
from real_robot.planner import Planner, PlannerError
from real_robot.planners.slot import Slot
from real_robot.planners.worker import Worker
from real_robot.poses import Pose
from real_robot.rings import RingError, RingInfo, RingReader
from real_robot.server.wire import Failure, WireError, pack_arrays, pack_failure, request_bytes, unpack_arrays
from real_robot.types import CameraFrame, Plan, PlanRequest, Sight

__all__ = ["PerceivingPlanner", "pack_sights", "perceive", "unpack_sights"]

_PICTURE, _TOOL = "picture/", "tool/"


@dataclass(frozen=True)
class _Setup:
    settings: PerceptionSettings
    cameras: Mapping[str, CameraCalibration]
    rings: Mapping[str, RingInfo]
    keys: tuple[str, ...]


class PerceivingPlanner(Planner):
    """Clouds of points and grids take tens of milliseconds, in which the loop would miss its ticks: a process reads the
    pictures of a request's sights from the cameras' rings, makes the observations of them, and a thread hands them on.

    settings, cameras: as of `Scene`; rings: of the pictures of each camera in use. planner: is given whole requests,
    and closed by `close`. timeout: seconds until the perception of a request is given up. Raises PlannerError when the
    process does not start.
    """

    def __init__(
        self,
        planner: Planner,
        settings: PerceptionSettings,
        cameras: Mapping[str, CameraCalibration],
        rings: Mapping[str, RingInfo],
        *,
        timeout: float = 1.0,
        start_timeout: float = 120.0,
    ) -> None:
        self._planner = planner
        self._slot: Slot[PlanRequest] = Slot(timeout)
        self._under_way = False
        self._since, self._perceived_in = 0.0, 0.0  # when the request came; seconds of its perception
        self._handing_on = threading.Lock()
        self._worker = Worker(
            "the perception's process",
            _child,
            _Setup(
                settings, dict(cameras), dict(rings), tuple(set(settings.shapes) & set(planner.spec.observation.keys))
            ),
            start_timeout=start_timeout,
            largest=request_bytes(planner.spec),
        )
        first = unpack_arrays(self._worker.first)
        if isinstance(first, Failure):
            self._worker.close()
            raise PlannerError(first.message)
        self._worker.listen(self._hear, self._slot.lose)

    @property
    def spec(self) -> Spec:
        return self._planner.spec

    @property
    def pid(self) -> int | None:
        """Of the perception's process."""
        return self._worker.pid

    def submit(self, request: PlanRequest) -> None:
        """The observation lacks what is made of the sights, one for each step of the history."""
        if self._under_way:
            raise ValueError(f"request {request.number}: another one is still under way; poll for it")
        steps = self.spec.horizon.obs
        if len(request.sights) != steps:
            raise ValueError(f"request {request.number}: expected {steps} sights, got {len(request.sights)}")
        number = self._slot.begin(request)
        self._under_way, self._since = True, time.monotonic()
        try:
            self._worker.send(pack_arrays(number, pack_sights(request.sights)))
        except (PlannerError, WireError) as error:
            self._slot.fail(number, str(error))

    def _hear(self, message: bytes) -> None:
        answer = unpack_arrays(message)
        if isinstance(answer, Failure):
            self._slot.fail(answer.id, answer.message)
            return
        number, seen = answer
        with self._handing_on:  # a request that is given up meanwhile must not reach the planner
            request = self._slot.waiting(number)
            if request is None:
                return
            self._perceived_in = time.monotonic() - self._since
            whole = replace(request, observation={**request.observation, **seen}, sights=())
            try:
                self._planner.submit(whole)
            except (PlannerError, ValueError) as error:
                self._slot.fail(number, str(error))
            else:
                self._slot.end(number, whole)

    def poll(self) -> Plan | None:
        if not self._handing_on.acquire(blocking=False):
            return None  # the loop waits for nothing
        try:
            self._slot.poll()
            plan = self._planner.poll()
        except PlannerError:
            self._slot.drop()
            self._under_way = False
            raise
        finally:
            self._handing_on.release()
        if plan is None:
            return None
        self._under_way = False
        return replace(plan, perceived_in=self._perceived_in)

    def close(self) -> None:
        self._slot.close()
        self._worker.close()
        self._planner.close()


def pack_sights(sights: Sequence[Sight]) -> dict[str, NDArray[Any]]:
    """Sights of several steps as arrays: numbers (To,) of the pictures, poses (To, 4, 4) of the tool."""
    first = sights[0]
    arrays: dict[str, NDArray[Any]] = {
        _PICTURE + name: np.array([sight.pictures[name] for sight in sights], np.int64) for name in first.pictures
    }
    arrays |= {_TOOL + name: np.stack([sight.tools[name].matrix for sight in sights]) for name in first.tools}
    return arrays


def unpack_sights(arrays: Mapping[str, NDArray[Any]]) -> list[Sight]:
    """As they were before `pack_sights`."""
    pictures = {key.removeprefix(_PICTURE): value for key, value in arrays.items() if key.startswith(_PICTURE)}
    tools = {key.removeprefix(_TOOL): value for key, value in arrays.items() if key.startswith(_TOOL)}
    return [
        Sight(
            {name: int(numbers[step]) for name, numbers in pictures.items()},
            {name: Pose.from_matrix(poses[step]) for name, poses in tools.items()},
        )
        for step in range(len(next(iter(pictures.values()))))
    ]


def perceive(
    scene: Scene, rings: Mapping[str, RingReader], sights: Sequence[Sight], keys: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """{key: (To, *shape)} of the sights of To steps. RingError when a picture is not in its ring any more."""
    steps = []
    for sight in sights:
        frames = {}
        for name, number in sight.pictures.items():
            item = rings[name].read(number)
            if item is None:
                raise RingError(f"camera {name!r}: picture {number} was overwritten before it was looked at")
            frames[name] = CameraFrame(item.stamp, item.tag, item.arrays["image"], item.arrays.get("depth"))
        steps.append(scene.observe(frames, sight.tools))
    return {key: np.stack([step[key] for step in steps]) for key in keys}


# -- in the other process --------------------------------------------------------------------------------


def _child(pipe: Connection, setup: _Setup) -> None:
    try:
        scene = Scene(setup.settings, setup.cameras)
        rings = {name: RingReader(info) for name, info in setup.rings.items()}
        # libraries load at the first use, which must not be an arm's
        tools = {name: Pose([0, 0, 0], np.eye(3)) for name in scene.needs_tool}
        perceive(scene, rings, [Sight({name: ring.written - 1 for name, ring in rings.items()}, tools)], setup.keys)
    except (CalibrationError, PerceptionError, RingError) as error:
        pipe.send_bytes(pack_failure(0, str(error)))
        return
    pipe.send_bytes(pack_arrays(0, {}))
    while True:
        try:
            asked = unpack_arrays(pipe.recv_bytes())
        except (OSError, EOFError):  # the parent is gone
            return
        assert not isinstance(asked, Failure)
        number, arrays = asked
        try:
            answer = pack_arrays(number, perceive(scene, rings, unpack_sights(arrays), setup.keys))
        except (CalibrationError, PerceptionError, RingError) as error:
            answer = pack_failure(number, str(error))
        try:
            pipe.send_bytes(answer)
        except OSError:
            return
