"""`Desk`: the slot of a policy's requests, which are checked against its spec, as its answers are."""

from __future__ import annotations

from equidiff.spec import Spec
from real_robot.planners.run import check_request, plan_shape
from real_robot.planners.slot import Slot
from real_robot.types import Array, Plan, PlanRequest

__all__ = ["Desk"]


class Desk(Slot[Plan]):
    """The one request under way to a policy and what became of it."""

    def start(self, spec: Spec, request: PlanRequest) -> int:
        """Put a request under way; returns its number for `finish` and `fail`."""
        if self.gone is None:
            check_request(spec, request)
        return self.begin(request)

    def finish(self, spec: Spec, number: int, actions: Array, computed_in: float) -> None:
        """The answer; one that nobody waits for any more is dropped."""
        request = self.waiting(number)
        if request is None:
            return
        if actions.shape != plan_shape(spec):
            self.fail(number, f"the answer has actions of shape {actions.shape}, expected {plan_shape(spec)}")
        else:
            self.end(number, Plan(request.number, request.stamp, actions, computed_in))
