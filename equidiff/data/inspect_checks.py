"""Odd values within one demonstration: each check is one function of its arrays that returns findings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.episode import DataError

__all__ = ["Finding", "Limits", "check_demo", "digest", "longest_idle"]

_SATURATED = 0.999


@dataclass(frozen=True)
class Finding:
    """severity: `problem` (training would fail or learn something wrong) or `note` (worth a look)."""

    severity: str
    topic: str
    demo: str
    message: str


@dataclass(frozen=True)
class Limits:
    """What counts as odd. jump: metres between two steps; turn: radians between two steps; idle: seconds at rest;
    still: metres a step below which the gripper rests; saturated: share of action components at +-1."""

    jump: float = 0.15
    turn: float = 1.0
    idle: float = 2.0
    still: float = 2e-4
    saturated: float = 0.3
    quaternion: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise DataError(f"limits.{name}: expected a number > 0, got {value}")


def check_demo(
    demo: str, arrays: Mapping[str, NDArray[Any]], kinds: Mapping[str, str], limits: Limits, hz: float
) -> Iterator[Finding]:
    """Findings in the small arrays {name: (T, *shape)} of one demonstration."""
    for name, values in arrays.items():
        kind = kinds[name]
        if kind == "position" and name.startswith("obs/"):
            yield from _jumps(demo, name, values, limits.jump)
        elif kind == "quaternion":
            yield from _quaternions(demo, name, values, limits)
    if "actions" in arrays:
        yield from _actions(demo, arrays["actions"], limits.saturated)
    main = arrays.get("actions", arrays.get("actions_abs"))
    position = arrays.get("obs/robot0_eef_pos")
    if position is not None and len(position) > 1:
        at, length = longest_idle(position, main, limits.still)
        if length > limits.idle * hz:
            where = "at the end" if at + length >= len(position) else f"from step {at}"
            yield Finding("note", "idle", demo, f"the gripper rests for {length / hz:.1f} s {where}")


def digest(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Equal for demonstrations with equal actions and gripper path, to 1e-6; None without actions."""
    names = [n for n in ("actions", "actions_abs", "obs/robot0_eef_pos") if n in arrays]
    if not names:
        return None
    sha = hashlib.sha256()
    for name in names:
        values = np.nan_to_num(np.asarray(arrays[name], dtype=np.float64))
        sha.update(np.round(values, 6).tobytes())
    return sha.hexdigest()


def longest_idle(position: NDArray[Any], action: NDArray[Any] | None, still: float) -> tuple[int, int]:
    """(first step, steps) of the longest rest: moving < `still` m a step with a constant gripper command."""
    rests = np.linalg.norm(np.diff(position, axis=0), axis=1) < still
    if action is not None and len(action) == len(position):
        rests &= np.diff(action[:, -1]) == 0
    edges = np.diff(np.concatenate([[0], rests.astype(int), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0, 0
    i = int(np.argmax(ends - starts))
    return int(starts[i]), int(ends[i] - starts[i] + 1)


def _jumps(demo: str, name: str, values: NDArray[Any], limit: float) -> Iterator[Finding]:
    if len(values) < 2:
        return
    steps = np.nan_to_num(np.linalg.norm(np.diff(values, axis=0), axis=1))
    worst = int(steps.argmax())
    if steps[worst] > limit:
        count = int((steps > limit).sum())
        more = f" ({count} such steps)" if count > 1 else ""
        yield Finding("problem", "jump", demo, f"{name} jumps {steps[worst]:.2f} m after step {worst}{more}")


def _quaternions(demo: str, name: str, values: NDArray[Any], limits: Limits) -> Iterator[Finding]:
    length = np.linalg.norm(values, axis=1)
    off = np.nan_to_num(np.abs(length - 1))
    worst = int(off.argmax())
    if off[worst] > limits.quaternion:
        yield Finding("problem", "quaternion", demo, f"{name} has length {length[worst]:.3g} at step {worst}, not 1")
    elif len(values) > 1:
        along = np.clip(np.nan_to_num(np.abs((values[1:] * values[:-1]).sum(1)), nan=1.0), 0, 1)
        turn = 2 * np.arccos(along)
        worst = int(turn.argmax())
        if turn[worst] > limits.turn:
            degrees = np.rad2deg(turn[worst])
            yield Finding("problem", "jump", demo, f"{name} turns by {degrees:.0f} degrees after step {worst}")


def _actions(demo: str, values: NDArray[Any], limit: float) -> Iterator[Finding]:
    arm = values[:, :-1] if values.shape[1] > 1 else values
    share = float((np.abs(arm) >= _SATURATED).mean())
    if share > limit:
        yield Finding("note", "saturated", demo, f"{100 * share:.0f} % of the arm's actions are at their limit of 1")
    largest = float(np.nan_to_num(np.abs(values)).max())
    if largest > 1 + 1e-6:
        yield Finding("note", "range", demo, f"actions reach {largest:.3g}; relative OSC_POSE ends at 1 and clips")
