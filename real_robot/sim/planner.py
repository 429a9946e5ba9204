"""`DelayedPlanner`: a policy whose answers come after a delay of the run's clock, to the tick."""

from __future__ import annotations

import torch

from equidiff.policy import Policy
from equidiff.spec import Spec
from real_robot.clock import Clock
from real_robot.planner import Planner, PlannerError
from real_robot.planners import check_request, run_policy
from real_robot.settings import SettingsError
from real_robot.types import Plan, PlanRequest

__all__ = ["DelayedPlanner"]


class DelayedPlanner(Planner):
    """Computes at once, in the caller's thread, and keeps the answer for `delay` seconds.

    On a ManualClock, where computing takes no time, that makes a run with any delay repeatable. seed: of the noise.
    `crashed` is a fault: the process is gone.
    """

    def __init__(self, policy: Policy, clock: Clock, delay: float, seed: int = 0) -> None:
        if not delay >= 0:
            raise SettingsError(f"delay: expected seconds >= 0, got {delay}")
        self._policy, self._clock, self.delay = policy, clock, delay
        self._generator = torch.Generator().manual_seed(seed)
        self._answer: tuple[float, Plan] | None = None
        self.crashed = False

    @property
    def spec(self) -> Spec:
        return self._policy.spec

    def submit(self, request: PlanRequest) -> None:
        if self.crashed:
            raise PlannerError("the policy's process is gone")
        if self._answer is not None:
            raise ValueError("one request is under way already")
        check_request(self.spec, request)
        self._answer = (self._clock.now() + self.delay, run_policy(self._policy, request, self._generator))

    def poll(self) -> Plan | None:
        if self.crashed:
            raise PlannerError("the policy's process is gone")
        if self._answer is None or self._answer[0] > self._clock.now() + 1e-9:
            return None
        (_, plan), self._answer = self._answer, None
        return plan

    def close(self) -> None:
        self._answer = None
