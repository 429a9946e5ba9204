"""`LocalPlanner`: the policy in a thread of this process, for simulation and tests."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from equidiff.policy import Policy
from equidiff.spec import Spec
from real_robot.planner import Planner
from real_robot.planners.desk import Desk
from real_robot.planners.run import run_policy, warm_up
from real_robot.types import Plan, PlanRequest

__all__ = ["LocalPlanner", "explain"]


class LocalPlanner(Planner):
    """Shares Python's lock with the loop, whose ticks it may delay; an arm wants a ProcessPlanner.

    seed: of the noise, None for a different one each time. timeout: seconds until a request is given up.
    """

    def __init__(self, policy: Policy, *, timeout: float = 1.0, seed: int | None = None) -> None:
        self._policy, self._desk = policy, Desk(timeout)
        self._generator = seeded(seed)
        warm_up(policy)
        self._worker = ThreadPoolExecutor(1, "planner")

    @property
    def spec(self) -> Spec:
        return self._policy.spec

    def submit(self, request: PlanRequest) -> None:
        number = self._desk.start(self.spec, request)
        # the caller's arrays may be views of a buffer that goes on
        own = PlanRequest(
            request.number,
            request.stamp,
            {key: np.array(value) for key, value in request.observation.items()},
            None if request.previous is None else np.array(request.previous),
            request.frozen,
        )
        done = self._worker.submit(run_policy, self._policy, own, self._generator)
        done.add_done_callback(partial(self._deliver, number))

    def _deliver(self, number: int, done: Future[Plan]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._desk.fail(number, explain(error))
        else:
            plan = done.result()
            self._desk.finish(self.spec, number, plan.actions, plan.computed_in)

    def poll(self) -> Plan | None:
        return self._desk.poll()

    def close(self) -> None:
        self._desk.close()
        self._worker.shutdown(wait=False, cancel_futures=True)


def explain(error: BaseException) -> str:
    """One line about a policy that raised."""
    return f"the policy failed ({type(error).__name__}: {error})"


def seeded(seed: int | None) -> torch.Generator:
    """A generator of the CPU, from `seed` or from the system's random numbers."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
