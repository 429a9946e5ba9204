"""What a run's records come to, in numbers: `summarise` makes the content of report.json."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.report.load import Frames, Note, Run, Ticks
from real_robot.types import Array

__all__ = ["Stage", "angles", "quantiles", "stages", "summarise", "tracking", "tracking_error"]

_LAGS = np.arange(0, 0.5001, 0.005)  # seconds by which an arm may follow what it was sent


def quantiles(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """p50, p99 and max of the values that are finite, and their count; None where there are none.

    >>> quantiles(np.array([1.0, 3.0, np.nan]))
    {'p50': 2.0, 'p99': 2.98, 'max': 3.0, 'count': 2}
    """
    kept = values[np.isfinite(values)]
    if not len(kept):
        return {"p50": None, "p99": None, "max": None, "count": 0}
    p50, p99 = np.quantile(kept, (0.5, 0.99))
    return {"p50": float(p50), "p99": float(p99), "max": float(kept.max()), "count": len(kept)}


@dataclass(frozen=True, eq=False)
class Stage:
    """Seconds that something took (n,), and when, on the run's clock (n,)."""

    at: Array
    seconds: Array


def stages(run: Run) -> dict[str, Stage]:
    """Every latency that the records tell of, by name."""
    ticks, plans = run.ticks, run.plans
    cameras = {
        f"capture to arrival: {name}": Stage(of.arrived, of.arrived - of.stamp) for name, of in run.frames.items()
    }
    perception = Stage(plans.requested, plans.perceived_in)
    if np.isfinite(perception.seconds).any():
        cameras["perception"] = perception
    return cameras | {
        "age of the arm's state": Stage(ticks.t, ticks.t - ticks.state),
        "age of the observation when asked": Stage(plans.requested, plans.requested - plans.observed),
        "planning": Stage(plans.requested, plans.computed_in),
        "round trip of a plan": Stage(plans.requested, plans.received - plans.requested),
        "observation to plan": Stage(plans.requested, plans.received - plans.observed),
        "tick lateness": Stage(ticks.t, ticks.late),
        "tick compute": Stage(ticks.t, ticks.compute),
    }


def summarise(run: Run) -> dict[str, Any]:
    """JSON: outcome, latency of each stage, late and dropped actions, tracking, limits, faults, states, frames."""
    ticks, plans = run.ticks, run.plans
    in_state: dict[str, float] = defaultdict(float)
    for name, since, until in run.states:
        in_state[name] += until - since
    acted = Counter(name for names in ticks.limits for name in names)
    return {
        "start": dict(run.start),
        "end": None if run.end is None else dict(run.end),
        "cut_off": run.end is None,
        "success": None if run.end is None else run.end["success"],
        "duration_s": run.last - run.first,
        "latency_s": {name: quantiles(stage.seconds) for name, stage in stages(run).items()},
        "ticks": {
            "count": len(ticks.t),
            "with_a_command": int(np.isfinite(ticks.sent[:, 0]).sum()),
            "without_a_target": int(np.isnan(ticks.target[:, 0]).sum()),
            "longest_gap_s": float(np.diff(ticks.t).max()) if len(ticks.t) > 1 else None,
        },
        "plans": {
            "requested": len(plans.number),
            "unanswered": int(np.isnan(plans.received).sum()),
            "dropped": int(plans.dropped.sum()),
            "actions": int(plans.steps.sum()),
            "late_actions": int(plans.late.sum()),
            "dropped_actions": int(plans.steps[plans.dropped].sum()),
        },
        "tracking": tracking(ticks),
        "limits": {"ticks": sum(bool(names) for names in ticks.limits), "by_name": dict(acted.most_common())},
        "frames": {name: _camera(of) for name, of in run.frames.items()},
        "faults": [_note(n) for n in run.faults],
        "transitions": [_note(n) for n in run.transitions],
        "markers": [_note(n) for n in run.markers],
        "state_s": dict(in_state),
    }


def tracking(ticks: Ticks) -> dict[str, Any]:
    """How the arm followed what was sent, and how far what was sent is from what the plan wanted.

    error: between the measured pose and the pose sent at the time of the measurement. lag_s: the delay, up to 0.5 s,
    with which the measured positions follow the sent ones best (least squares); error_after_lag: what is left then.
    """
    sent = np.isfinite(ticks.sent[:, 0])
    both = sent & np.isfinite(ticks.target[:, 0])
    metres, radians = _apart(ticks.target[both], ticks.sent[both])
    out: dict[str, Any] = {"changed_by_the_gate": {"metres": quantiles(metres), "radians": quantiles(radians)}}
    nothing = {"metres": quantiles(np.zeros(0)), "radians": quantiles(np.zeros(0))}
    out |= {"error": nothing, "lag_s": None, "error_after_lag": nothing}
    if sent.sum() < 2:
        return out
    metres, radians = tracking_error(ticks)
    out["error"] = {"metres": quantiles(metres), "radians": quantiles(radians)}
    compared = np.isfinite(metres).sum()
    moved = np.ptp(ticks.sent[sent, :3], axis=0).max() > 1e-3  # an arm at rest has no lag
    if moved and compared > 1:
        lag = min(map(float, _LAGS), key=lambda lag: _mean_square(tracking_error(ticks, lag)[0], compared / 2))
        metres, radians = tracking_error(ticks, lag)
        out |= {"lag_s": lag, "error_after_lag": {"metres": quantiles(metres), "radians": quantiles(radians)}}
    return out


def _mean_square(metres: Array, least: float) -> float:
    """Infinite if fewer than `least` could be compared."""
    kept = metres[np.isfinite(metres)]
    return float((kept**2).mean()) if len(kept) >= max(least, 1) else math.inf


def tracking_error(ticks: Ticks, lag: float = 0.0) -> tuple[Array, Array]:
    """(metres, radians), each (n,): measured pose against the one sent `lag` before the measurement; NaN between.

    Positions are interpolated; the orientation is that of the nearest tick. What was sent in one go counts: where
    ticks without a command lie between, nothing is compared.
    """
    n = len(ticks.t)
    at = ticks.state - lag
    after = np.clip(np.searchsorted(ticks.t, at, side="right"), 1, n - 1)
    before = after - 1
    width = ticks.t[after] - ticks.t[before]
    share = np.where(width > 0, (at - ticks.t[before]) / np.where(width > 0, width, 1.0), 0.0)
    share = np.where((share < 0) | (share > 1), np.nan, share)[:, None]
    wanted = (1 - share) * ticks.sent[before, :3] + share * ticks.sent[after, :3]
    near = np.where(share[:, 0] > 0.5, after, before)
    metres: Array = np.linalg.norm(ticks.pose[:, :3] - wanted, axis=1)
    radians = np.where(np.isfinite(metres), angles(ticks.pose[:, 3:], ticks.sent[near, 3:]), np.nan)
    return metres, radians


def angles(a: Array, b: Array) -> Array:
    """Radians (n,) between quaternions (n, 4) of length 1."""
    cosine = np.abs((a * b).sum(-1))
    sine = np.sqrt(np.maximum(0.0, 1 - np.minimum(cosine, 1.0) ** 2))
    out: Array = 2 * np.arctan2(sine, cosine)
    return out


def _apart(a: Array, b: Array) -> tuple[Array, Array]:
    metres: Array = np.linalg.norm(a[:, :3] - b[:, :3], axis=1)
    return metres, angles(a[:, 3:], b[:, 3:])


def _camera(frames: Frames) -> dict[str, Any]:
    """Lost: gaps in the numbers of the pictures that arrived."""
    steps = np.diff(np.sort(frames.number))
    between = np.diff(np.sort(frames.stamp))
    rate = 1 / float(np.median(between)) if len(between) and np.median(between) > 0 else math.nan
    return {
        "count": len(frames.number),
        "lost": int((steps - 1).clip(min=0).sum()),
        "hz": rate if math.isfinite(rate) else None,
        "longest_gap_s": float(between.max()) if len(between) else None,
    }


def _note(note: Note) -> dict[str, Any]:
    return {"t": note.t, **note.texts}
