"""`load_run`: the records of a run as arrays."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.records import RecordError, read_records
from real_robot.types import Array

__all__ = ["Frames", "Note", "Plans", "Run", "Ticks", "load_run"]


@dataclass(frozen=True, eq=False)
class Ticks:
    """One row for each tick of the loop; NaN where a record has null. Poses are x, y, z and a quaternion xyzw.

    t, late, compute, state (n,): seconds; pose, target, sent (n, 7); joints (n, J); gripper (n, 2): measured, sent;
    wrench (n, 6). limits: names of the limits of the gate that acted, for each tick.
    """

    t: Array
    late: Array
    compute: Array
    state: Array
    pose: Array
    joints: Array
    target: Array
    sent: Array
    gripper: Array
    wrench: Array
    limits: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Frames:
    """One row for each picture of a camera: number (n,), stamp of its capture and when it arrived (n,), seconds."""

    number: NDArray[np.int64]
    stamp: Array
    arrived: Array


@dataclass(frozen=True, eq=False)
class Plans:
    """One row for each request.

    number, steps, late (n,): counts; observed, requested, received, computed_in, perceived_in (n,): seconds, NaN where
    a record has null, as for an answer that never came, or lacks it; dropped (n,): whether the whole plan was.
    """

    number: NDArray[np.int64]
    observed: Array
    requested: Array
    received: Array
    computed_in: Array
    perceived_in: Array
    steps: NDArray[np.int64]
    late: NDArray[np.int64]
    dropped: NDArray[np.bool_]


@dataclass(frozen=True)
class Note:
    """Something that happened at time t; the texts of its record by key."""

    t: float
    texts: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Run:
    """All of a run. start, end: those records, end None if the run was cut off; first, last: times of all records."""

    folder: Path
    start: Mapping[str, Any]
    end: Mapping[str, Any] | None
    first: float
    last: float
    ticks: Ticks
    frames: Mapping[str, Frames]
    plans: Plans
    transitions: tuple[Note, ...]
    faults: tuple[Note, ...]
    markers: tuple[Note, ...]

    @property
    def states(self) -> tuple[tuple[str, float, float], ...]:
        """(name, from, until) of every state of the run's machine, in order."""
        if not self.transitions:
            return ()
        times = [self.first, *(n.t for n in self.transitions), self.last]
        names = [self.transitions[0].texts["source"], *(n.texts["target"] for n in self.transitions)]
        return tuple(zip(names, times[:-1], times[1:], strict=True))


def load_run(path: Path | str) -> Run:
    """Read RUN_DIR/run.jsonl (or that file). Raises RecordError that names the line and what was expected there."""
    file = Path(path)
    file = file / "run.jsonl" if file.is_dir() else file
    rows: dict[str, list[_Row]] = defaultdict(list)
    for number, record in enumerate(read_records(file), 1):
        rows[record["kind"]].append(_Row(file, number, record))
    every = [row for kind in rows.values() for row in kind]
    if not rows["start"]:
        raise RecordError(f"{file}: has no start record; it is empty or not of a run")
    for kind in ("start", "end"):
        if len(rows[kind]) > 1:
            raise RecordError(f"{rows[kind][1].where}: a second {kind} record; one file holds one run")
    times = [row.number("t") for row in every]
    cameras: dict[str, list[_Row]] = defaultdict(list)
    for row in rows["frame"]:
        cameras[row.text("camera")].append(row)
    return Run(
        folder=file.parent,
        start={key: value for key, value in rows["start"][0].record.items() if key != "kind"},
        end=_end(rows["end"][0]) if rows["end"] else None,
        first=min(times),
        last=max(times),
        ticks=_ticks(rows["tick"]),
        frames={name: _frames(of) for name, of in sorted(cameras.items())},
        plans=_plans(rows["plan"]),
        transitions=_notes(rows["transition"], ("source", "target", "why")),
        faults=_notes(rows["fault"], ("name", "detail")),
        markers=_notes(rows["marker"], ("text",)),
    )


@dataclass(frozen=True)
class _Row:
    file: Path
    line: int
    record: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def wrong(self, key: str, expected: str) -> RecordError:
        found = f"got {self.record[key]!r:.80}" if key in self.record else "it is missing"
        return RecordError(f"{self.where}: {self.record['kind']}.{key}: expected {expected}, {found}")

    def number(self, key: str, null: bool = False) -> float:
        value = self.record.get(key)
        if value is None and null and key in self.record:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def count(self, key: str) -> int:
        value = self.record.get(key)
        if type(value) is not int or abs(value) >= 2**63:
            raise self.wrong(key, "a whole number")
        return value

    def text(self, key: str) -> str:
        value = self.record.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.record.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def numbers(self, key: str, length: int | None, null: bool = False, inner: bool = False) -> list[float] | None:
        """A list of `length` numbers; null, inner: the list, or numbers in it, may be null."""
        value = self.record.get(key)
        if value is None and null and key in self.record:
            return None
        good = isinstance(value, list) and (length is None or len(value) == length)
        if not good or not all(_is_number(v) or (inner and v is None) for v in value):  # type: ignore[union-attr]
            raise self.wrong(key, f"{'some' if length is None else length} finite numbers{' or null' if null else ''}")
        return [math.nan if v is None else float(v) for v in value]  # type: ignore[union-attr]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _end(row: _Row) -> Mapping[str, Any]:
    success = row.record.get("success", "")
    if success is not None and not isinstance(success, bool):
        raise row.wrong("success", "true, false or null")
    return {"t": row.number("t"), "reason": row.text("reason"), "success": success}


def _ticks(rows: Sequence[_Row]) -> Ticks:
    joints = len(rows[0].numbers("joints", None) or ()) if rows else 0

    def column(key: str) -> Array:
        return np.array([row.number(key) for row in rows], np.float64)

    def matrix(key: str, width: int, null: bool = False, inner: bool = False) -> Array:
        nothing = [math.nan] * width
        values = [row.numbers(key, width, null, inner) or nothing for row in rows]
        return np.array(values, np.float64).reshape(len(rows), width)

    return Ticks(
        t=column("t"),
        late=column("late"),
        compute=column("compute"),
        state=column("state"),
        pose=matrix("pose", 7),
        joints=matrix("joints", joints),
        target=matrix("target", 7, null=True),
        sent=matrix("sent", 7, null=True),
        gripper=matrix("gripper", 2, inner=True),
        wrench=matrix("wrench", 6, null=True),
        limits=tuple(row.texts("limits") for row in rows),
    )


def _frames(rows: Sequence[_Row]) -> Frames:
    return Frames(
        np.array([row.count("number") for row in rows], np.int64),
        np.array([row.number("stamp") for row in rows], np.float64),
        np.array([row.number("arrived") for row in rows], np.float64),
    )


def _plans(rows: Sequence[_Row]) -> Plans:
    for row in rows:
        if not isinstance(row.record.get("dropped"), bool):
            raise row.wrong("dropped", "true or false")

    def counts(key: str) -> NDArray[np.int64]:
        return np.array([row.count(key) for row in rows], np.int64)

    def seconds(key: str, null: bool = False, absent: bool = False) -> Array:
        values = [math.nan if absent and key not in row.record else row.number(key, null) for row in rows]
        return np.array(values, np.float64)

    return Plans(
        number=counts("number"),
        observed=seconds("observed"),
        requested=seconds("requested", null=True),
        received=seconds("received", null=True),  # of a request that was never answered
        computed_in=seconds("computed_in", null=True),
        perceived_in=seconds("perceived_in", null=True, absent=True),
        steps=counts("steps"),
        late=counts("late"),
        dropped=np.array([row.record["dropped"] for row in rows], np.bool_),
    )


def _notes(rows: Sequence[_Row], keys: Sequence[str]) -> tuple[Note, ...]:
    return tuple(Note(row.number("t"), {key: row.text(key) for key in keys}) for row in rows)
