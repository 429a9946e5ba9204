"""What a demo found: the study for the report, and the record demo.json."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from equidiff.demo.evaluation import RESULT, read_cost, read_film
from equidiff.demo.machine import cores, cpu, versions
from equidiff.demo.places import seen_from
from equidiff.demo.run import Demo, Trained, command_line
from equidiff.report.page import write_page
from equidiff.report.pictures import Clip, contact_sheet, write_video
from equidiff.report.study import Entrant, Run, Study, read_metrics, series
from equidiff.results import RolloutResult, write_json

__all__ = ["make_record", "make_study", "write_report"]

_SHEET_EPISODES = 2
_FPS = 8.0


def make_study(demo: Demo, trained: Sequence[Trained], command: Sequence[str]) -> Study:
    """The comparison with everything the page shows. command: what the user typed after `python`."""
    s = demo.settings
    entrants = []
    for key, policy in s.policies.items():
        mine = [run for run in trained if run.key == key]
        runs = tuple(
            Run(
                run.seed,
                RolloutResult.read(run.folder / "rollouts" / RESULT),
                read_metrics(run.folder / "metrics.jsonl"),
                float(run.stage.note.get("wall_s", 0.0)),
            )
            for run in mine
        )
        cost = read_cost(mine[0].folder / "rollouts")
        facts: dict[str, str | int | float] = {
            "parameters": int(cost["parameters"]),
            "steps": s.steps,
            "training, s": round(sum(run.train_s for run in runs) / len(runs), 1),
            "MFLOP per chunk": cost["mflop"],
            "ms per chunk": cost["ms"],
        }
        entrants.append(Entrant(key, policy.label, runs, facts))
    first = trained[0]
    several = f" with each of {s.seeds} training seeds" if s.seeds > 1 else ""
    origin = f"seed {s.demo_seed}" if s.data is None else f"of {demo.from_root(s.data)}"
    recording = [("Only the demonstrations:", command_line(demo.generate_command()))] if s.data is None else []
    if s.observe is not None:
        recording.append(("Only the observations:", command_line(demo.prepare_command())))
    facts_shown = {
        "data": f"{s.n_demo} demonstrations of {s.task}, the same for every policy ({origin})",
        "training": f"{s.steps} optimiser steps{several}, the same for every policy",
        "episodes": f"{s.rollouts}, seeds {s.episode_seeds[0]} to {s.episode_seeds[-1]}, never seen in training",
        "processor": f"{cpu()}, {cores()} cores",
        "date": _now(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "seconds of this call": ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.wall_s.items()),
    }
    if demo.reused:
        facts_shown["reused from earlier calls"] = ", ".join(demo.reused)
    return Study(
        title=f"{s.task.capitalize()} from {s.n_demo} demonstrations",
        task=s.task,
        entrants=tuple(entrants),
        demonstrations=s.n_demo,
        goal=s.goal,
        facts=facts_shown,
        commands=(
            *_activation(demo.root),
            ("The whole comparison:", command_line(command)),
            *recording,
            *((f"Only the training of {run.label!r}:", command_line(run.command)) for run in trained if run.seed == 0),
            (f"Only the evaluation of {first.label!r}:", command_line(demo.eval_command(first.key, first.seed))),
        ),
    )


def make_record(demo: Demo, trained: Sequence[Trained], study: Study, command: Sequence[str]) -> dict[str, Any]:
    """demo.json: counts, settings and origin; every policy under its key, with the outcome of every episode."""
    s = demo.settings
    record: dict[str, Any] = {
        "task": s.task,
        "demonstrations": s.n_demo,
        "data": None if s.data is None else demo.from_root(s.data),
        "observe": s.observe,
        "steps": s.steps,
        "training_seeds": list(range(s.seeds)),
        "seeds": [s.episode_seeds[0], s.episode_seeds[-1]],
        "goal": s.goal,
        "command": shlex.join(["python", *command]),
        "date": _now(),
        "cpu": cpu(),
        "cores": cores(),
        "versions": versions(),
        "wall_s": dict(demo.wall_s),
        "reused": list(demo.reused),
    }
    for entrant in study.entrants:
        record[entrant.key] = _about(entrant, s.policies[entrant.key].overrides)
    record["paired"] = {
        f"{first.key} against {other.key}": {
            "both": table.both,
            "only_first": table.only_first,
            "only_second": table.only_second,
            "neither": table.neither,
            "p": table.p_value,
        }
        for first, other, table in study.tests
    }
    return record


def write_report(demo: Demo, trained: Sequence[Trained], study: Study) -> dict[str, Path]:
    """contact_sheet.png, video.mp4 (both only if filmed) and report.html in the demo's folder."""
    folder = demo.settings.folder
    rows = [row for run in trained if run.seed == 0 and (row := _clips(run))]
    made: dict[str, Path] = {}
    if rows:
        pictures = [clip for row in rows for clip in row[:_SHEET_EPISODES]]
        made["sheet"] = folder / "contact_sheet.png"
        contact_sheet(pictures, columns=min(_SHEET_EPISODES, len(rows[0]))).save(made["sheet"], optimize=True)
        made["video"] = write_video(folder / "video.mp4", rows, fps=_FPS)
    made["page"] = write_page(folder / "report.html", study, sheet=made.get("sheet"), video=made.get("video"))
    return made


def save_record(record: Mapping[str, Any], demo: Demo) -> list[Path]:
    """Write demo.json, and the copy that `record=PATH` asks for."""
    s = demo.settings
    return [write_json(path, record) for path in (s.folder / "demo.json", s.record) if path is not None]


def _activation(root: Path) -> Sequence[tuple[str, str]]:
    """What the other commands need once in a terminal: the checkout and the environment that this runs in."""
    script = Path(sys.prefix) / "bin" / "activate"
    steps = [f"cd {shlex.quote(str(root))}"]
    if script.is_file():
        steps.append(f". {shlex.quote(seen_from(root, script))}")
    return [("First, once in a terminal:", " && ".join(steps))]


def _about(entrant: Entrant, overrides: Sequence[str]) -> dict[str, Any]:
    rate = entrant.pooled
    return {
        "label": entrant.label,
        "successes": rate.successes,
        "rollouts": rate.trials,
        "interval": [round(bound, 4) for bound in rate.interval()],
        "successes_any": entrant.pooled_any.successes,
        "overrides": list(overrides),
        **{name.replace(", ", "_").replace(" ", "_").lower(): value for name, value in entrant.facts.items()},
        "losses": {key: _thinned(series(entrant.runs[0].metrics, key)) for key in ("train/loss", "valid/loss")},
        "outcomes": ["".join("01"[solved] for solved in run.result.success) for run in entrant.runs],
    }


def _thinned(points: Sequence[tuple[float, float]], most: int = 12) -> list[list[float]]:
    """At most about `most` of the points, evenly, the last one among them."""
    every = max(1, len(points) // most)
    return [[int(step), float(f"{loss:.4g}")] for step, loss in points[::-1][::every][::-1]]


def _clips(run: Trained) -> list[Clip]:
    result = RolloutResult.read(run.folder / "rollouts" / RESULT)
    solved = dict(zip(result.seeds, result.success, strict=True))
    label = run.label.split(", seed ")[0]
    return [
        Clip(frames, f"{label} · {number}", solved[seed])
        for number, (seed, frames) in enumerate(sorted(read_film(run.folder / "rollouts").items()), 1)
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
