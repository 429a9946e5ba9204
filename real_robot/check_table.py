"""Results of checks on the bench: a table of rules, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Check", "CheckSettings", "Report", "Table"]


@dataclass(frozen=True)
class Check:
    """One rule: its name, whether it holds, and what was measured."""

    name: str
    passed: bool
    measured: str


@dataclass(frozen=True)
class Report:
    """All checks in their order."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all hold."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of those that do not."""
        return tuple(check.name for check in self.checks if not check.passed)

    def __str__(self) -> str:
        width = max((len(check.name) for check in self.checks), default=0)
        return "\n".join(f"{'ok  ' if c.passed else 'FAIL'}  {c.name:<{width}}  {c.measured}" for c in self.checks)


@dataclass(frozen=True)
class CheckSettings:
    """distance: metres the tool is moved along the base's z; speed: m/s of it. tolerance: metres within which it has
    to arrive. max_age: seconds, of a state that counts as fresh. patience: seconds to wait for an arm or a picture."""

    distance: float = 0.01
    speed: float = 0.05
    tolerance: float = 0.002
    max_age: float = 0.1
    patience: float = 2.0


@dataclass
class Table:
    """Checks as they come."""

    checks: list[Check] = field(default_factory=list)

    def add(self, name: str, passed: bool, measured: str) -> bool:
        """One more; returns whether it holds."""
        self.checks.append(Check(name, bool(passed), measured))
        return bool(passed)

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """A driver that raises what it should not fails the check of that name, and the others go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a driver under test raises is its result
            self.add(name, False, f"{type(error).__name__}: {error}")

    def report(self) -> Report:
        """What was found so far."""
        return Report(tuple(self.checks))
