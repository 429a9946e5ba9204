"""No sequence of commands gets a violation through: random, hostile, and a weakened gate that is caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_fixtures import HOME, TOOL, Recorder, forged, limits_around, moved, started
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco_arms import bare_model

from real_robot.kinematics import load_arm
from real_robot.poses import Pose
from real_robot.safety import Bound, Box, RateLimits, SafetyGate
from real_robot.safety.motion import Motion
from real_robot.types import Target

ARMS = ("ur5e", "panda")


numbers = st.floats(-0.3, 0.3)
vectors = st.tuples(numbers, numbers, numbers)
anything = st.floats(allow_nan=True, allow_infinity=True)
commands = st.one_of(
    st.tuples(st.just("go"), vectors, st.tuples(*[st.floats(-1.2, 1.2)] * 3), anything),
    st.tuples(st.just("near"), vectors, vectors, st.floats(-1, 1)),
    st.tuples(st.just("raw"), st.tuples(anything, anything, anything), st.lists(anything, min_size=9, max_size=9)),
    st.tuples(st.just("none")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("state"), st.lists(anything, min_size=6, max_size=6), anything, anything),
)


@given(
    st.sampled_from(ARMS),
    st.sampled_from([100.0, 500.0]),
    st.lists(st.tuples(commands, st.integers(1, 40)), min_size=1, max_size=8),
)
@settings(max_examples=25, deadline=None)
def test_nothing_gets_through(name: str, hz: float, script: list) -> None:  # type: ignore[type-arg]
    out = Recorder(started(name, hz))
    start = out.gate.arm.pose(out.gate.joints)
    for command, ticks in script:
        target, state = None, None
        match command:
            case ("go", metres, turn, gripper):
                target = moved(start, metres, turn, gripper)
            case ("near", metres, turn, gripper):
                target = moved(start, 0.3 * np.array(metres), turn, gripper)
            case ("raw", position, rotation):
                target = forged(start, position=position, rotation=np.reshape(rotation, (3, 3)))
            case ("state", joints, stamp, gripper):
                state = replace(out.perfect(), joints=np.array(joints), stamp=stamp, gripper=gripper)
            case ("restart",):
                while not out.send(None).at_rest:
                    pass
                out.restart()
        for _ in range(ticks):
            out.send(target, state)
    out.check()


def adversary(out: Recorder, seed: int, ticks: int, period: int = 150) -> set[str]:
    """Corners, limits, other directions each tick, and a hold now and then; returns the limits that acted."""
    acted: set[str] = set()
    rng, start = np.random.default_rng(seed), out.gate.arm.pose(out.gate.joints)
    box = out.gate.limits.box
    reach = (box.high - box.low) / 2
    target: Target | None = None
    mode = 0
    for tick in range(ticks):
        if tick % period == 0:
            mode = int(rng.integers(6))
            corner = rng.choice([-1.0, 1.0], 3) * reach * rng.choice([0.9, 1.0, 1.05])
            turn = rng.choice([-0.6, 0.6], 3) * rng.choice([0.0, 0.7, 1.2])
        if mode == 0:  # corners
            target = moved(start, corner, turn, rng.uniform(-1, 1))
        elif mode == 1:  # another direction each tick
            target = moved(start, rng.uniform(-1, 1, 3) * reach, rng.uniform(-0.7, 0.7, 3))
        elif mode == 2:  # back and forth each third tick
            target = moved(start, corner * (-1) ** (tick // 3), turn * (-1) ** (tick // 3))
        elif mode == 3:  # through the keep-out box
            target = moved(start, [0.075, 0.065, -0.05], turn)
        elif mode == 4:  # along the edge of the cone
            target = moved(start, 0.3 * corner, 0.65 * np.array([np.cos(tick / 40), np.sin(tick / 40), 0.3]))
        else:
            target = moved(out.gate.arm.pose(out.gate.joints), rng.normal(0, 0.02, 3), rng.normal(0, 0.1, 3))
        if rng.random() < 0.004:
            target = None if rng.random() < 0.5 else moved(start, [1.0, 0, 0])
        decision = out.send(target)
        assert decision.fault is None
        acted.update(decision.limits)
        if decision.held and decision.at_rest:
            out.restart()
    out.check()
    return acted


@pytest.mark.slow
@pytest.mark.parametrize("name", ARMS)
def test_a_long_hostile_run(name: str) -> None:
    out = Recorder(started(name, step_jump=Bound(0.6, 2.9)))
    acted = adversary(out, 1, 10_000, period=400)
    # it did go about, and into every limit that is near
    assert (np.ptp(out.positions, axis=0) > 0.12).all()
    assert {"box", "keep_out", "cone", "step_jump", "hold", "gripper_range", "gripper_speed"} <= acted


def test_a_short_hostile_run() -> None:
    adversary(Recorder(started("ur5e", step_jump=Bound(0.6, 2.9))), 2, 900)


# -- the checks themselves can fail


def scenario(out: Recorder, goal: Target, ticks: int) -> dict[str, float]:
    """There, then let go at full speed of the way back."""
    start = out.gate.arm.pose(out.gate.joints)
    for _ in range(ticks):
        out.send(goal)
    for _ in range(60):
        out.send(moved(start, [0, 0, 0]))
    for _ in range(100):
        out.send(None)
    return out.broken()


def at_home(metres: object, turn: object = (0, 0, 0), gripper: float = 0.04) -> Target:
    return moved(load_arm("ur5e", TOOL).pose(HOME), metres, turn, gripper)


STRICT = limits_around(load_arm("ur5e", TOOL), HOME)
TURN = [0.25, 0.25, 0.25]
WEAKENED = {
    "box": (at_home([0, 0, 0.2]), {"box": Box(STRICT.box.low - 0.01, STRICT.box.high + 0.01)}, {}),
    "keep_out": (at_home([0.07, 0.06, -0.05]), {"keep_out": ()}, {}),
    "cone": (at_home([0, 0, 0], [0.8, 0, 0]), {"cone": None}, {}),
    "linear.velocity": (at_home([-0.12, -0.12, 0.12]), {"linear": RateLimits(0.31, 2.0, 20.0)}, {}),
    "linear.acceleration": (at_home([-0.12, -0.12, -0.12]), {"linear": RateLimits(0.3, 2.1, 20.0)}, {}),
    "linear.jerk": (at_home([-0.12, -0.12, -0.12]), {"linear": RateLimits(0.3, 2.0, 21.0)}, {}),
    "angular.velocity": (at_home([0, 0, 0], TURN), {"angular": RateLimits(1.25, 6.0, 60.0), "cone": None}, {}),
    "angular.acceleration": (at_home([0, 0, 0], TURN), {"angular": RateLimits(1.2, 6.4, 60.0), "cone": None}, {}),
    "angular.jerk": (at_home([0, 0, 0], TURN), {"angular": RateLimits(1.2, 6.0, 90.0), "cone": None}, {}),
    "joint_velocity": (at_home([-0.1, -0.1, 0.1]), {"joint_velocity": None}, {"joint_velocity": np.full(6, 0.2)}),
    "joint_high": (at_home([0, 0, 0], [0, 0, 0.8]), {"joint_high": HOME + 0.45}, {"joint_high": HOME + 0.44}),
    "gripper": (at_home([0, 0, 0], gripper=0.2), {"gripper": (0.0, 0.081)}, {}),
    "gripper_speed": (at_home([0, 0, 0], gripper=0.0), {"gripper_speed": 0.11}, {}),
}


@pytest.mark.parametrize("name", list(WEAKENED))
def test_a_gate_with_one_limit_a_little_wider_is_caught(name: str) -> None:
    goal, weak, tight = WEAKENED[name]
    strict = replace(STRICT, **tight)
    ticks = 520 if name in ("box", "cone") else 250
    assert name in scenario(Recorder(started(**{**tight, **weak}), strict), goal, ticks)
    assert scenario(Recorder(started(**tight), strict), goal, ticks) == {}


def test_a_gate_that_stops_at_once_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_dead(self: SafetyGate, acted: list[str]) -> None:
        self._motion, self._way = Motion.at_rest(self._motion.position, self._motion.rotation), None

    monkeypatch.setattr(SafetyGate, "_brake", stop_dead)
    broken = scenario(Recorder(started()), at_home([-0.1, 0.1, 0], TURN), 250)
    assert {"linear.acceleration", "linear.jerk", "angular.jerk"} <= set(broken)


def test_a_gate_that_does_not_look_ahead_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for looks in (True, False):
        if not looks:
            monkeypatch.setattr("real_robot.safety.gate._MOST_SAMPLES", 0)
        out = Recorder(started(cone=None, keep_out=(), joint_high=HOME + [9, 9, 9, 9, 9, 0.4]))
        for _ in range(400):
            decision = out.send(at_home([0, 0, 0], [0, 0, 0.8]))
        ends.append((decision.fault.name if decision.fault else None, set(out.broken())))
    assert ends[0] == (None, set())
    # stopped on the spot where the limit was met: in bounds, but not smoothly
    assert ends[1] == ("look_ahead", {"angular.acceleration", "angular.jerk"})


def test_rates_that_run_over_numbers_are_caught() -> None:
    out = Recorder(started())
    out.send(at_home([0.01, 0, 0]))
    out.positions[-1] = np.full(3, np.nan)
    assert "finite" in out.broken()


# -- the arm itself, computed by others


@pytest.mark.sim
@pytest.mark.parametrize(("name", "body"), [("ur5e_robosuite", "base"), ("panda_robosuite", "link0")])
def test_joints_by_mujoco_are_where_the_setpoints_are(name: str, body: str) -> None:
    mujoco, model = bare_model(name.split("_")[0])
    data = mujoco.MjData(model)
    out = Recorder(started(name, step_jump=Bound(0.6, 2.9)))
    adversary(out, 3, 600)
    base, hand = (mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, which) for which in (body, "right_hand"))
    half_turn = Pose.from_rotvec([0, 0, 0], [0, 0, np.pi if name.startswith("ur5e") else 0.0])
    for joints, position in zip(out.joints[::20], out.positions[::20], strict=True):
        data.qpos[: len(joints)] = joints
        mujoco.mj_kinematics(model, data)
        origin = Pose(data.xpos[base], data.xmat[base].reshape(3, 3)) @ half_turn
        tool = origin.inverse() @ Pose(data.xpos[hand], data.xmat[hand].reshape(3, 3)) @ TOOL
        np.testing.assert_allclose(tool.position, position, atol=1e-6)
