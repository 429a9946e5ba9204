"""What a comparison of policies is: its runs, pooled success rates, paired tests and a sentence that sums it up."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equidiff.report.svg import palette
from equidiff.results import ResultError, RolloutResult, compare
from equidiff.statistics import Paired, Proportion

__all__ = ["Entrant", "Run", "Study", "format_p", "headline", "read_metrics", "series", "versus"]


@dataclass(frozen=True)
class Run:
    """One training of a policy and its evaluation. `metrics`: the lines of metrics.jsonl."""

    training_seed: int
    result: RolloutResult
    metrics: tuple[Mapping[str, float], ...] = ()
    train_s: float = 0.0


@dataclass(frozen=True)
class Entrant:
    """A policy of the comparison. `facts`: settings and costs to show, {name: value}."""

    key: str
    label: str
    runs: tuple[Run, ...]
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seeds = [run.training_seed for run in self.runs]
        if not seeds or len(set(seeds)) != len(seeds):
            raise ResultError(f"{self.label!r}: expected runs of different training seeds, at least one, got {seeds}")

    @property
    def pooled(self) -> Proportion:
        """Success in the final state over the episodes of all runs."""
        counts = [run.result.at_end for run in self.runs]
        return Proportion(sum(c.successes for c in counts), sum(c.trials for c in counts))

    @property
    def pooled_any(self) -> Proportion:
        """Success at some step over the episodes of all runs."""
        counts = [run.result.at_any for run in self.runs]
        return Proportion(sum(c.successes for c in counts), sum(c.trials for c in counts))

    @property
    def rates(self) -> tuple[float, ...]:
        """Success rate of each run."""
        return tuple(run.result.at_end.rate for run in self.runs)


@dataclass(frozen=True)
class Study:
    """A comparison: the first entrant is the one of interest, the others are what it is measured against.

    goal: success rate (0 to 1) that the first entrant should reach, or None. facts: rows for the reader,
    commands: (what it does, command line) to reproduce the study.
    """

    title: str
    task: str
    entrants: tuple[Entrant, ...]
    demonstrations: int | None = None
    goal: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.entrants:
            raise ResultError(f"study {self.title!r}: needs at least one policy")
        keys = [entrant.key for entrant in self.entrants]
        if len(set(keys)) != len(keys):
            raise ResultError(f"study {self.title!r}: a policy occurs twice: {keys}")

    @property
    def tests(self) -> tuple[tuple[Entrant, Entrant, Paired], ...]:
        """The first entrant against each of the others."""
        first, *others = self.entrants
        return tuple((first, other, versus(first, other)) for other in others)

    def colour(self, entrant: Entrant) -> str:
        """The colour of an entrant in every chart."""
        return palette([e.key for e in self.entrants].index(entrant.key))


def versus(first: Entrant, second: Entrant) -> Paired:
    """Paired table over the episodes of all runs; runs are matched by training seed.

    With several training seeds the table counts pairs (training seed, episode), so it speaks of these
    trainings, not of all that could have been. Raises ResultError if seeds do not match.
    """
    a, b = ({run.training_seed: run.result for run in entrant.runs} for entrant in (first, second))
    if set(a) != set(b):
        raise ResultError(
            f"versus: {first.label!r} was trained with seeds {sorted(a)}, {second.label!r} with {sorted(b)}; "
            "a paired test needs the same"
        )
    tables = [compare(a[seed], b[seed]) for seed in a]
    return Paired(*(sum(getattr(t, name) for t in tables) for name in ("both", "only_first", "only_second", "neither")))


def headline(study: Study) -> list[str]:
    """Sentences computed from the outcomes: the rate, who is better, level or worse, and whether the goal is met."""
    first, rate = study.entrants[0], study.entrants[0].pooled
    source = f"From {_count(study.demonstrations, 'demonstration')}, the" if study.demonstrations else "The"
    low, high = rate.interval()
    trainings = f" (pooled over {len(first.runs)} trainings)" if len(first.runs) > 1 else ""
    sentences = [
        f"{source} {_inline(first.label)} policy solves {rate.successes} of {rate.trials} new episodes of "
        f"{study.task}{trainings}: {_percent(rate.rate)}, 95 % interval {100 * low:.0f} to {100 * high:.0f} %."
    ]
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for _, other, table in study.tests:
        seen = f"{_inline(other.label)} ({other.pooled.successes} of {other.pooled.trials}, {format_p(table.p_value)})"
        groups[table.better()].append(seen)
    if groups[1]:
        sentences.append(f"It is clearly better than {_listed(groups[1])}.")
    if groups[0]:
        sentences.append(f"These episodes do not tell it from {_listed(groups[0])}.")
    if groups[-1]:
        sentences.append(f"It is clearly worse than {_listed(groups[-1])}.")
    if study.goal is not None:
        missing = round(100 * (study.goal - rate.rate), 1)
        reached = "is met" if missing <= 0 else f"is missed by {missing:g} point{'' if missing == 1 else 's'}"
        sentences.append(f"The goal of {_percent(study.goal)} {reached}.")
    return sentences


def format_p(p: float) -> str:
    """`p = 0.012`, or `p < 0.0001`."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}" if p < 0.995 else "p = 1"


def read_metrics(path: str | os.PathLike[str]) -> tuple[Mapping[str, float], ...]:
    """Lines of a metrics.jsonl; a last line that is still being written is left out. Missing file: no lines."""
    file = Path(path)
    if not file.is_file():
        return ()
    rows: list[Mapping[str, float]] = []
    lines = file.read_text().split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ResultError(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ResultError(f"{file}, line {number}: expected a JSON object, got {line[:60]!r}")
        rows.append(row)
    return tuple(rows)


def series(metrics: Sequence[Mapping[str, float]], key: str) -> tuple[tuple[float, float], ...]:
    """(step, value) of every line that has `key`."""
    return tuple((float(m["step"]), float(m[key])) for m in metrics if key in m and _finite(m[key]))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _inline(label: str) -> str:
    """A label inside a sentence."""
    return label[0].lower() + label[1:]


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
