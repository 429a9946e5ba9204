"""Histories aligned by the time of capture, devices of different delays together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from loop_toys import SPEC

from real_robot.contract import CameraError, RobotError
from real_robot.loop.cameras import CameraSensor
from real_robot.loop.history import StateHistory
from real_robot.loop.observer import Observer, ObserverError
from real_robot.loop.sensors import RobotSensor, Sensor
from real_robot.poses import Pose
from real_robot.rings import Item
from real_robot.types import RobotState
from real_robot.world import World

WORLD = World(Pose.from_rotvec([0.1, 0.2, 0.9], [0, 0, np.pi / 2]), (0.0, 0.08))


def state(stamp: float) -> RobotState:
    """Moves along x at 1 m/s and turns at 1 rad/s about z."""
    pose = Pose.from_rotvec([stamp, 0, 0.2], [0, 0, stamp])
    return RobotState(stamp, np.full(6, stamp), np.ones(6), pose, 0.08 * stamp)


def filled(until: float, every: float = 0.01) -> StateHistory:
    history = StateHistory()
    for stamp in np.arange(0, until + 1e-9, every):
        history.add(state(float(stamp)))
    return history


class Cube(Sensor):
    """A tracker that is `behind` the arm's measurements."""

    keys = ("cube_pos",)

    def __init__(self, newest: float) -> None:
        self._newest = newest

    @property
    def newest(self) -> float:
        return self._newest

    def at(self, stamp: float) -> dict[str, np.ndarray]:
        return {"cube_pos": np.array([stamp, 0, 0], np.float32)}


def test_states_between_measurements() -> None:
    history = filled(0.5, every=0.1)
    between = history.at(0.234)
    assert between.stamp == pytest.approx(0.234)
    assert between.pose.position[0] == pytest.approx(0.234)
    assert between.pose.rotvec[2] == pytest.approx(0.234)
    assert between.joints == pytest.approx(np.full(6, 0.234))
    assert history.at(9.0).stamp == pytest.approx(0.5)
    assert history.at(-1.0).stamp == 0.0
    history.add(state(0.3))  # late: left out
    assert history.newest.stamp == pytest.approx(0.5)
    history.clear()
    with pytest.raises(RobotError, match="no state was measured"):
        history.at(0.0)


def test_old_states_are_forgotten() -> None:
    history = filled(5.0)
    assert history.at(0.0).stamp == pytest.approx(3.0, abs=0.02)


def test_all_sensors_are_read_at_the_time_of_the_slowest() -> None:
    observer = Observer(SPEC, [RobotSensor(filled(0.5), WORLD), Cube(0.43)])
    observed = observer.observe()
    stamp, seen = observed.stamp, observed.arrays
    assert stamp == pytest.approx(0.43)
    assert observed.sights == ()
    times = [0.43 - 1 / SPEC.control_hz, 0.43]
    assert seen["cube_pos"][:, 0] == pytest.approx(times)
    # the world's frame: the base is turned by a quarter, so that its x is the world's y
    assert seen["robot0_eef_pos"][:, 1] == pytest.approx([0.2 + t for t in times])
    assert seen["robot0_eef_pos"][:, 0] == pytest.approx([0.1, 0.1], abs=1e-6)
    assert seen["robot0_gripper_qpos"][:, 0] == pytest.approx([0.04 * t for t in times])
    assert seen["robot0_gripper_qpos"][:, 1] == pytest.approx([-0.04 * t for t in times])
    yaw = 2 * np.arctan2(seen["robot0_eef_quat_site"][:, 2], seen["robot0_eef_quat_site"][:, 3])
    assert yaw == pytest.approx([np.pi / 2 + t for t in times])
    assert all(value.shape[0] == SPEC.horizon.obs for value in seen.values())


def test_what_no_sensor_gives_is_named() -> None:
    with pytest.raises(ObserverError, match="the policy reads 'cube_pos', which no sensor gives"):
        Observer(SPEC, [RobotSensor(filled(0.1), WORLD)])


class Camera:
    """Pictures each 50 ms from 0 on; the camera's own number is 100 more than the ring's."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.lost = False

    def glance(self) -> Item:
        if self.lost:
            raise CameraError("camera 'wrist': unplugged")
        return self._item(self.until)

    def find(self, stamps: Sequence[float]) -> list[Item]:
        return [self._item(min(self.until, max(0, round(s / 0.05)))) for s in stamps]

    def _item(self, number: int) -> Item:
        return Item(number, 0.05 * number, 100 + number, {})


def test_cameras_are_read_by_capture_and_told_once() -> None:
    told: list[tuple[str, int, float]] = []
    cameras = {"wrist": Camera(8), "top": Camera(6)}
    sensor = CameraSensor(["cube_pos"], cameras, filled(0.5), ["wrist"], lambda n, k, s: told.append((n, k, s)))
    observer = Observer(SPEC, [RobotSensor(filled(0.5), WORLD)], sensor)
    seen = observer.observe()
    assert seen.stamp == pytest.approx(0.3)  # of the camera that is behind
    assert "cube_pos" not in seen.arrays  # that is for the planner to make
    assert [dict(sight.pictures) for sight in seen.sights] == [{"wrist": 5, "top": 5}, {"wrist": 6, "top": 6}]
    # where the tool was when the picture was taken
    assert [sight.tools["wrist"].position[0] for sight in seen.sights] == pytest.approx([0.25, 0.3])
    assert all(set(sight.tools) == {"wrist"} for sight in seen.sights)
    assert observer.newest == pytest.approx(0.3)
    assert [entry[:2] for entry in told] == [("wrist", 108), ("top", 106)]
    cameras["wrist"].lost = True
    with pytest.raises(CameraError, match="unplugged"):
        observer.observe()


def test_cameras_that_the_policy_does_not_look_through_hold_nothing_up() -> None:
    camera = Camera(2)
    camera.lost = True
    sensor = CameraSensor(["top_image"], {"top": camera}, filled(0.5))
    seen = Observer(SPEC, [RobotSensor(filled(0.5), WORLD), Cube(0.43)], sensor).observe()
    assert seen.stamp == pytest.approx(0.43)
    assert seen.sights == ()
