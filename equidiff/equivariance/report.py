"""What was measured: errors of stages over the angle, the limit that judges each, and what failed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Report", "Stage"]


@dataclass(frozen=True)
class Stage:
    """errors: relative error at each angle, None where the stage has no law. limits: None where it is not judged.
    references: where pictures or grids are interpolated, the error had they not been turned at all; else None.
    """

    name: str
    errors: tuple[float | None, ...]
    limits: tuple[float | None, ...]
    references: tuple[float | None, ...] = ()

    @property
    def worst(self) -> dict[str, float]:
        """Largest error over the angles at which the law is "exact", at which a "grid" is interpolated, and the others
        ("between"); "share": the largest error at the second, divided by the reference.
        """
        found: dict[str, float] = {}
        references = self.references or (None,) * len(self.errors)
        for error, limit, reference in zip(self.errors, self.limits, references, strict=True):
            if error is None:
                continue
            if reference is None:
                new = {"between" if limit is None else "exact": error}
            else:
                new = {"grid": error, "share": error / max(reference, 1e-12)}
            for key, value in new.items():  # not max(): it would drop what is not a number
                found[key] = value if not found.get(key, -1.0) >= value else found[key]
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
    """order: of the group that is judged. angles: radians. threshold, bound: the limits, see Judgement."""

    order: int
    angles: tuple[float, ...]
    stages: tuple[Stage, ...]
    threshold: float
    bound: float | None = None

    @property
    def failures(self) -> list[str]:
        """Every stage and angle above its limit, stages in the order of the computation."""
        return [line for stage in self.stages for line in stage.failures(self.angles)]

    @property
    def failed(self) -> list[str]:
        """Names of the stages that failed."""
        return [stage.name for stage in self.stages if stage.failures(self.angles)]

    def verdict(self, stage: Stage) -> str:
        """ok, FAILED, not judged, or not measured."""
        if stage.failures(self.angles):
            return "FAILED"
        measured = [limit for error, limit in zip(stage.errors, stage.limits, strict=True) if error is not None]
        if not measured:
            return "not measured"
        return "ok" if any(limit is not None for limit in measured) else "not judged"

    @property
    def grid_limit(self) -> str:
        """What judges the angles at which a grid is interpolated."""
        return "not judged" if self.bound is None else f"limit {self.bound:g} of unturned"

    def to_json(self) -> dict[str, Any]:
        """Numbers for equivariance.json."""
        return {
            "formula": FORMULA,
            "order": self.order,
            "threshold": self.threshold,
            "between_share": self.bound,
            "degrees": [round(math.degrees(angle), 6) for angle in self.angles],
            "stages": {
                s.name: {"errors": list(s.errors), "limits": list(s.limits), "unturned": list(s.references)}
                for s in self.stages
            },
            "failed": self.failed,
        }

    def table(self) -> str:
        """Text for the terminal."""
        width = max(len(stage.name) for stage in self.stages)
        lines = [f"{'stage':<{width}}   {'exact':>9}   {'grid':>9}   {'of that':>9}   {'between':>9}"]
        for stage in self.stages:
            worst = stage.worst
            cells = [worst.get(kind) for kind in ("exact", "grid", "share", "between")]
            text = "   ".join(f"{'-' if cell is None else format(cell, '.2e'):>9}" for cell in cells)
            lines.append(f"{stage.name:<{width}}   {text}   {self.verdict(stage)}")
        lines.append(
            f"largest relative error ({FORMULA}); exact: limit {self.threshold:g}; grid: angles of the group at which "
            f"pictures or voxels are interpolated, {self.grid_limit}; of that: as a share of the error had they not "
            "been turned; between: not judged"
        )
        return "\n".join(lines)


FORMULA = "|f(g x) - g f(x)| / |f(x)|, Euclidean norms over the batch"
