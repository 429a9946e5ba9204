"""`ChunkScheduler`: which target a plan has for a time, when plans come late and overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from equidiff.fields import Position, Rotation, Scalars
from equidiff.spec import Spec
from real_robot.types import Array, Plan, Target
from real_robot.world import World

__all__ = ["ChunkScheduler", "ScheduleError", "ScheduleSettings", "Taken"]

Interpolation = Literal["linear", "hold"]
Stitch = Literal["replace", "blend", "real_time"]


class ScheduleError(ValueError):
    """Settings, or a policy, that cannot be scheduled; the message says why."""


@dataclass(frozen=True)
class ScheduleSettings:
    """interpolation: "linear": between targets, on SE(3); "hold": each for its whole step, as simulation did when the
    data were made. stitch: how a new plan follows the one under way: "replace": at once; "blend": over `blend` seconds;
    "real_time": likewise, and the policy was told what it has to agree with. lead: seconds by which targets are ahead
    of their time, to make up for the arm's own lag.
    """

    interpolation: Interpolation = "linear"
    stitch: Stitch = "real_time"
    blend: float = 0.1
    lead: float = 0.0

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("stitch", self.stitch, get_args(Stitch)),
        ):
            if value not in kinds:
                raise ScheduleError(f"schedule.{name}: expected one of {', '.join(kinds)}, got {value!r}")
        for name in ("blend", "lead"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ScheduleError(f"schedule.{name}: expected 0 to 1 s, got {value}")


@dataclass(frozen=True)
class Taken:
    """What became of a plan: steps in it, those dropped because their time was past, and whether all of it was."""

    steps: int
    late: int
    dropped: bool


class ChunkScheduler:
    """Targets by time, in the base frame; plans in the world frame of the training data.

    Row j of a plan for time `stamp` is the action of the control step that starts at stamp + j / control_hz: the arm
    shall be there at the end of that step ("linear"), or is asked to go there from its start on ("hold").

        time      stamp        +1          +2          +3         (control steps)
        rows      |---- 0 ----|---- 1 ----|---- 2 ----|
        linear    o->->->->->-0->->->->->-1->->->->->-2           o: where the plan that was followed is, or the arm
        hold      0           1           2
        arrives            ^ here: row 0 is late, the target is between 0 and 1
    """

    def __init__(self, spec: Spec, world: World, settings: ScheduleSettings) -> None:
        _check_actions(spec)
        self._step, self._world, self.settings = 1 / spec.control_hz, world, settings
        self._plan: _Timed | None = None
        self._before: _Timed | None = None  # what is blended out
        self._switched = -math.inf

    def clear(self) -> None:
        """Forget all plans: after a stop the next one starts from where the arm is."""
        self._plan = self._before = None
        self._switched = -math.inf

    @property
    def stamp(self) -> float | None:
        """Time of the observation of the plan that is followed."""
        return None if self._plan is None else self._plan.stamp

    @property
    def end(self) -> float:
        """Until when there are targets; -inf without a plan."""
        return -math.inf if self._plan is None else self._plan.end

    def add(self, plan: Plan, now: float, here: Target | None = None) -> Taken:
        """Follow `plan` from now on, unless all of it is past, or it is older than the one that is followed.

        here: where the setpoint is; a first plan starts from there.
        """
        timed = _Timed(plan, self._step, self._world, self.settings)
        late = min(len(plan.actions), max(0, math.floor((now - plan.stamp) / self._step + 1e-6)))
        if late == len(plan.actions) or (self._plan is not None and plan.stamp <= self._plan.stamp):
            return Taken(len(plan.actions), late, True)
        follows = self._plan is not None and self._plan.end > now
        self._before = self._plan if follows else None
        timed.start = self._plan.target(plan.stamp) if self._plan is not None and follows else here
        self._plan, self._switched = timed, now
        return Taken(len(plan.actions), late, False)

    def target(self, at: float) -> Target | None:
        """Where to be at a time; None when the plan has nothing for it."""
        if self._plan is None:
            return None
        new = self._plan.target(at)
        if self.settings.stitch == "replace" or self._before is None or new is None:
            return new
        share = (at - self._switched) / self.settings.blend if self.settings.blend > 0 else 1.0
        old = self._before.target(at)
        if share >= 1 or old is None:
            self._before = None
            return new
        return Target(old.pose.towards(new.pose, max(0.0, share)), new.gripper)

    def ahead(self, stamp: float) -> Array | None:
        """Actions (k, A) of the plan that is followed, the first for the control step at `stamp`, row by row nearest in
        time; None if there are none."""
        return None if self._plan is None else self._plan.rows_from(stamp)


class _Timed:
    """A plan as poses by time."""

    def __init__(self, plan: Plan, step: float, world: World, settings: ScheduleSettings) -> None:
        self.stamp, self._step, self._actions = plan.stamp, step, plan.actions
        self._targets = [world.target(action) for action in plan.actions]
        self._hold, self._lead = settings.interpolation == "hold", settings.lead
        self.end = plan.stamp + len(plan.actions) * step - settings.lead
        self.start: Target | None = None

    def target(self, at: float) -> Target | None:
        place = (at + self._lead - self.stamp) / self._step
        if place > len(self._targets) + 1e-9:
            return None
        row = min(max(int(place + 1e-9), 0), len(self._targets) - 1)
        here = self._targets[row]
        if self._hold:
            return here
        before = self._targets[row - 1] if row > 0 else self.start
        if before is None:
            return here
        # a gripper does not wait half open: it goes at the start of its step, as in the data
        return Target(before.pose.towards(here.pose, min(max(place - row, 0.0), 1.0)), here.gripper)

    def rows_from(self, stamp: float) -> Array | None:
        first = round((stamp - self.stamp) / self._step)
        if not 0 <= first < len(self._actions):
            return None
        return np.array(self._actions[first:])


def _check_actions(spec: Spec) -> None:
    """Raise ScheduleError unless a stored action is a pose in the world and a gripper, 7 numbers."""
    sources = [field.sources[0] for field in spec.action.fields]
    kinds = [type(source) for source in sources]
    if kinds != [Position, Rotation, Scalars] or [s.shape for s in sources] != [(3,), (3,), (1,)]:
        found = ", ".join(f"{s.key} ({type(s).__name__}, {s.shape})" for s in sources)
        raise ScheduleError(
            "a chunk is scheduled as target poses: position (3), rotation vector (3), gripper (1); this policy's "
            f"actions are {found}. Deltas mean nothing at another time than the one they were predicted for: "
            "convert the data (scripts/convert_actions.py) and "
            "train with action=absolute"
        )
