"""Made-up comparisons for the tests of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from equidiff.report.pictures import Clip
from equidiff.report.study import Entrant, Run, Study
from equidiff.results import RolloutResult


def result(solved: int, of: int = 50, *, policy: str = "p", task: str = "lift", shuffle: int = 0) -> RolloutResult:
    """`solved` of `of` episodes from seed 100000 on."""
    order = np.random.default_rng(shuffle).permutation(of)
    success = tuple(bool(i < solved) for i in order)
    return RolloutResult(
        task, f"runs/{policy}", policy, tuple(range(100000, 100000 + of)), success, success, (100,) * of, 12.0
    )


def metrics(seed: int, floor: float = 0.01) -> tuple[Mapping[str, float], ...]:
    """A falling training loss and a validation loss that stays above it."""
    rng = np.random.default_rng(seed)
    rows: list[Mapping[str, float]] = []
    for step in range(50, 3001, 50):
        loss = floor + math.exp(-step / 400) * rng.uniform(0.9, 1.1)
        rows.append({"step": step, "train/loss": loss, "lr": 1e-3, "time_s": 0.02 * step})
        if step % 500 == 0:
            rows.append({"step": step, "valid/loss": 1.6 * loss + 0.02})
    return tuple(rows)


def study(
    counts: Mapping[str, int | Sequence[int]], *, goal: float | None = 0.95, label: Mapping[str, str] | None = None
) -> Study:
    """One entrant per name; several counts are several training seeds."""
    entrants = []
    for i, (name, solved) in enumerate(counts.items()):
        each = [solved] if isinstance(solved, int) else list(solved)
        runs = tuple(
            Run(k, result(count, policy=name, shuffle=k), metrics(i + 7 * k, 0.01 * (i + 1)), 60.0)
            for k, count in enumerate(each)
        )
        shown = (label or {}).get(name, name.capitalize())
        entrants.append(Entrant(name, shown, runs, {"parameters": 110_000 * (i + 1), "ms per step": 18.25 + i}))
    return Study(
        title="Lift from 5 demonstrations",
        task="lift",
        entrants=tuple(entrants),
        demonstrations=5,
        goal=goal,
        facts={"CPU": "two cores & <more>", "date": "2026-01-02"},
        commands=(
            ("The whole comparison", "make demo TASK=lift"),
            ("Only the rollouts", "python scripts/eval.py n=50"),
        ),
    )


def clip(shade: int = 100, frames: int = 4, success: bool = True, size: tuple[int, int] = (48, 64)) -> Clip:
    """Flat pictures that get brighter."""
    pictures = np.stack([np.full((*size, 3), min(255, shade + 20 * i), np.uint8) for i in range(frames)])
    return Clip(pictures, f"policy, seed {shade}", success)
