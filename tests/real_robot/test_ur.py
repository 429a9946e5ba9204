"""The UR driver on the fake controller, by the unmodified ur_rtde: every fault, where the arm ended and how soon.

Distances and times are of the fake's own record of the arm, whose stamps are those of the same computer's clock.
"""

import builtins
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from ur_bench import PERIOD, connected, follow, fresh_fake, program, settings_for

from real_robot.contract import RobotError
from real_robot.drivers import ur
from real_robot.drivers.ur import URRobot
from real_robot.drivers.ur_receive import ClockOffset, mode_of
from real_robot.drivers.ur_settings import URSettings
from real_robot.fakes.ur_controller import FakeUR
from real_robot.fakes.ur_controller.arm import CYCLE
from real_robot.poses import Pose
from real_robot.types import RobotMode, Target

pytestmark = [pytest.mark.sim, pytest.mark.realtime]
SPEED = 0.1
# what the driver allows itself here (0.5 s), the way of braking, and what a busy machine may add; the times of the
# settings as shipped are in test_ur_stops.py
STOPS_WITHIN = 1.5


@pytest.fixture
def fake() -> FakeUR:
    return fresh_fake()


@pytest.fixture
def robot(fake: FakeUR) -> Iterator[URRobot]:
    with connected(fake) as robot:
        yield robot


def _largest_step(fake: FakeUR, since: float) -> float:
    """Metres between one cycle and the next."""
    return float(fake.track(since).steps().max())


def _refuses(robot: URRobot, match: str) -> None:
    with pytest.raises(RobotError, match=match):
        robot.command(Target(robot.observe().pose, 0.04), time.monotonic() + 0.1)


def test_features_and_settings_without_a_connection() -> None:
    robot = URRobot(URSettings.from_config({"address": "127.0.0.1", "base_yaw": 0.5, "gripper": {"stroke": 0.14}}))
    features = robot.features
    assert (features.arm, features.command_hz, features.base_yaw, features.gripper) == ("ur5e", 125.0, 0.5, (0.0, 0.14))
    assert features.joint_high.tolist() == pytest.approx([2 * np.pi] * 2 + [np.pi] + [2 * np.pi] * 3)
    assert not robot.connected
    robot.stop()
    robot.disconnect()
    for call in (robot.observe, robot.recover):
        with pytest.raises(RobotError, match="not connected"):
            call()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"command_hz": 1000}, "command_hz: expected 10 to 500"),
        ({"lookahead": float("nan")}, "lookahead"),
        ({"arm": "panda"}, "arm: expected one of ur5e"),
        ({"tcp": [0, 0, float("nan"), 0, 0, 0]}, "tcp"),
        ({"address": None}, "address: missing"),
        ({"gian": 300}, "robot.gian: no such key"),
        ({"gripper": {"strok": 0.1}}, "robot.gripper.strok"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        URSettings.from_config({"address": "127.0.0.1", **change})


def test_the_shipped_configuration_is_read_whole() -> None:
    node = yaml.safe_load((Path(__file__).parents[2] / "configs/robot/ur5e.yaml").read_text())
    assert node.pop("driver") == "ur"
    assert node.pop("address") == "???"
    # it names every setting, with the values that are the driver's own
    assert URSettings.from_config({"address": "127.0.0.1", **node}) == URSettings("127.0.0.1")
    assert set(node) | {"address"} == {field.name for field in fields(URSettings)}


def test_nobody_there_and_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = URRobot(URSettings("127.0.0.254"))
    with pytest.raises(RobotError, match="switched on"):
        robot.connect()
    assert not robot.connected
    monkeypatch.setattr(ur.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RobotError, match=r"pip install 'equidiff\[ur\]'"):
        robot.connect()


def test_state_is_fresh_in_the_base_frame_of_the_model(robot: URRobot, fake: FakeUR) -> None:
    fake.push([1, 2, 3, 4, 5, 6])
    time.sleep(0.1)
    state, truth = robot.observe(), fake.status()
    assert -0.002 < time.monotonic() - state.stamp < 0.5
    assert np.allclose(state.joints, truth["joints"])
    assert np.allclose(state.pose.position, np.array(truth["pose"][:3]) * [-1, -1, 1])
    # robosuite's UR5e reaches forward along +x
    assert state.pose.position[0] > 0.3
    assert state.wrench is not None
    assert np.allclose(state.wrench, [-1, -2, 3, -4, -5, 6])
    assert state.mode is RobotMode.READY
    assert robot.connected
    with pytest.raises(RobotError, match="connected already"):
        robot.connect()


@pytest.mark.slow
def test_stamps_tell_when_it_was_measured(robot: URRobot, fake: FakeUR) -> None:
    """A motion seen by its stamps is where the fake says it was at those times."""
    begin = time.monotonic()
    seen = []

    def watch() -> bool:
        state = robot.observe()
        seen.append((state.stamp, state.pose.position[2]))
        return False

    assert follow(robot, 0.8, until=watch) is None
    track = fake.track(begin - 0.5)
    stamps, heights = np.array(seen).T
    assert (np.diff(stamps) >= 0).all()
    assert len(set(stamps)) > 8
    there = np.interp(stamps, track.stamps, track.tool[:, 2])
    # at 0.1 m/s, a millimetre is 10 ms
    assert np.median(np.abs(there - heights)) < 0.0015


def test_homing_arrives_and_is_refused_outside_the_limits(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    goal = robot.observe().joints + np.array([0.15, -0.1, 0.1, 0, 0, 0.15])
    robot.move_joints(goal, 0.8)
    assert np.abs(np.array(fake.status()["joints"]) - goal).max() < 1e-3
    assert _largest_step(fake, begin) < 0.8 * 1.3 * CYCLE  # m: speed of the joint at the arm's whole length
    with pytest.raises(RobotError, match="outside the limits"):
        robot.move_joints(np.array([0, 0, 4.0, 0, 0, 0]), 0.5)
    with pytest.raises(RobotError, match="speed"):
        robot.move_joints(goal, 10.0)
    with pytest.raises(ValueError, match="finite"):
        robot.move_joints(np.full(6, np.nan), 0.5)


def test_follows_targets_and_refuses_jumps_nonsense_and_the_past(robot: URRobot, fake: FakeUR) -> None:
    start, begin = robot.observe().pose, time.monotonic()
    assert follow(robot, 0.5, SPEED) is None
    moved = robot.observe().pose.position - start.position
    assert 0.02 < moved[2] < 0.06
    assert np.abs(moved[:2]).max() < 1e-3
    assert robot.observe().gripper < 0.08
    time.sleep(0.5)
    now = time.monotonic()
    here = robot.observe().pose
    sent = robot.command(Target(here, 0.5), now + 0.1)
    assert (sent.target.pose, sent.at) == (here, now + 0.1)
    assert sent.target.gripper == pytest.approx(0.085)  # what the gripper can
    assert now <= sent.sent <= time.monotonic()
    away = Pose(here.position + [0.1, 0, 0], here.rotation)
    for pose, opening, at, match in (
        (away, 0.04, 0.1, "a jump of 0.1"),
        (here, np.nan, 0.1, "not finite"),
        (here, 0.04, np.inf, "not finite"),
        (here, 0.04, -1.0, "from now"),
    ):
        with pytest.raises(RobotError, match=match):
            robot.command(Target(pose, opening), time.monotonic() + at)
    broken = Pose(here.position, here.rotation)
    object.__setattr__(broken, "position", np.full(3, np.nan))
    with pytest.raises(RobotError, match="not finite"):
        robot.command(Target(broken, 0.04), time.monotonic() + 0.1)
    assert _largest_step(fake, begin) < 3 * SPEED * CYCLE


def test_rests_when_commands_cease_and_starts_again_where_it_is(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    assert follow(robot, 0.4, SPEED) is None
    last = time.monotonic()
    time.sleep(0.8)
    track = fake.track(begin)
    assert track.rest_since() - last < STOPS_WITHIN
    # servoj would have gone on to the last target alone; that the driver stopped it is in its own words
    assert robot._servo is not None
    assert any("no command for" in str(event.get("why")) for event in robot._servo.events)
    assert robot.observe().mode is RobotMode.READY
    assert follow(robot, 0.3, SPEED) is None
    assert _largest_step(fake, begin) < 3 * SPEED * CYCLE


@pytest.mark.slow
def test_stop_from_another_thread_holds_while_commands_keep_coming(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    called: list[float] = []

    def stop() -> None:
        time.sleep(0.4)
        called.append(time.monotonic())
        robot.stop()
        robot.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    error = follow(robot, 3.0, SPEED)
    thread.join()
    assert error is not None
    assert "stopped" in str(error)
    # it stays at rest for whoever goes on commanding, and for homing
    pose = robot.observe().pose
    for _ in range(60):
        with pytest.raises(RobotError, match="stopped"):
            robot.command(Target(pose, 0.04), time.monotonic() + 0.1)
        time.sleep(PERIOD)
    with pytest.raises(RobotError, match="stopped"):
        robot.move_joints(robot.observe().joints + 0.1, 0.5)
    track = fake.track(begin)
    assert track.rest_since() - called[0] < STOPS_WITHIN
    way = track.tool[-1, 2] - np.interp(called[0], track.stamps, track.tool[:, 2])
    assert -0.001 < way < 0.02
    time.sleep(0.5)  # nobody wants anything: over
    assert robot.observe().mode is RobotMode.READY
    assert follow(robot, 0.2, SPEED) is None
    robot.stop()
    robot.recover()
    assert follow(robot, 0.2, SPEED) is None


def test_stop_while_homing(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    threading.Timer(0.4, robot.stop).start()
    with pytest.raises(RobotError, match="stopped"):
        robot.move_joints(robot.observe().joints + np.array([1.5, 0, 0, 0, 0, 0]), 0.5)
    time.sleep(0.6)
    track = fake.track(begin)
    assert track.rest_since() < begin + 0.4 + STOPS_WITHIN
    assert abs(track.joints[-1, 0] - track.joints[0, 0]) < 0.8


def test_a_frozen_program_stops_homing_and_it_does_not_go_on_after_it(fake: FakeUR) -> None:
    """Nobody reads the dead-man switch any more."""
    with program(fake, "home") as process:
        frozen, begin = time.monotonic(), time.monotonic() - 0.2
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        track = fake.track(begin)
        assert track.rest_since() - frozen < 0.4 + 0.5 / 3.0 + 0.4  # the timeout, braking, and a busy machine
        assert fake.status()["counts"]["watchdog_stops"] == 0
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        # what it says itself after the freeze may be that its measurements are old
        assert "after recover()" in told["why"]
        (why,) = [event["why"] for event in told["events"] if event["event"] == "stopped"]
        assert "no sign of life" in why
        assert np.abs(fake.track(begin).joints[-1] - track.joints[-1]).max() < 1e-6


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_homing_ends_with_the_program(fake: FakeUR, how: str) -> None:
    with program(fake, "home", watchdog_hz=1.0) as process:
        ended, begin = time.monotonic(), time.monotonic() - 0.2
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
        time.sleep(0.9)
        track = fake.track(begin)
        assert track.rest_since() - ended < 0.5 / 3.0 + 0.4
        assert fake.status()["counts"]["watchdog_stops"] == 0 or how == "killed"


def test_ctrl_c_reaches_the_arm_as_a_stop(fake: FakeUR) -> None:
    """A terminal sends it to the whole process group: the servo process must live on to be told to stop."""
    with program(fake, "follow") as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert (told["why"], told["alive"]) == ("interrupted", True)
        assert [(event["why"], event["ok"]) for event in told["events"] if event["event"] == "stopped"] == [
            ("stop", True)
        ]
        assert fake.status()["counts"]["watchdog_stops"] == 0


def test_the_servo_process_is_ended_by_its_driver_only(robot: URRobot, fake: FakeUR) -> None:
    assert robot._servo is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        robot._servo._process.send_signal(number)
    assert follow(robot, 0.3, SPEED) is None
    assert robot._servo.alive


@pytest.mark.slow
@pytest.mark.parametrize("clock_stands", [False, True])
def test_no_jump_after_a_freeze(robot: URRobot, fake: FakeUR, clock_stands: bool) -> None:
    begin = time.monotonic()
    assert follow(robot, 0.4, SPEED) is None
    fake.freeze(1.6, clock_stands=clock_stands)
    frozen = time.monotonic()
    error = follow_on(robot, 3.0)
    assert error is not None
    assert "old" in str(error)
    assert time.monotonic() - frozen < 1.4  # while it is still frozen
    time.sleep(max(0.0, frozen + 1.3 - time.monotonic()))
    assert time.monotonic() - robot.observe().stamp > 1.0  # what it shows is no fresh state
    time.sleep(1.2)
    _refuses(robot, "after recover")
    track = fake.track(begin)
    # the largest distance between one measured pose and the next, the release included
    assert track.steps().max() < 3 * SPEED * CYCLE
    at_freeze = np.interp(frozen, track.stamps, track.tool[:, 2])
    assert abs(track.tool[-1, 2] - at_freeze) < 0.02
    robot.recover()
    assert follow(robot, 0.2, SPEED) is None
    assert _largest_step(fake, begin) < 3 * SPEED * CYCLE


def follow_on(robot: URRobot, seconds: float) -> RobotError | None:
    """As `follow`, from the last target on."""
    assert robot._last is not None
    start, begin = robot._last[0], time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        try:
            target = Pose(start.position + np.array([0, 0, SPEED * passed]), start.rotation)
            robot.command(Target(target, 0.04), time.monotonic() + 0.1)
        except RobotError as error:
            return error
        time.sleep(PERIOD)
    return None


@pytest.mark.slow
def test_dropped_connection_stops_and_is_not_mended_behind_the_back(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    assert follow(robot, 0.4, SPEED) is None
    dropped = time.monotonic()
    fake.drop()
    error = follow_on(robot, 3.0)
    assert error is not None
    time.sleep(0.2)
    with pytest.raises(RobotError, match="lost"):
        robot.observe()
    assert not robot.connected
    time.sleep(1.2)
    track = fake.track(begin)
    assert track.rest_since() - dropped < STOPS_WITHIN
    assert track.steps().max() < 3 * SPEED * CYCLE
    with pytest.raises(RobotError, match="after recover"):
        robot.command(Target(Pose(np.zeros(3), np.eye(3)), 0.04), time.monotonic() + 0.1)
    robot.recover()
    assert robot.observe().mode is RobotMode.READY
    assert follow(robot, 0.2, SPEED) is None


def test_protective_stop_is_told_and_nothing_resumes(robot: URRobot, fake: FakeUR) -> None:
    begin = time.monotonic()
    assert follow(robot, 0.4, SPEED) is None
    hit = time.monotonic()
    fake.protective_stop()
    error = follow_on(robot, 2.0)
    assert error is not None  # what is seen first on a busy machine may be an old measurement
    assert robot.observe().mode is RobotMode.PROTECTIVE_STOP
    _refuses(robot, "protective_stop")
    track = fake.track(begin)
    assert track.rest_since() - hit < 0.5
    robot.recover()  # the fake's program was paused: unlocking alone would let it go on to its last target
    time.sleep(0.2)
    after = fake.track(track.stamps[-1])
    assert np.abs(after.joints - track.joints[-1]).max() < 1e-6
    assert robot.observe().mode is RobotMode.READY
    assert follow(robot, 0.2, SPEED) is None


@pytest.mark.slow
def test_emergency_stop_needs_the_operator(robot: URRobot, fake: FakeUR) -> None:
    fake.emergency_stop()
    time.sleep(0.3)
    assert robot.observe().mode is RobotMode.EMERGENCY_STOP
    _refuses(robot, "emergency_stop")
    with pytest.raises(RobotError, match="on the pendant"):
        robot.recover()
    assert robot.observe().mode is RobotMode.EMERGENCY_STOP  # it still measures
    fake.release_emergency()
    robot.recover()
    assert robot.observe().mode is RobotMode.READY


@pytest.mark.slow
def test_a_frozen_controller_is_waited_for_no_longer_than_asked(fake: FakeUR) -> None:
    fake.freeze(4.0)
    robot, begin = URRobot(settings_for(fake, connect_timeout=0.4)), time.monotonic()
    with pytest.raises(RobotError, match=r"frozen|no answer in time"):
        robot.connect()
    assert time.monotonic() - begin < 3.5
    assert not robot.connected
    time.sleep(4.2)
    with connected(fake) as again:
        fake.freeze(1.5)
        time.sleep(0.7)
        with pytest.raises(RobotError, match="still frozen"):
            again.recover()
        time.sleep(1.3)
        again.recover()
        assert again.observe().mode is RobotMode.READY


@pytest.mark.slow
def test_a_program_ended_on_the_pendant_is_a_fault(robot: URRobot, fake: FakeUR) -> None:
    fake.stop_program()
    time.sleep(0.3)
    assert robot.observe().mode is RobotMode.FAULT
    _refuses(robot, "the control script ended")
    robot.recover()
    assert robot.observe().mode is RobotMode.READY


@pytest.mark.slow
def test_slow_network_shows_as_old_stamps(robot: URRobot, fake: FakeUR) -> None:
    fake.delay(0.8)
    time.sleep(1.2)
    age = time.monotonic() - robot.observe().stamp
    assert 0.7 < age < 1.8
    _refuses(robot, "old|late")
    fake.delay(0.0)
    robot.recover()
    assert time.monotonic() - robot.observe().stamp < 0.5


@pytest.mark.slow
def test_the_controllers_watchdog_stops_the_arm_of_a_dead_process(fake: FakeUR) -> None:
    with connected(fake, watchdog_hz=5.0) as robot:
        begin = time.monotonic()
        assert follow(robot, 0.4, SPEED) is None
        assert robot._servo is not None
        killed = time.monotonic()
        robot._servo._process.kill()
        error = follow_on(robot, 2.0)
        assert error is not None
        time.sleep(0.8)
        assert fake.status()["counts"]["watchdog_stops"] >= 1
        assert fake.track(begin).rest_since() - killed < STOPS_WITHIN
        assert robot.observe().mode is RobotMode.FAULT


@pytest.mark.slow
def test_gripper_moves_holds_and_is_missed(robot: URRobot, fake: FakeUR) -> None:
    pose = robot.observe().pose
    fake.block_gripper(128.0)
    for _ in range(60):
        robot.command(Target(pose, 0.0), time.monotonic() + 0.1)
        time.sleep(0.02)
    assert robot.observe().gripper == pytest.approx(0.085 * (1 - 128 / 255), abs=1e-3)
    fake.drop()
    time.sleep(0.3)
    assert robot._gripper is not None
    with pytest.raises(RobotError, match="URCap"):
        robot._gripper.read()


def test_remote_control_is_asked_for(fake: FakeUR) -> None:
    fake.remote(False)
    robot = URRobot(URSettings(fake.address))
    with pytest.raises(RobotError, match="remote control"):
        robot.connect()
    assert not robot.connected


def test_modes_from_the_bits_of_the_maker() -> None:
    assert mode_of(7, 1, 2) is RobotMode.READY
    assert mode_of(7, 1, 1) is RobotMode.FAULT
    assert mode_of(7, 1 << 2, 2) is RobotMode.PROTECTIVE_STOP
    assert mode_of(7, 1 << 4, 2) is RobotMode.PROTECTIVE_STOP
    assert mode_of(3, 1 << 6 | 1 << 2, 1) is RobotMode.EMERGENCY_STOP
    assert mode_of(7, 1 << 9, 2) is RobotMode.FAULT
    assert mode_of(5, 1, 1) is RobotMode.IDLE


def test_clock_offset_forgets_after_its_time_and_is_never_late() -> None:
    rng, offset = np.random.default_rng(0), ClockOffset(seconds=5)
    for now in np.arange(100.0, 103.0, 0.002):
        late = rng.exponential(0.004)
        found = offset.add(float(now), float(now) - 42.0 - late)
        assert found >= 42.0
    assert found < 42.0 + 1e-3
    for now in np.arange(103.0, 112.0, 0.002):  # the other clock lost a second
        found = offset.add(float(now), float(now) - 43.0)
    assert found == pytest.approx(43.0)


def test_servo_process_imports_nothing_heavy() -> None:
    """It has to start fast, and to go on when this process is busy."""
    real, seen = builtins.__import__, set()

    def spy(name: str, *args: object, **more: object) -> object:
        seen.add(name.split(".")[0])
        return real(name, *args, **more)

    import importlib

    import real_robot.drivers.ur_servo as module

    builtins.__import__ = spy
    try:
        importlib.reload(module)
    finally:
        builtins.__import__ = real
    assert not seen & {"numpy", "torch", "equidiff"}
