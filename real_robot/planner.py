"""`Planner`: where plans come from, in this process, in another one, or on another machine; never blocks the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod

from equidiff.spec import Spec
from real_robot.types import Plan, PlanRequest

__all__ = ["Planner", "PlannerError"]


class PlannerError(RuntimeError):
    """A policy that crashed, is lost, or answers something that is no plan."""


class Planner(ABC):
    """One request under way at a time."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """What the policy reads and gives; known once the planner exists."""

    @abstractmethod
    def submit(self, request: PlanRequest) -> None:
        """Start planning and return at once. PlannerError when it is gone; ValueError with one still under way."""

    @abstractmethod
    def poll(self) -> Plan | None:
        """The answer, once, or None while it is not there. PlannerError when it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Idempotent, never raises."""
