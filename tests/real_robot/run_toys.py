"""The record of a run whose every number is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from real_robot.records import RecordWriter

HZ = 100.0
LAG = 0.06
BEGIN = 1000.0


def pose(t: float) -> list[float]:
    """On a circle of 5 cm, turned by 0.2 rad about the vertical at the end of a second."""
    half = 0.1 * t
    return [0.4 + 0.05 * np.cos(3 * t), 0.05 * np.sin(3 * t), 0.3, 0.0, 0.0, float(np.sin(half)), float(np.cos(half))]


def write_run(folder: Path, seconds: float = 3.0, end: bool = True, wrench: bool = True) -> Path:
    """Homing for 0.5 s, then running; a fault at 2 s, holding, and running again from 2.3 s on.

    The arm follows what is sent LAG late; states are 4 ms old; pictures take 30 ms, every tenth is lost.
    """
    writer = RecordWriter(folder)
    writer.write("start", BEGIN, {
        "robot": "sim", "checkpoint": "outputs/<toy>", "control_hz": 20.0, "command_hz": HZ, "settings": {"delay": 0.1},
    })  # fmt: skip
    note(writer, 0.0, "transition", source="homing", target="ready", why="at the start pose")
    note(writer, 0.5, "transition", source="ready", target="running", why="the operator")
    for i in range(int(seconds * HZ)):
        t = i / HZ
        running = t >= 0.5 and not 2.0 <= t < 2.3
        moved = pose(t)
        moved[2] += 0.002 * running
        note(
            writer, t, "tick", late=0.001 if i % 50 else 0.02, compute=0.002, state=BEGIN + t - 0.004,
            pose=pose(t - 0.004 - LAG), joints=[0.1 * j + t for j in range(6)],
            target=moved if running else None, sent=pose(t) if running or t < 0.5 else None,
            gripper=[0.04, 0.05 if running else None], wrench=[1.0, 2.0, 3.0 + t, 0.0, 0.0, 0.0] if wrench else None,
            limits=["box", "velocity"] if 100 <= i < 110 else ["velocity"] if 110 <= i < 115 else [],
        )  # fmt: skip
        if i % 5 == 0 and i % 50 != 25:
            note(writer, t, "frame", camera="wrist", number=i // 5, stamp=BEGIN + t - 0.03, arrived=BEGIN + t)
        if running and i % 40 == 0:
            answered = i != 120
            note(
                writer, t, "plan", number=i // 40, observed=BEGIN + t - 0.05, requested=BEGIN + t,
                received=BEGIN + t + 0.12 if answered else None, computed_in=0.1 if answered else None,
                perceived_in=0.015 if answered else None,
                steps=16 if answered else 0, late=2 if answered else 0, dropped=i == 160,
            )  # fmt: skip
        if i == 200:
            note(writer, t, "fault", name="stale image", detail="wrist: <0.5 s> old")
            note(writer, t, "transition", source="running", target="holding", why="stale image")
        if i == 230:
            note(writer, t, "transition", source="holding", target="running", why="the operator")
            note(writer, t, "marker", text="go on")
    if end:
        note(writer, seconds, "transition", source="running", target="stopped", why="time")
        note(writer, seconds, "end", reason="time limit", success=True)
    writer.close()
    return folder


def note(writer: RecordWriter, t: float, kind: str, **fields: Any) -> None:
    """A record t seconds after the beginning."""
    writer.write(kind, BEGIN + t, fields)
