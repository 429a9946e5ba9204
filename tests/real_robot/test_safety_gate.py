"""The safety gate: what it lets through, what stops it, and where it does not start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from gate_fixtures import HOME, TOOL, Recorder, forged, limits_around, moved, started, state_at

from real_robot.kinematics import load_arm
from real_robot.poses import Pose, exp_map
from real_robot.safety import Box, GateError, SafetyGate
from real_robot.types import RobotMode, RobotState, Target

ARMS = ("ur5e", "panda")


@pytest.mark.parametrize("name", ARMS)
def test_a_target_within_limits_is_reached(name: str) -> None:
    out = Recorder(started(name))
    start = out.gate.arm.pose(out.gate.joints)
    goal = moved(start, [0.04, -0.05, 0.03], [0.1, -0.2, 0.3], gripper=0.01)
    for _ in range(600):
        decision = out.send(goal)
    assert decision.setpoint.pose.distance(goal.pose) == pytest.approx((0, 0), abs=1e-9)
    assert decision.setpoint.gripper == pytest.approx(0.01)
    assert (decision.limits, decision.fault, decision.at_rest, decision.held) == ((), None, True, False)
    out.check()


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("hz", [100.0, 1000.0])
def test_other_rates_keep_the_limits_too(name: str, hz: float) -> None:
    out = Recorder(started(name, hz))
    start, rng = out.gate.arm.pose(out.gate.joints), np.random.default_rng(0)
    for tick in range(400):
        if tick % 40 == 0:
            goal = moved(start, rng.uniform(-0.12, 0.12, 3), rng.uniform(-0.6, 0.6, 3))
        out.send(goal)
    out.check()
    assert np.ptp(out.positions, axis=0).max() > 0.004


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_it_stops_at_a_wall_without_crossing_it(axis: int, sign: int) -> None:
    out = Recorder(started(keep_out=()))
    start = out.gate.arm.pose(out.gate.joints)
    goal = moved(start, 0.2 * sign * np.eye(3)[axis])
    for _ in range(550):
        decision = out.send(goal)
    assert "box" in decision.limits
    wall = (out.gate.limits.box.low, out.gate.limits.box.high)[sign > 0][axis]
    assert decision.setpoint.pose.position[axis] == pytest.approx(wall, abs=2e-5)
    out.check()


def test_it_stops_before_a_keep_out_box() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(700):
        decision = out.send(moved(start, [0.12, 0.10, -0.06]))
    assert "keep_out" in decision.limits
    assert decision.setpoint.pose.distance(start)[0] > 0.03
    out.check()


def test_the_tool_does_not_leave_the_cone() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(700):
        decision = out.send(moved(start, [0, 0, 0], [0.9, 0, 0]))
    assert "cone" in decision.limits
    assert decision.setpoint.pose.distance(start)[1] == pytest.approx(0.6, abs=2e-3)
    out.check()


def test_a_joint_limit_stops_it_before_the_margin() -> None:
    # the wrist is turned towards a limit that is set close to where it stands
    out = Recorder(started(cone=None, joint_high=HOME + [9, 9, 9, 9, 9, 0.4], joint_margin=0.1))
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(600):
        decision = out.send(moved(start, [0, 0, 0], [0, 0, 0.8]))
    assert "joint_limit" in decision.limits
    assert 0.25 < out.gate.joints[5] - HOME[5] <= 0.3
    out.check()
    for _ in range(600):  # and it can go back
        decision = out.send(moved(start, [0, 0, 0], [0, 0, -0.2]))
    assert decision.setpoint.pose.distance(start)[1] == pytest.approx(0.2, abs=1e-6)
    out.check()


def test_slow_joints_slow_the_tool_down_but_do_not_stop_it() -> None:
    out = Recorder(started(joint_velocity=np.full(6, 0.15), keep_out=()))
    start = out.gate.arm.pose(out.gate.joints)
    goal = moved(start, [-0.05, -0.05, 0.03])
    acted: set[str] = set()
    for _ in range(2000):
        decision = out.send(goal)
        acted.update(decision.limits)
    assert "joint_velocity" in acted
    assert decision.setpoint.pose.distance(goal.pose)[0] < 1e-6
    out.check()


def test_it_slows_down_near_a_wall() -> None:
    fast, slow = (Recorder(started(keep_out=(), slow_zone=zone)) for zone in (0.0, 0.2))
    for out in (fast, slow):
        start = out.gate.arm.pose(out.gate.joints)
        for _ in range(1000):
            out.send(moved(start, [0, 0, -0.115]))
        out.check()
    speeds = [np.abs(np.diff(np.array(out.positions)[:, 2])).max() / out.gate.dt for out in (fast, slow)]
    assert speeds[1] < 0.8 * speeds[0]
    near = np.array(slow.positions)[:, 2] < slow.gate.limits.box.low[2] + 0.03
    assert near.any()
    assert np.abs(np.diff(np.array(slow.positions)[near, 2])).max() / slow.gate.dt < 0.06


def test_the_gripper_keeps_its_range_and_speed() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for wish in (1.0, -1.0, 0.03):
        for _ in range(500):
            decision = out.send(moved(start, [0, 0, 0], gripper=wish))
        assert decision.setpoint.gripper == pytest.approx(np.clip(wish, 0, 0.08))
        assert ("gripper_range" in decision.limits) == (wish != 0.03)
    out.check()


def test_an_elbow_that_is_free_does_not_turn_on_by_itself() -> None:
    out = Recorder(started("panda"))
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(600):
        out.send(moved(start, [0.03, -0.05, 0.02], [0, 0, 0.2]))
    assert np.abs(np.diff(out.joints[-100:], axis=0)).max() < 1e-9
    assert np.abs(out.joints[-1] - out.joints[0]).max() > 0.02


def test_the_elbow_follows_the_measured_joints_slowly() -> None:
    out = Recorder(started("panda"))
    start, arm = out.gate.arm.pose(out.gate.joints), out.gate.arm
    # the same pose with the elbow elsewhere, as another controller would have it
    elsewhere = arm.inverse(start, out.gate.joints + [0.1, 0, -0.1, 0, 0, 0, 0], tolerance=1e-9)
    apart = np.abs(elsewhere - out.gate.joints).max()
    for _ in range(1000):
        out.send(moved(start, [0, 0, 0]), replace(out.perfect(), joints=elsewhere, stamp=out.now + out.gate.dt))
    assert np.abs(elsewhere - out.gate.joints).max() < 0.75 * apart
    out.check()


# -- stops


def test_no_target_brings_it_to_rest_and_it_stays_until_reset() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(150):
        out.send(moved(start, [0.1, 0, 0]))
    assert not out.send(None).at_rest
    for _ in range(300):
        decision = out.send(moved(start, [0.1, 0, 0]))  # too late: it was let go once
    assert decision.at_rest
    assert decision.held
    assert decision.limits == ("hold",)
    assert decision.fault is None
    out.restart()
    for _ in range(400):
        decision = out.send(moved(start, [0.1, 0, 0]))
    assert decision.setpoint.pose.position[0] == pytest.approx(start.position[0] + 0.1)
    out.check()


def test_waiting_for_the_first_target_is_no_hold() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    assert not out.send(None).held
    assert out.send(moved(start, [0.01, 0, 0])).setpoint.pose.distance(start)[0] > 0


class Strange:
    pose, gripper = "here", object()


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (lambda start: moved(start, [0, 0, 0], gripper=np.nan), "unusable_target"),
        (lambda start: moved(start, [0, 0, 0], gripper=np.inf), "unusable_target"),
        (lambda start: forged(start, position=[np.nan, 0, 0]), "unusable_target"),
        (lambda start: forged(start, position=[np.inf, 0, 0]), "unusable_target"),
        (lambda start: forged(start, position=[1e300, 0, 0]), "unusable_target"),
        (lambda start: forged(start, position=[0, 0]), "unusable_target"),
        (lambda start: forged(start, position="abc"), "unusable_target"),
        (lambda start: forged(start, position=[1j, 0, 0]), "unusable_target"),
        (lambda start: forged(start, position=[10**400, 0, 0]), "unusable_target"),
        (lambda start: forged(start, position=[True, False, True]), "unusable_target"),
        (lambda start: forged(start, rotation=np.full((3, 3), np.nan)), "unusable_target"),
        (lambda start: forged(start, rotation=np.zeros((3, 3))), "unusable_target"),
        (lambda start: forged(start, rotation=-np.eye(3)), "unusable_target"),
        (lambda start: Target(start, np.zeros(2)), "unusable_target"),  # type: ignore[arg-type]
        (lambda start: Target("pose", 0.0), "unusable_target"),  # type: ignore[arg-type]
        (lambda start: Strange(), "unusable_target"),
        (lambda start: 7, "unusable_target"),
        (lambda start: moved(start, [0.3, 0, 0]), "step_jump"),
        (lambda start: moved(start, [0, 0, 0], [0, 0, 1.6]), "step_jump"),
    ],
)
def test_an_unusable_target_brings_it_to_rest(bad, name: str) -> None:  # type: ignore[no-untyped-def]
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(100):
        out.send(moved(start, [0.05, 0, 0], [0, 0, 0.2]))
    decision = out.send(bad(start))
    assert name in decision.limits
    assert "hold" in decision.limits
    for _ in range(300):
        decision = out.send(moved(start, [0.05, 0, 0]))
    assert decision.at_rest
    out.check()


def faulty_states(out: Recorder) -> dict[str, tuple[str, RobotState]]:
    good, arm = out.perfect(), out.gate.arm
    late = replace(good, stamp=good.stamp + out.gate.dt)
    away = arm.pose(out.gate.joints + 0.2)
    return {
        "teleports": ("tracking", replace(late, pose=away)),
        "turned": ("tracking", replace(late, pose=Pose(good.pose.position, good.pose.rotation @ exp_map([0.4, 0, 0])))),
        "NaN joints": ("state", replace(late, joints=np.full(6, np.nan))),
        "too few joints": ("state", replace(late, joints=np.zeros(5))),
        "NaN gripper": ("state", replace(late, gripper=np.nan)),
        "NaN stamp": ("state", replace(late, stamp=np.nan)),
        "no state": ("state", 7),  # type: ignore[dict-item]
        "forged pose": ("state", replace(late, pose=forged(good.pose, position=[np.nan, 0, 0]).pose)),
        "old": ("stale_state", replace(late, stamp=late.stamp - 0.2)),
        "from the future": ("clock", replace(late, stamp=late.stamp + 1)),
        "protective stop": ("mode", replace(late, mode=RobotMode.PROTECTIVE_STOP)),
        "a joint past its limit": ("joint_limit", replace(late, joints=out.gate.joints + [9, 0, 0, 0, 0, 0])),
        "pushed": ("force", replace(late, wrench=np.array([30.0, 30, 0, 0, 0, 0]))),
        "twisted": ("force", replace(late, wrench=np.array([0.0, 0, 0, 0, 0, 5.1]))),
        "NaN wrench": ("force", replace(late, wrench=np.full(6, np.nan))),
        "no wrench": ("force", replace(late, wrench=None)),
    }


@pytest.mark.parametrize("what", list(faulty_states(Recorder(started()))))
def test_a_state_that_is_wrong_is_a_fault(what: str) -> None:
    out = Recorder(started(force=None, torque=None))
    object.__setattr__(out.gate.limits, "force", 40.0)
    object.__setattr__(out.gate.limits, "torque", 5.0)
    start = out.gate.arm.pose(out.gate.joints)
    goal, still = moved(start, [0.1, 0, 0]), np.zeros(6)
    for _ in range(150):
        decision = out.send(goal, replace(out.perfect(), stamp=out.now + out.gate.dt, wrench=still))
        assert decision.fault is None
    name, state = faulty_states(out)[what]
    if isinstance(state, RobotState) and state.wrench is None and what != "no wrench":
        state = replace(state, wrench=still)
    decision = out.send(goal, state)
    assert decision.fault is not None
    assert decision.fault.name == name, decision.fault
    for _ in range(300):
        decision = out.send(goal, replace(out.perfect(), stamp=out.now + out.gate.dt, wrench=still))
    assert decision.at_rest
    assert decision.held
    assert decision.fault.name == name
    out.check()


def test_an_arm_that_freezes_is_not_run_away_from() -> None:
    out = Recorder(started())
    start = out.gate.arm.pose(out.gate.joints)
    for tick in range(1, 400):
        frozen = state_at(out.gate.arm, HOME, tick * out.gate.dt)
        decision = out.send(moved(start, [0.14, 0.0, 0.0]), frozen)
    assert decision.fault is not None
    assert decision.fault.name == "tracking"
    rates = out.gate.limits.linear
    braking = rates.velocity * (rates.acceleration / rates.jerk + rates.velocity / rates.acceleration)
    assert decision.setpoint.pose.distance(start)[0] < out.gate.limits.tracking_error.position + braking
    out.check()
    with pytest.raises(GateError, match="call reset"):
        SafetyGate(out.gate.limits, out.gate.arm, command_hz=500, gripper=(0, 0.1)).next(None, frozen, 0.0)


@pytest.mark.parametrize("now", [np.nan, np.inf, -1.0, "soon"])
def test_a_clock_that_jumps_is_a_fault(now: object) -> None:
    gate = started()
    for tick in range(1, 50):
        gate.next(moved(gate.arm.pose(HOME), [0.05, 0, 0]), state_at(gate.arm, HOME, tick * gate.dt), tick * gate.dt)
    decision = gate.next(None, state_at(gate.arm, HOME, 0.1), now)  # type: ignore[arg-type]
    assert decision.fault is not None
    assert decision.fault.name == "clock"


def test_being_called_too_often_is_a_fault() -> None:
    gate = started()
    goal = moved(gate.arm.pose(HOME), [0.001, 0, 0])
    for _ in range(4):  # catching up a little is none
        assert gate.next(goal, state_at(gate.arm, HOME, 0.0), 1e-4).fault is None
    decisions = [gate.next(goal, state_at(gate.arm, HOME, 0.0), 1e-4) for _ in range(4)]
    assert decisions[-1].fault is not None
    assert decisions[-1].fault.name == "clock"


# -- starts


def refusals() -> Iterator[tuple[str, dict[str, object], dict[str, object]]]:
    arm = load_arm("ur5e", TOOL)
    pose = arm.pose(HOME)
    away = Pose(pose.position + [0.05, 0, 0], pose.rotation)
    yield "box: the tool is outside", {}, {"box": Box(pose.position + 0.1, pose.position + 0.2)}
    yield "keep_out: the tool is outside", {}, {"keep_out": (Box(pose.position - 0.1, pose.position + 0.1),)}
    yield "joint 6 stands at 0.000 rad", {}, {"joint_high": HOME + [9, 9, 9, 9, 9, 0.05]}
    yield "50.0 mm", {"pose": away}, {}
    yield "the arm moves", {"velocities": np.full(6, 0.2)}, {}
    yield "the arm moves", {"velocities": np.full(6, np.nan)}, {}
    yield "stale_state", {"stamp": -1.0}, {}
    yield "mode: the arm's controller says idle", {"mode": RobotMode.IDLE}, {}
    yield "no wrench was measured", {}, {"force": 10.0}
    yield "state: ", {"joints": np.full(6, np.inf)}, {}


@pytest.mark.parametrize(("words", "state", "limits"), list(refusals()))
def test_a_start_outside_is_refused_in_words(words: str, state: dict[str, object], limits: dict[str, object]) -> None:
    arm = load_arm("ur5e", TOOL)
    gate = SafetyGate(limits_around(arm, HOME, **limits), arm, command_hz=500, gripper=(0, 0.085))
    with pytest.raises(GateError, match="the gate does not start here") as error:
        gate.reset(replace(state_at(arm, HOME, 0.0), **state), 0.0)  # type: ignore[arg-type]
    assert words in str(error.value)
    with pytest.raises(GateError, match="call reset"):
        gate.next(None, state_at(arm, HOME, 0.0), 0.0)


def test_the_wrong_base_is_noticed_at_the_start() -> None:
    arm = load_arm("ur5e", TOOL)
    turned = load_arm("ur5e", TOOL, Pose.from_rotvec([0, 0, 0], [0, 0, np.pi]))
    gate = SafetyGate(limits_around(arm, HOME), arm, command_hz=500, gripper=(0, 0.085))
    with pytest.raises(GateError, match="compare tool, base and arm"):
        gate.reset(state_at(turned, HOME, 0.0), 0.0)
