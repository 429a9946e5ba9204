"""Each fault of a run, injected while the simulated arm moves: how it ends, where the arm is, how soon it rests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from loop_toys import SPEED, Bench, Run

from real_robot.contract import RobotError
from real_robot.loop.settings import RunSettings
from real_robot.operator.scripted import Moment
from real_robot.sim.robot import SimRobot
from real_robot.types import RobotMode, Sent, Target

pytestmark = pytest.mark.sim
SOON = 0.45
"""Seconds in which the simulator's soft controller comes to rest from these speeds, the way to notice included."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_without_a_fault_the_arm_follows_the_line(bench: Bench) -> None:
    ran = bench.run()
    assert ran.faults == []
    assert ran.path == ["homing", "ready", "running", "holding", "stopped"]
    assert ran.result.reason == "3.0 s are over"
    moved = ran.positions[-1] - ran.positions[0]
    assert moved[1] == pytest.approx(SPEED * 3, abs=0.03)
    assert np.abs(moved[[0, 2]]).max() < 0.01
    assert ran.stopped() < 3.0 + SOON


ENDS = {
    # fault: (what is injected, seconds until it is noticed at the latest)
    "stale_state": (lambda run: setattr(run.robot.faults, "mute", True), 0.12),
    "connection_lost": (lambda run: setattr(run.robot.faults, "disconnected", True), 0.12),
    "protective_stop": (lambda run: setattr(run.robot.faults, "mode", RobotMode.PROTECTIVE_STOP), 0.02),
    "emergency_stop": (lambda run: setattr(run.robot.faults, "mode", RobotMode.EMERGENCY_STOP), 0.02),
    "robot_fault": (lambda run: setattr(run.robot.faults, "mode", RobotMode.IDLE), 0.02),
    "sensor_lost": (lambda run: setattr(run.sensor, "unplugged", True), 0.02),
    "policy_lost": (lambda run: setattr(run.planner, "crashed", True), 0.02),
    "recording": (lambda run: setattr(run.memory, "full_at", run.now), 0.03),
}


@pytest.mark.parametrize("name", ENDS)
def test_faults_that_end_a_run(bench: Bench, name: str) -> None:
    inject, notice = ENDS[name]
    ran = bench.run(inject, at=1.0)
    assert ran.faults[0] == name
    assert ran.result.reason.startswith(name)
    assert ran.result.success is None
    assert ran.stopped() < 1.0 + notice + SOON
    assert ran.moved_after(1.0) < SPEED * (notice + SOON)
    assert ran.moved_after(1.0 + notice + SOON) < 0.002  # and stays there
    assert ran.largest_speed(1.0) < 2 * SPEED


def test_a_press_on_the_tool_is_a_fault_of_the_gate(bench: Bench) -> None:
    ran = bench.run(lambda run: setattr(run.robot.faults, "wrench_z", 50.0), gate={"force": 30.0})
    assert ran.faults == ["gate"]
    assert "force" in ran.result.reason
    assert ran.stopped() < 1.0 + 0.02 + SOON
    assert ran.path[-2:] == ["fault", "stopped"]


def collide(mode: RobotMode | None) -> Callable[[Run], None]:
    """A press that the gate sees, and at which the arm stops by itself, or is lost, before the next command arrives."""

    def inject(run: Run) -> None:
        command, faults = run.robot.command, run.robot.faults
        faults.wrench_z = 50.0

        def refuse(target: Target, at: float) -> Sent:
            faults.disconnected = mode is None
            faults.mode = mode or RobotMode.READY
            return command(target, at)

        run.robot.command = refuse  # type: ignore[method-assign]

    return inject


@pytest.mark.parametrize(("mode", "name"), [(RobotMode.PROTECTIVE_STOP, "protective_stop"), (None, "connection_lost")])
def test_a_fault_of_the_gate_and_a_refusal_in_the_same_tick_end_the_run(
    bench: Bench, mode: RobotMode | None, name: str
) -> None:
    ran = bench.run(collide(mode), gate={"force": 30.0}, settings=RunSettings(longest=20.0))
    assert ran.faults == ["gate", name]
    assert ran.path[-2:] == ["fault", "stopped"]
    assert ran.result.by == "fault"
    assert ran.result.reason.startswith(name)
    assert ran.result.seconds < 1.0 + 0.3  # the driver says a little later why it refused
    assert ran.stopped() < 1.0 + 0.12 + SOON
    assert ran.moved_after(1.0 + 0.12 + SOON) < 0.002


def test_the_operator_is_asked_after_a_fault_of_the_gate_and_a_refusal_in_the_same_tick(bench: Bench) -> None:
    def inject(run: Run) -> None:
        command = run.robot.command
        collide(RobotMode.PROTECTIVE_STOP)(run)
        run.bench.world.listeners.append(free := lambda now: release(now))

        def release(now: float) -> None:
            if now > run.start + 1.4:
                run.robot.faults.wrench_z = 0.0
                run.robot.command = command  # type: ignore[method-assign]
                run.bench.world.listeners.remove(free)

    hands = [Moment(0.0), Moment(1.6, pressed=("recover",)), Moment(2.0, enabled=False), Moment(2.2)]
    ran = bench.run(inject, gate={"force": 30.0}, recover=True, operator=hands)
    assert ran.faults == ["gate", "protective_stop"]
    assert ran.path == ["homing", "ready", "running", "fault", "ready", "running", "holding", "stopped"]
    assert ran.moved_after(2.3) > 0.5 * SPEED


def test_a_frozen_controller_does_not_jump_when_it_goes_on(bench: Bench) -> None:
    def freeze(run: Run) -> None:
        run.robot.faults.frozen_until = run.now + 0.6

    ran = bench.run(freeze, at=1.0)
    assert ran.faults == ["stale_state"]
    assert ran.times[-1] > 1.0 + 0.6  # seen after the release too
    assert ran.moved_after(1.0) < SPEED * SOON
    assert ran.largest_speed(1.2) < 0.5 * SPEED


def test_the_operator_recovers_a_protective_stop_and_the_arm_goes_on_from_where_it_stands(bench: Bench) -> None:
    hands = [Moment(0.0), Moment(1.8, pressed=("recover",)), Moment(2.2, enabled=False), Moment(2.4)]
    ran = bench.run(
        lambda run: setattr(run.robot.faults, "mode", RobotMode.PROTECTIVE_STOP), recover=True, operator=hands
    )
    assert len([text for text in ran.said if "Recover and go on?" in text]) == 1
    assert ran.path == ["homing", "ready", "running", "fault", "ready", "running", "holding", "stopped"]
    assert ran.largest_speed(1.2) < 2 * SPEED
    assert ran.moved_after(2.4) > 0.5 * SPEED
    still = (ran.times > 1.0 + SOON) & (ran.times < 2.4)  # a switch that was held all the time does not count
    assert np.ptp(ran.positions[still], axis=0).max() < 0.002


HOLDS = {
    "stale_observation": lambda run: setattr(run.sensor, "frozen", True),
    "late_policy": lambda run: setattr(run.planner, "delay", 1.4),
}


@pytest.mark.parametrize("name", HOLDS)
def test_faults_that_hold_the_arm(bench: Bench, name: str) -> None:
    ran = bench.run(HOLDS[name], at=0.9, settings=RunSettings(longest=2.4))
    assert ran.faults[0] == name
    holding = next(t for t, _, target in ran.transitions if target == "holding")
    assert ran.moved_after(holding + SOON) < (0.002 if name == "stale_observation" else 0.05)
    assert ran.result.reason == "2.4 s are over"


def test_a_held_arm_goes_on_when_the_observations_come_again(bench: Bench) -> None:
    def freeze(run: Run) -> None:
        run.sensor.frozen = True
        thaw = run.now + 0.8
        run.bench.world.listeners.append(
            lambda now: setattr(run.sensor, "frozen", False) if now >= thaw and now < thaw + 0.01 else None
        )

    before = len(bench.world.listeners)
    ran = bench.run(freeze, at=0.8)
    del bench.world.listeners[before:]
    assert ran.faults == ["stale_observation"]
    assert ran.path == ["homing", "ready", "running", "holding", "ready", "running", "holding", "stopped"]
    assert ran.largest_speed(0.8) < 2 * SPEED


def test_the_operator_releases_and_holds_again(bench: Bench) -> None:
    hands = [Moment(0.0), Moment(1.0, enabled=False), Moment(1.8)]
    ran = bench.run(operator=hands)
    assert ran.faults == ["operator_release"]
    assert ran.path == ["homing", "ready", "running", "holding", "ready", "running", "holding", "stopped"]
    between = (ran.times > 1.0 + SOON) & (ran.times < 1.8)
    assert np.ptp(ran.positions[between], axis=0).max() < 0.002
    assert ran.moved_after(1.9) > 0.5 * SPEED


def test_nothing_moves_before_the_operator_holds_the_switch(bench: Bench) -> None:
    ran = bench.run(operator=[Moment(0.0, enabled=False), Moment(1.0)])
    early = ran.positions[ran.times < 1.0]
    assert np.ptp(early, axis=0).max() < 0.002
    assert ran.moved_after(1.0) > SPEED


def test_the_operators_stop(bench: Bench) -> None:
    ran = bench.run(operator=[Moment(0.0), Moment(1.0, stop=True)])
    assert ran.faults == ["operator_stop"]
    assert ran.path[-1] == "stopped"
    assert ran.stopped() < 1.0 + 0.02 + SOON


def test_a_clock_that_jumps_stops_the_arm_and_does_not_make_it_jump(bench: Bench) -> None:
    """As after a suspended computer: the loop did not run, the arm was on its own."""

    def jump(run: Run) -> None:
        run.bench.clock.time += 0.7

    ran = bench.run(jump)
    assert ran.faults == ["late_loop"]
    assert ran.path == ["homing", "ready", "running", "holding", "ready", "running", "holding", "stopped"]
    # the loop goes on at 1.7 s; before the policy moves the arm again it stands, near where it was at the jump
    held, again = (next(t for t, _, target in ran.transitions[3:] if target == name) for name in ("holding", "running"))
    assert held < 1.7 + 0.02
    assert again < 1.7 + SOON
    before, rest, last = (ran.positions[np.searchsorted(ran.times, t)] for t in (1.0 - 0.01, again - 0.05, again))
    assert np.linalg.norm(last - rest) < 0.002
    assert np.linalg.norm(last - before) < SPEED * SOON
    assert ran.largest_speed(1.0) < 2 * SPEED


HOME = np.array([0.1, 0.3, 0.0, -2.4, 0.0, 2.7, 0.8])


def test_the_arm_goes_home_while_the_switch_is_held(bench: Bench) -> None:
    ran = bench.run(operator=[Moment(0.0, enabled=False), Moment(0.5)], home=HOME)
    assert ran.faults == []
    assert np.ptp(ran.positions[ran.times < 0.5], axis=0).max() < 0.002
    assert ran.path == ["homing", "ready", "running", "holding", "stopped"]
    ready = next(t for t, _, target in ran.transitions if target == "ready")
    assert ready > 0.5 + 0.1
    assert np.linalg.norm(ran.positions[np.searchsorted(ran.times, ready)] - ran.positions[0]) > 0.01


@pytest.mark.parametrize("stop", [False, True])
def test_a_release_or_a_stop_on_the_way_home_ends_it(bench: Bench, stop: bool) -> None:
    hands = [Moment(0.0), Moment(0.3, enabled=False, stop=stop), Moment(0.6)]
    ran = bench.run(operator=hands, home=HOME)
    assert ran.faults == ["operator_stop" if stop else "operator_release"]
    assert ran.path == ["homing", "stopped"]
    assert ran.result.by == ("operator" if stop else "fault")
    assert ran.stopped() < 0.3 + 0.02 + SOON
    assert ran.moved_after(0.3 + SOON) < 0.002


def start_of(bench: Bench) -> np.ndarray:
    """Joints at the beginning of a run."""
    bench.world.reset(3)
    return bench.world.joints[0]


def test_a_way_home_that_breaks_a_limit_is_not_gone(bench: Bench) -> None:
    """Neither at its end alone: the box without a corner lies between here and there."""
    robot = SimRobot(bench.world)
    half = bench.world.base.inverse() @ (bench.world.base @ robot.arm.pose((start_of(bench) + HOME) / 2))
    corner = {"low": (half.position - 0.01).tolist(), "high": (half.position + 0.01).tolist()}
    ran = bench.run(home=HOME, gate={"keep_out": [corner]})
    assert ran.faults == ["gate"]
    assert "breaks keep_out" in ran.result.reason
    assert "% of the way from joints" in ran.result.reason
    assert ran.path == ["homing", "fault", "stopped"]
    assert np.ptp(ran.positions, axis=0).max() < 0.002


def test_the_arm_goes_home_no_faster_than_the_limits_of_safety(bench: Bench) -> None:
    away = float(np.abs(HOME - start_of(bench)).max())
    ran = bench.run(home=HOME, gate={"joint_velocity": [0.15] * 7}, settings=RunSettings(longest=0.2))
    ready = next(t for t, _, target in ran.transitions if target == "ready")
    assert ready > away / 0.15
    assert ran.faults == []


def test_a_press_on_the_tool_on_the_way_home_stops_it(bench: Bench) -> None:
    ran = bench.run(lambda run: setattr(run.robot.faults, "wrench_z", 50.0), at=0.4, home=HOME, gate={"force": 30.0})
    assert ran.faults == ["gate"]
    assert "force" in ran.result.reason
    assert ran.path == ["homing", "fault", "stopped"]
    assert ran.stopped() < 0.4 + 0.02 + SOON
    assert ran.moved_after(0.4 + SOON) < 0.002


def test_after_a_recovered_fault_on_the_way_home_the_arm_goes_home_again(bench: Bench) -> None:
    hands = [Moment(0.0), Moment(1.0, pressed=("recover",)), Moment(1.2, enabled=False), Moment(1.4)]
    ran = bench.run(
        lambda run: setattr(run.robot.faults, "mode", RobotMode.PROTECTIVE_STOP),
        at=0.4, home=HOME, recover=True, operator=hands, settings=RunSettings(longest=0.5),
    )  # fmt: skip
    assert ran.faults == ["protective_stop"]
    assert ran.path == ["homing", "fault", "homing", "ready", "running", "holding", "stopped"]
    still = (ran.times > 0.4 + SOON) & (ran.times < 1.4)
    assert np.ptp(ran.positions[still], axis=0).max() < 0.002
    robot = SimRobot(bench.world)
    at_home = (bench.world.base @ robot.arm.pose(HOME)).position
    ready = next(t for t, _, target in ran.transitions if target == "ready")
    assert np.linalg.norm(ran.positions[np.searchsorted(ran.times, ready)] - at_home) < 0.02


# -- the operator's stop, wherever the run is ----------------------------------------------------------


def test_the_operators_stop_while_the_arm_brakes(bench: Bench) -> None:
    stop = [Moment(0.0), Moment(1.03, stop=True)]
    ran = bench.run(lambda run: setattr(run.sensor, "unplugged", True), operator=stop)
    assert ran.faults == ["sensor_lost", "operator_stop"]
    assert (ran.result.by, ran.result.reason) == ("operator", "the operator pressed stop")
    assert ran.result.seconds < 1.03 + 0.02
    assert ran.stopped() < 1.03 + 0.02 + SOON


def test_the_operators_stop_while_the_arms_reason_is_looked_for(bench: Bench) -> None:
    def refuse(run: Run) -> None:
        def command(target: Target, at: float) -> Sent:
            raise RobotError("no")

        run.robot.command = command  # type: ignore[method-assign]

    ran = bench.run(refuse, operator=[Moment(0.0), Moment(1.05, stop=True)])
    assert ran.faults == ["operator_stop"]
    assert ran.result.seconds < 1.05 + 0.02


@pytest.mark.parametrize("recovers", [False, True])
def test_the_operators_stop_while_a_fault_waits_for_his_word_and_while_the_arm_recovers(
    bench: Bench, recovers: bool
) -> None:
    def inject(run: Run) -> None:
        run.robot.faults.mode = RobotMode.PROTECTIVE_STOP
        run.robot.recover = lambda: None  # type: ignore[method-assign]  # it does not become ready

    word = [Moment(1.2, pressed=("recover",))] if recovers else []
    ran = bench.run(inject, recover=True, operator=[Moment(0.0), *word, Moment(1.5, stop=True)])
    assert ran.faults == ["protective_stop", "operator_stop"]
    assert ran.result.by == "operator"
    assert ran.result.seconds < 1.5 + 0.02


@pytest.mark.parametrize("button", ["end", "failure"])
def test_without_the_operators_word_a_fault_is_the_end(bench: Bench, button: str) -> None:
    ran = bench.run(
        lambda run: setattr(run.robot.faults, "mode", RobotMode.PROTECTIVE_STOP),
        recover=True, operator=[Moment(0.0), Moment(1.5, pressed=(button,))],
    )  # fmt: skip
    assert (ran.result.by, ran.faults) == ("fault", ["protective_stop"])
    assert ran.result.success is {"end": None, "failure": False}[button]
    assert ran.result.seconds < 1.5 + 0.02


def test_the_time_that_the_operator_takes_to_recover_is_no_part_of_the_episode(bench: Bench) -> None:
    hands = [Moment(0.0), Moment(4.0, pressed=("recover",)), Moment(4.2, enabled=False), Moment(4.4)]
    ran = bench.run(
        lambda run: setattr(run.robot.faults, "mode", RobotMode.PROTECTIVE_STOP),
        recover=True, operator=hands, settings=RunSettings(longest=2.0),
    )  # fmt: skip
    assert ran.result.reason == "2.0 s are over"
    assert ran.path == ["homing", "ready", "running", "fault", "ready", "running", "holding", "stopped"]
    running = next(t for t, source, _ in reversed(ran.transitions) if source == "running") - 4.4
    assert 0.8 < running < 1.4


@pytest.mark.parametrize(("button", "by"), [("success", "label"), ("failure", "label"), ("end", "operator")])
def test_the_operators_buttons_end_the_run(bench: Bench, button: str, by: str) -> None:
    ran = bench.run(operator=[Moment(0.0), Moment(1.0, pressed=(button,))])
    assert (ran.result.by, ran.faults) == (by, [])
    assert ran.result.success is {"success": True, "failure": False, "end": None}[button]
    assert [fields["text"] for kind, _, fields in ran.records if kind == "marker"] == [f"the operator pressed {button}"]
    assert ran.stopped() < 1.0 + 0.1 + SOON


def test_waiting_for_the_operator_is_no_part_of_the_episode(bench: Bench) -> None:
    ran = bench.run(operator=[Moment(0.0, enabled=False), Moment(1.0)], settings=RunSettings(longest=1.5))
    assert ran.result.reason == "1.5 s are over"
    assert ran.result.seconds > 2.4


def test_success_ends_the_run(bench: Bench) -> None:
    start = bench.clock.now()
    ran = bench.run(success=lambda: bench.clock.now() > start + 1.5)
    assert (ran.result.reason, ran.result.success) == ("success", True)
    assert 1.5 <= ran.result.seconds < 1.5 + 0.1 + SOON
    assert ran.stopped() < 1.5 + 0.1 + SOON


def test_a_policy_that_never_answers(bench: Bench) -> None:
    ran = bench.run(delay=100.0, settings=RunSettings(longest=5.0, start=0.5))
    assert ran.result.reason == "no plan came in time"
    assert np.ptp(ran.positions, axis=0).max() < 0.002


def test_delays_of_measurements_and_of_the_policy_are_no_faults(bench: Bench) -> None:
    ran = bench.run(latency=0.03, jitter=0.01, delay=0.2)
    assert ran.faults == []
    assert ran.positions[-1][1] - ran.positions[0][1] > SPEED * 2


def test_every_kind_of_fault_was_injected() -> None:
    from real_robot.loop.faults import FaultKind

    here = set(ENDS) | set(HOLDS) | {"gate", "operator_release", "operator_stop", "late_loop", "refused_target"}
    assert here == {kind.label for kind in FaultKind}


def test_targets_that_the_gate_refuses_hold_the_arm(bench: Bench) -> None:
    def far(run: Run) -> None:
        submit = run.planner.submit

        def jump(request: object) -> None:
            submit(request)  # type: ignore[arg-type]
            when, plan = run.planner._answer  # type: ignore[misc]
            run.planner._answer = when, dataclasses.replace(plan, actions=plan.actions + [0, 0.5, 0, 0, 0, 0, 0])

        run.planner.submit = jump  # type: ignore[method-assign]

    ran = bench.run(far)
    assert ran.faults[0] == "refused_target"
    held = next(t for t, _, target in ran.transitions if target == "holding")
    assert held < 1.0 + 0.5 + 0.02  # a plan is asked for each 0.4 s and comes 0.05 s later
    # it stands; a little later than otherwise, because the setpoint ran faster before the target was too far away
    assert next(t for t, _, target in ran.transitions if t > held and target == "ready") < held + SOON + 0.15
    assert ran.moved_after(held) < SPEED * SOON
    assert ran.largest_speed(1.0) < 2 * SPEED
    assert ran.moved_after(1.8) < 0.02
