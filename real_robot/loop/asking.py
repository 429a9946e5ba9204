"""`Asking`: when the policy is asked, with which observation, and what becomes of its answers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from real_robot.clock import Clock
from real_robot.contract import DeviceError
from real_robot.loop.faults import Fault, FaultKind
from real_robot.loop.observer import Observer
from real_robot.loop.schedule import ChunkScheduler
from real_robot.planner import Planner, PlannerError
from real_robot.types import PlanRequest, Target

__all__ = ["Asking"]


class Asking:
    """One request under way at a time; answers to requests from before a stop are not used.

    execute: control steps after an observation until the next one is sent. tell: writes a record of a kind.
    """

    def __init__(
        self,
        planner: Planner,
        observer: Observer,
        scheduler: ChunkScheduler,
        execute: int,
        max_age: float,
        tell: Callable[[str, float, dict[str, Any]], None],
    ) -> None:
        self._planner, self._observer, self._scheduler, self._tell = planner, observer, scheduler, tell
        self._step, self._max_age = 1 / planner.spec.control_hz, max_age
        self._execute = execute
        self._number = 0
        self._pending: tuple[int, float] | None = None  # number, time of the request
        self._valid = 0  # requests with a smaller number are from before a stop
        self._delays: deque[float] = deque(maxlen=10)  # observation to answer

    def restart(self) -> None:
        """Forget what was planned: the next plan is made from an observation that is yet to be taken."""
        self._scheduler.clear()
        self._valid = self._number + 1

    def look(self, now: float) -> Fault | None:
        """What is wrong with the observations."""
        try:
            age = now - self._observer.newest
        except DeviceError as error:
            return Fault(FaultKind.SENSOR_LOST, str(error))
        if not -self._max_age < age <= self._max_age:
            return Fault(FaultKind.STALE_OBSERVATION, f"{age:.3f} s old, allowed are {self._max_age} s")
        return None

    def receive(self, now: float, here: Target | None) -> Fault | None:
        """Take in an answer that has come; here: the setpoint."""
        try:
            plan = self._planner.poll()
        except PlannerError as error:
            self._pending = None
            return Fault(FaultKind.POLICY_LOST, str(error))
        if plan is None:
            return None
        pending, self._pending = self._pending, None
        fields: dict[str, Any] = {"number": plan.number, "observed": plan.stamp, "received": now}
        fields |= {"requested": None if pending is None else pending[1], "computed_in": plan.computed_in}
        fields["perceived_in"] = plan.perceived_in
        if plan.number < self._valid:
            self._tell("plan", now, fields | {"steps": len(plan.actions), "late": 0, "dropped": True})
            return None
        self._delays.append(now - plan.stamp)
        taken = self._scheduler.add(plan, now, here)
        self._tell("plan", now, fields | {"steps": taken.steps, "late": taken.late, "dropped": taken.dropped})
        return None

    def ask(self, now: float) -> Fault | None:
        """Ask for a plan when it is time to."""
        stamp = self._scheduler.stamp
        due = stamp is None or now >= stamp + self._execute * self._step - 1e-6
        if self._pending is not None or not due:
            return None
        try:
            seen = self._observer.observe()
        except DeviceError as error:
            return Fault(FaultKind.SENSOR_LOST, str(error))
        if stamp is not None and seen.stamp <= stamp:
            return None  # nothing was measured since
        previous, frozen = None, 0
        if self._scheduler.settings.stitch == "real_time":
            previous = self._scheduler.ahead(seen.stamp)
            if previous is not None:
                frozen = min(len(previous), math.ceil(max(self._delays, default=0.0) / self._step))
        self._number += 1
        try:
            self._planner.submit(PlanRequest(self._number, seen.stamp, seen.arrays, previous, frozen, seen.sights))
        except PlannerError as error:
            return Fault(FaultKind.POLICY_LOST, str(error))
        self._pending = (self._number, now)
        return None

    def drain(self, clock: Clock, longest: float) -> None:
        """Wait for an answer that is under way, so that the planner is free for the next episode."""
        until = clock.now() + longest
        while self._pending is not None and clock.now() < until:
            try:
                if self._planner.poll() is not None:
                    self._pending = None
            except PlannerError:
                self._pending = None
            clock.sleep_until(clock.now() + 0.005)
