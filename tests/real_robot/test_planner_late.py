"""A planner whose answers are kept back: exact, and no loss is hidden by it."""

from __future__ import annotations

import numpy as np
import pytest
from planner_toys import SPEC, request

from equidiff.spec import Spec
from real_robot.clock import ManualClock
from real_robot.planner import Planner, PlannerError
from real_robot.planners import LatePlanner
from real_robot.settings import SettingsError
from real_robot.types import Plan, PlanRequest


class Quick(Planner):
    """Answers `takes` seconds after it was asked."""

    def __init__(self, clock: ManualClock, takes: float = 0.0) -> None:
        self.clock, self.takes, self.lost, self.closed = clock, takes, False, False
        self._answer: tuple[float, Plan] | None = None

    @property
    def spec(self) -> Spec:
        return SPEC

    def submit(self, request: PlanRequest) -> None:
        self._answer = self.clock.now() + self.takes, Plan(request.number, request.stamp, np.zeros((5, 4)), self.takes)

    def poll(self) -> Plan | None:
        if self.lost:
            raise PlannerError("gone")
        if self._answer is None or self.clock.now() < self._answer[0] - 1e-9:
            return None
        (_, plan), self._answer = self._answer, None
        return plan

    def close(self) -> None:
        self.closed = True


def first(late: LatePlanner, clock: ManualClock) -> float:
    """Seconds from a request to its answer."""
    begin = clock.now()
    late.submit(request())
    while late.poll() is None:
        clock.sleep_until(clock.now() + 0.001)
        assert clock.now() < begin + 5
    assert late.poll() is None  # once
    return clock.now() - begin


@pytest.mark.parametrize(
    ("takes", "delay", "comes"), [(0.0, 0.2, 0.2), (0.05, 0.2, 0.2), (0.3, 0.2, 0.3), (0.1, 0.0, 0.1)]
)
def test_an_answer_comes_when_it_is_due_and_there(takes: float, delay: float, comes: float) -> None:
    clock = ManualClock()
    late = LatePlanner(Quick(clock, takes), clock, delay)
    assert late.spec == SPEC
    for _ in range(3):
        assert first(late, clock) == pytest.approx(comes, abs=0.0021)


def test_a_loss_is_told_at_once_and_what_was_kept_is_forgotten() -> None:
    clock = ManualClock()
    quick = Quick(clock)
    late = LatePlanner(quick, clock, 0.5)
    late.submit(request())
    assert late.poll() is None
    quick.lost = True
    with pytest.raises(PlannerError, match="gone"):
        late.poll()
    quick.lost = False
    clock.sleep_until(1.0)
    assert late.poll() is None
    assert first(late, clock) == pytest.approx(0.5, abs=0.0021)


def test_one_request_at_a_time_and_no_negative_delay() -> None:
    clock = ManualClock()
    quick = Quick(clock)
    late = LatePlanner(quick, clock, 0.5)
    late.submit(request(1))
    late.poll()
    with pytest.raises(ValueError, match="1 is still under way"):
        late.submit(request(2))
    late.close()
    assert quick.closed
    with pytest.raises(SettingsError, match=r"policy\.delay: expected seconds >= 0, got -1"):
        LatePlanner(quick, clock, -1)
