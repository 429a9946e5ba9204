"""The way home: what the gate lets through keeps every limit everywhere, and what it refuses breaks one."""

from __future__ import annotations

import numpy as np
import pytest
from gate_fixtures import TOOL, home, limits_around, state_at
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.kinematics import load_arm
from real_robot.safety import Box, GateError, SafetyGate, SafetyLimits
from real_robot.types import Array

ARMS = ("ur5e", "panda")
DENSE = 4000


def broken(limits: SafetyLimits, frames: Array, slack: float = 0.0) -> set[str]:
    """Limits, narrower by `slack`, that samples (k, 4, 4) of a way break; written without the gate's code."""
    position, found = frames[:, :3, 3], set()
    if ((position < limits.box.low + slack) | (position > limits.box.high - slack)).any():
        found.add("box")
    for box in limits.keep_out:
        if ((position > box.low - slack) & (position < box.high + slack)).all(1).any():
            found.add("keep_out")
    if limits.cone is not None:
        cosine = (frames[:, :3, :3] @ limits.cone.axis) @ limits.cone.direction
        if (np.arccos(np.clip(cosine, -1, 1)) > limits.cone.half_angle - slack).any():
            found.add("cone")
    return found


def gate_of(name: str, limits: SafetyLimits) -> SafetyGate:
    return SafetyGate(limits, load_arm(name, TOOL), command_hz=100, gripper=(0.0, 0.08))


@given(st.sampled_from(ARMS), st.integers(0, 10**6), st.sampled_from([0.02, 0.1, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_what_is_let_through_keeps_all_limits_and_what_is_refused_breaks_one(name: str, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    arm, start = load_arm(name, TOOL), home(name)
    limits = limits_around(arm, start, joint_velocity=np.full(arm.dof, 0.4))
    goal = start + rng.uniform(-size, size, arm.dof)
    way = start + np.linspace(0, 1, DENSE + 1)[:, None] * (goal - start)
    frames = arm.forward(way)
    outside = ((way < arm.joint_low + 0.1) | (way > arm.joint_high - 0.1)).any()
    try:
        passage = gate_of(name, limits).passage(goal, state_at(arm, start, 0.0), 0.0)
    except GateError:
        assert outside or broken(limits, frames, slack=1e-4)
        return
    assert not outside
    assert not broken(limits, frames)
    step = np.abs(goal - start).max() / DENSE / passage.speed  # seconds
    turned = np.linalg.norm(np.diff(frames[:, :3, :3], axis=0), axis=(1, 2)) / np.sqrt(2)
    assert np.linalg.norm(np.diff(frames[:, :3, 3], axis=0), axis=1).max() / step < 1.02 * limits.linear.velocity
    assert turned.max() / step < 1.02 * limits.angular.velocity
    assert passage.speed <= 0.4


@pytest.mark.parametrize(
    ("change", "goal", "words"),
    [
        ({}, [1.5, 0, 0, 0, 0, 0], r"breaks box: \d+ % of the way .* the tool is at \["),
        ({"keep_out": ()}, [0.3, 0, 0, 0, 0, 0], "breaks keep_out"),
        ({}, [0, 0, 0, 0, 0.9, 0], "breaks cone"),
        ({"joint_margin": 0.5}, [0, 0, 0, 0, 0, 5.9], r"joint 6 is at 5.900 rad home, allowed are -5.783 to 5.783"),
        ({}, [0, 0, 0], r"home: expected 6 joints in finite radians, got \[0"),
        ({}, [0, 0, np.nan, 0, 0, 0], "expected 6 joints in finite radians"),
    ],
)
def test_a_refusal_names_the_limit_and_the_place(change: dict, goal: list, words: str) -> None:  # type: ignore[type-arg]
    arm, start = load_arm("ur5e", TOOL), home("ur5e")
    if "keep_out" in change:  # on the way, not at its end
        at = arm.pose(start + [0.2, 0, 0, 0, 0, 0]).position
        change = {"keep_out": (Box(at - 0.005, at + 0.005),), "box": Box(at - 1, at + 1)}
    limits = limits_around(arm, start, **({"keep_out": ()} | change))
    target = start[: len(goal)] + np.array(goal) if len(goal) == 6 else np.array(goal)
    with pytest.raises(GateError, match=words):
        gate_of("ur5e", limits).passage(target, state_at(arm, start, 0.0), 0.0)


def test_from_outside_nothing_goes_home_by_itself() -> None:
    arm, start = load_arm("ur5e", TOOL), home("ur5e")
    limits = limits_around(arm, start)
    outside = start + [0.9, 0, 0, 0, 0, 0]
    with pytest.raises(GateError, match=r"lets nothing go home from here: box: the tool is outside .* inside by hand"):
        gate_of("ur5e", limits).passage(start, state_at(arm, outside, 0.0), 0.0)
    with pytest.raises(GateError, match="stale_state"):
        gate_of("ur5e", limits).passage(start, state_at(arm, start, 0.0), 1.0)


def test_on_the_way_place_age_and_wrench_are_watched() -> None:
    arm, start = load_arm("ur5e", TOOL), home("ur5e")
    gate = gate_of("ur5e", limits_around(arm, start, force=30.0, keep_out=()))
    passage = gate.passage(start + [0.1, 0, 0, 0, 0, 0], state_at(arm, start, 0.0, wrench=np.zeros(6)), 0.0)
    assert passage.watch(state_at(arm, start, 0.0, wrench=np.zeros(6)), 0.05) is None
    found = {
        "force": passage.watch(state_at(arm, start, 0.0, wrench=np.array([0, 0, 31.0, 0, 0, 0])), 0.05),
        "stale_state": passage.watch(state_at(arm, start, 0.0, wrench=np.zeros(6)), 0.2),
        "box": passage.watch(state_at(arm, start + [0.9, 0, 0, 0, 0, 0], 0.0, wrench=np.zeros(6)), 0.05),
    }
    assert [None if fault is None else fault.name for fault in found.values()] == list(found)
