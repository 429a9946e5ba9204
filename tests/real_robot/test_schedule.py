"""Plans by time: late steps, interpolation, stitching, and the actions that a new plan has to agree with."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from law_toys import make
from loop_toys import SPEC

from real_robot.loop.schedule import ChunkScheduler, ScheduleError, ScheduleSettings
from real_robot.poses import Pose
from real_robot.types import Plan, Target
from real_robot.world import World

STEP = 0.05
BASE = Pose.from_rotvec([-0.5, 0.1, 0.9], [0, 0, 0.7])
WORLD = World(BASE, (0.0, 0.08))


def scheduler(**settings: Any) -> ChunkScheduler:
    return ChunkScheduler(SPEC, WORLD, ScheduleSettings(**settings))


def plan(stamp: float, start: float = 0.0, number: int = 1, steps: int = 8) -> Plan:
    """x grows by 10 mm a step, the yaw by 0.1 rad; the gripper closes at row 4."""
    rows = np.arange(steps)
    actions = np.zeros((steps, 7))
    actions[:, 0], actions[:, 2] = start + 0.01 * (rows + 1), 1.0
    actions[:, 5] = 0.1 * (rows + 1)
    actions[:, 6] = np.where(rows >= 4, 1.0, -1.0)
    return Plan(number, stamp, actions, 0.01)


def seen(target: Target | None) -> tuple[float, float, float]:
    """x and yaw in the world, opening."""
    assert target is not None
    pose = BASE @ target.pose
    return float(pose.position[0]), float(pose.rotvec[2]), target.gripper


def test_targets_lie_between_the_rows_in_time() -> None:
    made = scheduler()
    taken = made.add(plan(10.0), now=10.0)
    assert (taken.steps, taken.late, taken.dropped) == (8, 0, False)
    assert seen(made.target(10.0 + 2 * STEP)) == pytest.approx((0.02, 0.2, 0.08))
    assert seen(made.target(10.0 + 2.5 * STEP)) == pytest.approx((0.025, 0.25, 0.08))
    # the gripper goes at the start of its step
    assert seen(made.target(10.0 + 4.1 * STEP))[2] == 0.0
    assert made.end == pytest.approx(10.4)
    assert made.target(10.0 + 8.01 * STEP) is None


def test_held_targets_are_those_of_the_step() -> None:
    made = scheduler(interpolation="hold")
    made.add(plan(10.0), now=10.0)
    assert seen(made.target(10.0)) == pytest.approx((0.01, 0.1, 0.08))
    assert seen(made.target(10.0 + 1.99 * STEP)) == pytest.approx((0.02, 0.2, 0.08))
    assert seen(made.target(10.0 + 2.01 * STEP)) == pytest.approx((0.03, 0.3, 0.08))


def test_a_first_plan_starts_from_where_the_arm_is() -> None:
    made = scheduler()
    here = Target(BASE.inverse() @ Pose.from_rotvec([0.0, 0, 1.0], [0, 0, 0]), 0.08)
    made.add(plan(10.0), now=10.0, here=here)
    assert seen(made.target(10.0))[:2] == pytest.approx((0.0, 0.0))
    assert seen(made.target(10.0 + 0.5 * STEP))[:2] == pytest.approx((0.005, 0.05))


def test_a_lead_makes_up_for_the_arms_lag() -> None:
    made = scheduler(lead=2 * STEP)
    made.add(plan(10.0), now=10.0)
    assert seen(made.target(10.0))[0] == pytest.approx(0.02)
    assert made.end == pytest.approx(10.3)


@pytest.mark.parametrize(("delay", "late"), [(0.0, 0), (0.049, 0), (0.05, 1), (0.12, 2), (0.39, 7)])
def test_late_steps_are_dropped(delay: float, late: int) -> None:
    made = scheduler()
    taken = made.add(plan(10.0), now=10.0 + delay)
    assert (taken.late, taken.dropped) == (late, False)
    assert seen(made.target(10.0 + delay + 1e-6))[0] >= 0.01 * max(1, late) - 1e-9


def test_a_plan_that_is_past_or_older_is_not_followed() -> None:
    made = scheduler()
    assert made.add(plan(10.0), now=10.4).dropped
    assert made.target(10.4) is None
    made.add(plan(11.0, number=2), now=11.0)
    assert made.add(plan(10.9, start=5.0, number=3), now=11.0).dropped
    assert seen(made.target(11.0 + STEP))[0] == pytest.approx(0.01)


def test_a_new_plan_replaces_the_old_one_at_once() -> None:
    made = scheduler(stitch="replace")
    made.add(plan(10.0), now=10.0)
    made.add(plan(10.2, start=0.2, number=2), now=10.25)
    assert seen(made.target(10.25))[0] == pytest.approx(0.21)


@pytest.mark.parametrize("stitch", ["blend", "real_time"])
def test_blending_goes_over_to_the_new_plan(stitch: str) -> None:
    made = scheduler(stitch=stitch, blend=0.1)
    made.add(plan(10.0), now=10.0)
    made.add(plan(10.2, start=0.2, number=2), now=10.2 + STEP)
    old, new = 0.05, 0.21
    assert seen(made.target(10.25))[0] == pytest.approx(old)
    assert seen(made.target(10.3))[0] == pytest.approx((0.06 + 0.22) / 2)
    assert seen(made.target(10.35 + 1e-9))[0] == pytest.approx(0.23)
    assert new < 0.23
    distances = [seen(made.target(10.25 + t))[0] for t in np.linspace(0, 0.1, 21)]
    assert np.all(np.diff(distances) > 0)


def test_the_actions_ahead_are_those_of_the_old_plan() -> None:
    made = scheduler()
    assert made.ahead(10.0) is None
    made.add(plan(10.0), now=10.0)
    ahead = made.ahead(10.15)
    assert ahead is not None
    assert ahead[:, 0] == pytest.approx(0.01 * np.arange(4, 9))
    assert made.ahead(10.5) is None
    ahead[:] = 0  # a copy
    assert seen(made.target(10.15 + STEP))[0] == pytest.approx(0.04)
    made.clear()
    assert made.ahead(10.15) is None
    assert made.target(10.2) is None


@pytest.mark.parametrize("key", ["interpolation", "stitch", "blend", "lead"])
def test_settings_are_checked(key: str) -> None:
    with pytest.raises(ScheduleError, match=f"schedule.{key}"):
        dataclasses.replace(ScheduleSettings(), **{key: "never" if key in ("interpolation", "stitch") else 2.0})


@pytest.mark.parametrize("action", ["absolute", "relative_trajectory", "gripper_trajectory"])
def test_policies_of_absolute_targets_are_scheduled(action: str) -> None:
    ChunkScheduler(make(4, action=action).spec, WORLD, ScheduleSettings())


def test_policies_of_deltas_are_refused_with_the_way_out() -> None:
    with pytest.raises(ScheduleError, match=r"Displacement.*train with action=absolute"):
        ChunkScheduler(make(4, action="relative").spec, WORLD, ScheduleSettings())
