"""The record of a run: one JSON object on each line of `run.jsonl`, from which reports and replays are made.

Every record has "kind" and "t" (seconds of the run's clock). Kinds and their further keys:

    start       robot, checkpoint, control_hz, command_hz, settings
    tick        late (s after it was due), compute (s), state (stamp of the measurement), pose (7), joints (n),
                target (7, what the policy's plan wants now) or null, sent (7) or null, gripper [measured, sent],
                wrench (6) or null, limits (names of the limits of the gate that acted)
    frame       camera, number, stamp (capture), arrived
    plan        number, observed (stamp of the observation), requested, received, computed_in, perceived_in (s; null
                where nothing was made of pictures; absent in older records), steps (in the plan),
                late (steps dropped because their time was past), dropped (the whole plan was: true)
    transition  source, target, why        of the run's state machine
    fault       name, detail
    marker      text                       from the operator or the success callback
    end         reason, success (true, false, null)

Poses are [x, y, z, qx, qy, qz, qw] in the base frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

__all__ = ["KINDS", "RecordError", "RecordWriter", "read_records"]

KINDS = ("start", "tick", "frame", "plan", "transition", "fault", "marker", "end")


class RecordError(RuntimeError):
    """A record that cannot be written or read; the message says which file and what to do."""


class RecordWriter:
    """Appends records to FOLDER/run.jsonl; each line is written whole, so that a kill loses at most the last."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.jsonl"
        if self.path.exists():
            raise RecordError(f"{self.path} exists already; give another run_dir")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: TextIO | None = self.path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise RecordError(
                f"{self.path}: {error.strerror}; the run cannot be recorded, give another run_dir"
            ) from error

    def write(self, kind: str, t: float, fields: Mapping[str, Any]) -> None:
        """Append one record. Raises RecordError when the disk does not take it."""
        if kind not in KINDS:
            raise ValueError(f"record kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        if self._file is None:
            raise RecordError(f"{self.path}: closed already")
        try:
            self._file.write(json.dumps({"kind": kind, "t": t, **fields}, allow_nan=False) + "\n")
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}; free space, the run cannot be recorded") from error

    def close(self) -> None:
        """Idempotent; never raises."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:  # what was buffered is lost; the run's end must go on
                print(f"{self.path}: {error.strerror}; the end of the record is lost")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a last line cut off by a kill is left out. RecordError for a file that is no record."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not a readable record of a run ({error})") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or record.get("kind") not in KINDS:
                raise ValueError("not a record")
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise RecordError(f"{path}:{number}: not a record of a run ({error})") from error
        yield record
