"""Pilot, loop and playback on a toy arm with time that passes exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from teleop_toys import GRIPPER, PUSH, START, Rig, ToyArm, ToyFault, ToyGate, ended, episode, released

from real_robot.clock import ManualClock
from real_robot.operator import Button, Moment, OperatorState, ScriptedOperator
from real_robot.poses import Pose, exp_map
from real_robot.teleop.errors import RecordingError, TeleopError
from real_robot.teleop.loop import End, Listener, Loop, LoopSettings, Source, Tick
from real_robot.teleop.pilot import Pilot, PilotSettings
from real_robot.teleop.playback import Playback, read_actions
from real_robot.types import RobotMode, Target
from real_robot.world import World

PLAIN = {"deadband": 0.0, "expo": 0.0}
WIDE = {"ahead_of_sent": (1.0, 1.0), "ahead_of_measured": (1.0, 1.0)}


def wish(*twist: float, pressed: frozenset[Button] = frozenset()) -> OperatorState:
    return OperatorState(0, True, False, np.array([*twist, *[0.0] * (6 - len(twist))]), pressed)


def pilot(**settings: object) -> Pilot:
    made = Pilot(PilotSettings(**{**PLAIN, **WIDE, **settings}), GRIPPER)  # type: ignore[arg-type]
    made.engage(Target(START, GRIPPER[1]))
    return made


# -- pilot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "twist", "move"),
    [
        ({}, (1, 0, 0), (0.15, 0, 0)),
        ({"linear": 0.3}, (0, 0, -0.5), (0, 0, -0.15)),
        ({}, (1, 1, 0), (0.15 / np.sqrt(2), 0.15 / np.sqrt(2), 0)),  # no faster in a corner
        ({"deadband": 0.1}, (0.1, 0.55, 0), (0, 0.075, 0)),
        ({"expo": 1.0}, (0.5, 0, 0), (0.15 / 8, 0, 0)),
        ({"view": np.pi / 2}, (1, 0, 0), (0, 0.15, 0)),
        ({"frame": "tool"}, (0, 0.2, 0.8), (0, -0.03, -0.12)),  # the tool looks down
    ],
)
def test_a_second_of_pushing_moves_as_the_settings_say(settings: dict, twist: tuple, move: tuple) -> None:
    one = pilot(**settings)
    for _ in range(100):
        target = one.step(wish(*twist), Target(START, 0), START, 0.01)
    np.testing.assert_allclose(target.pose.position - START.position, np.array(move), atol=1e-9)
    np.testing.assert_allclose(target.pose.rotation, START.rotation, atol=1e-9)


@pytest.mark.parametrize("frame", ["base", "tool"])
def test_turns_are_about_the_tool_along_the_axes_of_the_frame(frame: str) -> None:
    one = pilot(frame=frame)
    for _ in range(100):
        target = one.step(wish(0, 0, 0, 0, 0, 1), Target(START, 0), START, 0.01)
    turn = exp_map([0, 0, 0.6])
    want = START.rotation @ turn if frame == "tool" else turn @ START.rotation
    np.testing.assert_allclose(target.pose.rotation, want, atol=1e-9)
    np.testing.assert_allclose(target.pose.position, START.position, atol=1e-12)


def test_a_target_leads_by_no_more_than_it_may() -> None:
    one = pilot(ahead_of_sent=(0.02, 0.1), ahead_of_measured=(0.03, 0.2))
    for _ in range(300):
        target = one.step(wish(1, 0, 0, 0, 0, 1), Target(START, 0), START, 0.01)
    assert target.pose.distance(START) == pytest.approx((0.02, 0.1))
    behind = Pose(START.position - [0.02, 0, 0], START.rotation)
    target = one.step(wish(1, 0, 0), Target(START, 0), behind, 0.01)
    assert target.pose.distance(behind)[0] == pytest.approx(0.03)


def test_a_lag_of_the_arm_does_not_make_the_target_drift() -> None:
    one = pilot(ahead_of_measured=(0.05, 0.3))
    sagging = Pose(START.position - [0, 0, 0.01], START.rotation)
    for _ in range(500):
        target = one.step(wish(), Target(START, 0), sagging, 0.01)
    assert target.pose.distance(START) == pytest.approx((0, 0))


def test_the_gripper_toggles_and_starts_where_it_was_told_to_be() -> None:
    one, press = pilot(), frozenset({Button.GRIPPER})
    here = Target(START, GRIPPER[1])
    openings = [one.step(wish(pressed=p), here, START, 0.01).gripper for p in (frozenset(), press, frozenset(), press)]
    assert openings == [0.08, 0, 0, 0.08]
    one.step(wish(pressed=press), here, START, 0.01)
    one.engage(Target(START, 0.05))  # the fingers rest on something wide
    assert one.step(wish(), here, START, 0.01).gripper == 0
    fresh = Pilot(PilotSettings(), GRIPPER)
    for measured, told in ((0.0795, 0.08), (0.002, 0.0), (0.05, 0.05)):
        fresh = Pilot(PilotSettings(), GRIPPER)
        fresh.engage(Target(START, measured))
        assert fresh.step(wish(), here, START, 0.01).gripper == told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": "tol"}, "did you mean 'tool'"),
        ({"linear": float("nan")}, "pilot.linear: expected 0 to 1"),
        ({"linear": 2}, "pilot.linear: expected 0 to 1, got 2"),
        ({"ahead_of_sent": (0, 1)}, "pilot.ahead_of_sent"),
        ({"view": float("inf")}, "pilot.view"),
    ],
)
def test_mistakes_in_the_pilots_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(TeleopError, match=message):
        PilotSettings(**settings)


# -- loop ----------------------------------------------------------------------------------------------


class Bench:
    """A loop on the toy arm that keeps its ticks."""

    def __init__(self, *script: Moment, source: Source | None = None, **settings: object) -> None:
        self.clock = ManualClock(50.0, step=0.01)
        self.arm, self.gate = ToyArm(self.clock), ToyGate()
        self.ticks: list[Tick] = []
        self.said: list[str] = []
        self.operator = ScriptedOperator(script)
        self.operator.connect()
        source = source or Pilot(PilotSettings(**PLAIN), GRIPPER)  # type: ignore[arg-type]
        self.listeners: list[Listener] = [self._keep]
        self.loop = Loop(
            self.arm,
            self.gate,
            self.operator,
            self.clock,
            source,
            [lambda tick: next((e for one in self.listeners if (e := one(tick)) is not None), None)],
            LoopSettings(**settings),  # type: ignore[arg-type]
            self.said.append,
        )

    def _keep(self, tick: Tick) -> End | None:
        self.ticks.append(tick)
        return End.END if Button.END in tick.wish.pressed else None

    def y(self, after: float) -> float:
        """How far the arm was pushed by `after` seconds."""
        tick = next(tick for tick in self.ticks if tick.now >= 49.995 + after)
        return float(tick.state.pose.position[1] - START.position[1])


def test_the_arm_moves_while_the_switch_is_held() -> None:
    bench = Bench(released(0), Moment(0.5, PUSH), released(1.5), Moment(2.5, PUSH), ended(3.0))
    assert bench.loop.run() is End.END
    assert bench.y(0.5) == 0
    assert 0.11 < bench.y(1.5) < 0.15
    assert bench.y(1.8) == pytest.approx(bench.y(2.5), abs=1e-4)
    assert bench.y(3.0) > bench.y(2.5) + 0.03
    assert bench.arm.stops == 1
    assert len(bench.ticks) == 301
    assert bench.arm.sent[0].sent == pytest.approx(50.5)  # nothing is sent before the switch is pressed
    assert len(bench.arm.sent) == 251
    gaps = np.diff([sent.sent for sent in bench.arm.sent])
    np.testing.assert_allclose(gaps, 0.01, atol=1e-9)
    assert all(sent.at == pytest.approx(sent.sent + 0.01) for sent in bench.arm.sent)


def test_a_switch_that_was_held_before_the_start_does_not_count() -> None:
    bench = Bench(Moment(0, PUSH), released(1), Moment(1.2, PUSH), ended(2))
    bench.loop.run()
    assert bench.y(1.0) == 0
    assert bench.y(2.0) > 0.05


def test_a_stop_ends_it_at_once() -> None:
    bench = Bench(released(0), Moment(0.2, PUSH), Moment(0.7, PUSH, stop=True), Moment(1, PUSH))
    assert bench.loop.run() is End.STOP
    assert bench.clock.now() == pytest.approx(50.7)
    assert bench.arm.stops == 2
    assert bench.arm.sent[-1].sent < 50.7  # nothing was sent in the tick of the stop


@pytest.mark.parametrize(
    ("wreck", "message"),
    [
        (lambda arm: setattr(arm, "age", 0.2), "0.200 s old"),
        (lambda arm: setattr(arm, "age", -1.0), "-1.000 s old"),
        (lambda arm: setattr(arm, "mode", RobotMode.PROTECTIVE_STOP), "reports protective_stop"),
        (lambda arm: setattr(arm, "mode", RobotMode.IDLE), "reports idle"),
    ],
)
def test_an_arm_that_is_old_news_or_not_ready_is_not_commanded(wreck: object, message: str) -> None:
    bench = Bench(released(0), Moment(0.2, PUSH))

    def fault(tick: Tick) -> End | None:
        if tick.now >= 50.495:
            wreck(bench.arm)  # type: ignore[operator]
        return None

    bench.listeners.append(fault)
    with pytest.raises(TeleopError, match=message):
        bench.loop.run()
    assert bench.arm.stops == 1
    assert bench.arm.sent[-1].sent < 50.505


def test_a_fault_of_the_gate_holds_until_the_switch_is_pressed_anew() -> None:
    bench = Bench(released(0), Moment(0.2, PUSH), released(2.0), Moment(2.2, PUSH), ended(3.0))

    def fault(tick: Tick) -> End | None:
        if 50.495 <= tick.now < 50.505:
            bench.gate.fault = ToyFault("force", "12 N")
        return None

    bench.listeners.append(fault)
    bench.loop.run()
    assert bench.y(1.0) == pytest.approx(bench.y(2.0), abs=1e-6)
    assert bench.y(3.0) > bench.y(2.0) + 0.05
    assert any(text.startswith("force: 12 N. Release") for text in bench.said)


def test_a_loop_that_hung_does_not_go_on_with_a_held_switch() -> None:
    bench = Bench(released(0), Moment(0.2, PUSH), released(3.0), Moment(3.2, PUSH), ended(4))
    hung: list[float] = []

    def hang(tick: Tick) -> End | None:
        if tick.now >= 50.495 and not hung:
            hung.append(tick.now)
            bench.clock.sleep_until(tick.now + 0.5)
        return None

    bench.listeners.append(hang)
    bench.loop.run()
    active = [tick.now - 50 for tick in bench.ticks if tick.active]
    assert not [t for t in active if 0.52 < t < 3.19]
    assert [t for t in active if t > 3.19]
    assert bench.y(3.0) == pytest.approx(bench.y(1.2), abs=1e-3)


def test_going_on_waits_until_the_arm_rests() -> None:
    bench = Bench(released(0), Moment(0.2, PUSH), released(0.7), Moment(0.71, PUSH), ended(1.5))
    bench.arm.lag = 0.2  # swings on long after the setpoint rests
    bench.loop.run()
    assert "waits until the arm rests" in bench.said
    starts = [t.now for t, before in zip(bench.ticks[1:], bench.ticks, strict=False) if t.active and not before.active]
    assert starts[1] > 50.75


def test_a_wall_is_left_without_delay() -> None:
    bench = Bench(released(0), Moment(0.2, (1, 0, 0, 0, 0, 0)), Moment(2, (-1, 0, 0, 0, 0, 0)), ended(2.5))
    bench.gate.wall = START.position[0] + 0.05
    bench.loop.run()
    x = {round(t.now - 50, 2): t.state.pose.position[0] for t in bench.ticks}
    assert x[1.99] == pytest.approx(bench.gate.wall)
    assert x[2.2] < bench.gate.wall - 0.005


# -- replay --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "demos.hdf5"
    script = [released(0), *episode(0.2, "success", push=(0.5, 1, 0.5, 0, 0, 0.5)), ended(2.0)]
    Rig(path, script, cameras=0, base_yaw=0.7).run()
    return path


def playback(path: Path) -> Playback:
    return Playback(read_actions(path), World.of(ToyArm(ManualClock(), base_yaw=0.7).features))


def test_a_replay_repeats_the_motion(recorded: Path) -> None:
    actions = read_actions(recorded)
    source = playback(recorded)
    bench = Bench(released(0), Moment(0.1), source=source, release_ends=True)
    offset = np.array([0.02, 0, 0])
    bench.arm.pose = bench.arm._before = Pose(START.position + offset, START.rotation)
    assert bench.loop.run() is End.FINISHED
    world = World.of(ToyArm(bench.clock, base_yaw=0.7).features)
    last = world.target(actions.actions[-1])
    assert bench.arm.pose.distance(last.pose)[0] < 0.005  # the toy's lag
    # 0.4 s for the 2 cm to the start, then a step each 1 / 20 s
    begun = next(tick.now for tick in bench.ticks if tick.active)
    for k in range(len(actions.actions)):
        at = begun + 0.4 + (k + 1) / 20
        tick = min(bench.ticks, key=lambda tick: abs(tick.now + 0.01 - at))
        metres, radians = tick.target.pose.distance(world.target(actions.actions[k]).pose)
        assert metres < 1e-6
        assert radians < 1e-6


def test_a_replay_ends_with_the_release_of_the_switch(recorded: Path) -> None:
    bench = Bench(released(0), Moment(0.1), released(0.5), Moment(0.6), source=playback(recorded), release_ends=True)
    assert bench.loop.run() is End.RELEASED
    assert bench.clock.now() < 50.6


def test_a_replay_does_not_drive_far_to_its_start(recorded: Path) -> None:
    bench = Bench(released(0), Moment(0.1), source=playback(recorded), release_ends=True)
    bench.arm.pose = bench.arm._before = Pose(START.position + [0, 0, 0.2], START.rotation)
    with pytest.raises(TeleopError, match=r"200 mm and 0.00 rad from the start of the episode"):
        bench.loop.run()
    assert bench.arm.stops == 1


def test_episodes_to_replay_are_found_by_number(recorded: Path, tmp_path: Path) -> None:
    assert len(read_actions(recorded, 0).actions) == len(read_actions(recorded).actions)
    with pytest.raises(RecordingError, match=r"no episode 7; there are \[0\]"):
        read_actions(recorded, 7)
    with pytest.raises(RecordingError, match="mode=finish"):
        read_actions(tmp_path / "none.hdf5")
