"""What was measured: errors of stages over the angle, the limit that judges each, and what failed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Report", "Stage"]


@dataclass(frozen=True)
class Stage:
    """errors: relative error at each angle, None where the stage has no law. limits: None where it is not judged."""

    name: str
    errors: tuple[float | None, ...]
    limits: tuple[float | None, ...]

    @property
    def worst(self) -> dict[str, float]:
        """Largest error over the angles judged by each limit, and over those that are not judged ("free")."""
        found: dict[str, float] = {}
        for error, limit in zip(self.errors, self.limits, strict=True):
            if error is not None:
                key = "free" if limit is None else f"{limit:g}"
                # not max(): it would drop what is not a number
                found[key] = error if not found.get(key, -1.0) >= error else found[key]
        return found

    def failures(self, angles: tuple[float, ...]) -> list[str]:
        """One line for each angle whose error is above its limit."""
        rows = zip(angles, self.errors, self.limits, strict=True)
        return [
            f"{self.name}: error {error:.3g} at {math.degrees(angle):.1f} degrees, limit {limit:g}"
            for angle, error, limit in rows
            if error is not None and limit is not None and not error <= limit
        ]


@dataclass(frozen=True)
class Report:
    """order: of the group that is judged. angles: radians. threshold, bound: the limits, see measure."""

    order: int
    angles: tuple[float, ...]
    stages: tuple[Stage, ...]
    threshold: float
    bound: float

    @property
    def failures(self) -> list[str]:
        """Every stage and angle above its limit, stages in the order of the computation."""
        return [line for stage in self.stages for line in stage.failures(self.angles)]

    @property
    def failed(self) -> list[str]:
        """Names of the stages that failed."""
        return [stage.name for stage in self.stages if stage.failures(self.angles)]

    def verdict(self, stage: Stage) -> str:
        """ok, FAILED, or not measured."""
        if stage.failures(self.angles):
            return "FAILED"
        return "ok" if any(error is not None for error in stage.errors) else "not measured"

    def to_json(self) -> dict[str, Any]:
        """Numbers for equivariance.json."""
        return {
            "formula": FORMULA,
            "order": self.order,
            "threshold": self.threshold,
            "between_bound": self.bound,
            "degrees": [round(math.degrees(angle), 6) for angle in self.angles],
            "stages": {s.name: {"errors": list(s.errors), "limits": list(s.limits)} for s in self.stages},
            "failed": self.failed,
        }

    def table(self) -> str:
        """Text for the terminal."""
        width = max(len(stage.name) for stage in self.stages)
        lines = [f"{'stage':<{width}}   {'exact':>9}   {'grid':>9}   {'between':>9}"]
        for stage in self.stages:
            worst = stage.worst
            # with equal limits both kinds are one
            cells = [worst.get(f"{self.threshold:g}"), worst.get(f"{self.bound:g}"), worst.get("free")]
            text = "   ".join(f"{'-' if cell is None else format(cell, '.2e'):>9}" for cell in cells)
            lines.append(f"{stage.name:<{width}}   {text}   {self.verdict(stage)}")
        lines.append(
            f"largest relative error ({FORMULA}); exact: limit {self.threshold:g}; grid: angles of the group at which "
            f"pictures or voxels are interpolated, limit {self.bound:g}; between: not judged"
        )
        return "\n".join(lines)


FORMULA = "|f(g x) - g f(x)| / |f(x)|, Euclidean norms over the batch"
