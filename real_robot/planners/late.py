"""`LatePlanner`: any planner, its answers no sooner than a delay after they were asked for."""

from __future__ import annotations

from equidiff.spec import Spec
from real_robot.clock import Clock
from real_robot.planner import Planner, PlannerError
from real_robot.settings import SettingsError
from real_robot.types import Plan, PlanRequest

__all__ = ["LatePlanner"]


class LatePlanner(Planner):
    """Keeps an answer until `delay` seconds of `clock` after its request; one that takes longer comes when it comes.

    So a loop in real time is measured with a slower computer or network than there is. The planner is the caller's to
    close.
    """

    def __init__(self, planner: Planner, clock: Clock, delay: float) -> None:
        if not delay >= 0:
            raise SettingsError(f"policy.delay: expected seconds >= 0, got {delay}")
        self._planner, self._clock, self._delay = planner, clock, delay
        self._due = 0.0
        self._answer: Plan | None = None

    @property
    def spec(self) -> Spec:
        return self._planner.spec

    def submit(self, request: PlanRequest) -> None:
        if self._answer is not None:
            raise ValueError(f"request {request.number}: {self._answer.number} is still under way; poll for it")
        self._planner.submit(request)
        self._due = self._clock.now() + self._delay

    def poll(self) -> Plan | None:
        try:
            plan = self._planner.poll()  # also while one waits: this is how a loss is told
        except PlannerError:
            self._answer = None
            raise
        if plan is not None:
            self._answer = plan
        if self._answer is None or self._clock.now() < self._due - 1e-9:
            return None
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        self._answer = None
        self._planner.close()
