"""Recorded comparisons (the JSON that scripts/demo.py writes): back to a study, and to Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equidiff.report.study import Entrant, Run, Study, format_p, headline
from equidiff.results import ResultError, RolloutResult

__all__ = [
    "markdown_experts",
    "markdown_mimicgen",
    "markdown_overview",
    "markdown_physics",
    "markdown_study",
    "markdown_symmetry",
    "markdown_table",
    "read_record",
    "replace_block",
]

_NEEDED = ("task", "demonstrations", "steps", "training_seeds", "seeds", "command", "date", "cpu")


def read_record(path: str | os.PathLike[str]) -> tuple[Study, dict[str, Any]]:
    """The study of a record, and the record itself. Raises ResultError naming what is missing."""
    file = Path(path)
    try:
        tree = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{file}: not a record of scripts/demo.py ({error})") from error
    missing = [name for name in _NEEDED if not isinstance(tree, dict) or name not in tree]
    if missing:
        raise ResultError(f"{file}: has no {missing[0]!r}; expected what scripts/demo.py record=... writes")
    policies = {key: node for key, node in tree.items() if isinstance(node, dict) and "outcomes" in node}
    study = Study(
        title=f"{tree['task']} from {tree['demonstrations']} demonstrations",
        task=tree["task"],
        entrants=tuple(_entrant(file, key, node, tree) for key, node in policies.items()),
        demonstrations=tree["demonstrations"],
        goal=tree.get("goal"),
        commands=(("", tree["command"]),),
    )
    return study, tree


def markdown_study(study: Study, record: Mapping[str, Any]) -> str:
    """Sentences, a table of the policies, and how to reproduce them."""
    first = study.entrants[0]
    tests = {other.key: table for _, other, table in study.tests}
    rows = []
    for entrant in study.entrants:
        rate, test = entrant.pooled, tests.get(entrant.key)
        low, high = rate.interval()
        rows.append(
            [
                f"**{entrant.label}**" if entrant is first else entrant.label,
                f"{rate.successes}/{rate.trials}",
                f"{100 * low:.0f}–{100 * high:.0f} %",
                format_p(test.p_value) if test else "",
                f"{entrant.facts['parameters']:,}" if "parameters" in entrant.facts else "",
            ]
        )
    minutes = record.get("wall_s", {}).get("total")
    took = f", {minutes / 60:.0f} minutes in all" if minutes and not record.get("reused") else ""
    seeds = f"{len(record['training_seeds'])} training seed{'s' if len(record['training_seeds']) > 1 else ''}"
    table = markdown_table(["policy", "solved", "95 % interval", f"against {first.label}", "parameters"], rows, "lrrrr")
    return (
        f"{' '.join(headline(study))}\n\n{table}\n\n"
        f"{record['steps']} optimiser steps, {seeds}, episodes of seeds {record['seeds'][0]} to {record['seeds'][1]}; "
        f"{record['cpu']}, {record['date'][:10]}{took}: `{record['command']}`"
    )


def markdown_overview(records: Sequence[tuple[Study, Mapping[str, Any]]]) -> str:
    """One row per policy of every record."""
    rows = []
    for study, record in records:
        for entrant in study.entrants:
            rate = entrant.pooled
            low, high = rate.interval()
            several = " ".join(f"{100 * r:.0f}" for r in entrant.rates) if len(entrant.runs) > 1 else ""
            rows.append(
                [
                    study.task,
                    str(study.demonstrations),
                    entrant.label,
                    f"{rate.successes}/{rate.trials}",
                    f"{100 * low:.0f}–{100 * high:.0f} %",
                    several,
                    f"`{record['command']}`",
                ]
            )
    header = ["task", "demonstrations", "policy", "solved", "95 % interval", "each training, %", "command"]
    return markdown_table(header, rows, "lrlrrll")


def markdown_experts(record: Mapping[str, Any]) -> str:
    """Table of what scripts/measure_experts.py recorded."""
    rows = []
    for task, row in record["experts"].items():
        low, high = row["interval"]
        rows.append(
            [
                task,
                f"{row['successes']}/{row['episodes']}",
                f"{100 * low:.0f}–{100 * high:.0f} %",
                f"{row['mean_steps']:.0f}",
            ]
        )
    table = markdown_table(["task", "solved", "95 % interval", "control steps"], rows, "lrrr")
    return f"{table}\n\n{record['date']}: `{record['command']}`"


def markdown_mimicgen(record: Mapping[str, Any]) -> str:
    """Table of what scripts/measure_mimicgen.py recorded."""
    rows, kinds = [], list(dict.fromkeys(kind for row in record["tasks"].values() for kind in row["replays"]))
    for task, row in record["tasks"].items():
        (low, high), replays = row["interval"], row["replays"]
        rows.append(
            [
                task,
                f"{row['successes']}/{row['attempts']}",
                f"{100 * low:.0f}–{100 * high:.0f} %",
                f"{row['last_run']['demos_per_minute']:.1f} ({row['last_run']['workers']})",
                *(f"{replays[kind]['successes']}/{replays[kind]['demonstrations']}" for kind in kinds),
            ]
        )
    header = ["task", "solved in the end", "95 % interval", "demonstrations a minute (workers)"]
    table = markdown_table([*header, *(f"replayed: {kind}" for kind in kinds)], rows, "lrrr" + "r" * len(kinds))
    dates = sorted({row.get("date", record["date"]) for row in record["tasks"].values()})
    return f"{table}\n\n{' to '.join(dict.fromkeys([dates[0], dates[-1]]))}: `{record['command']}`"


def markdown_physics(record: Mapping[str, Any]) -> str:
    """Sentence with what scripts/bench_physics.py recorded."""
    step, picture, off = record["step_ms"], record["picture_ms"], record["largest_difference"]
    return (
        f"On {record['cores']} cores, a control step of {record['task']} takes {step['fast']:.1f} ms instead of "
        f"{step['robosuite']:.1f} ms ({record['step_speedup']:.1f} times faster; largest difference of the arm's "
        f"joints {off['arm_joints']:.0e} rad, of fingers and objects {off['fingers_and_objects']:.0e} m), a picture of "
        f"84 × 84 pixels {picture['dull']:.0f} ms instead of {picture['shiny']:.0f} ms: `{record['command']}`"
    )


def markdown_symmetry(record: Mapping[str, Any]) -> str:
    """Table of what scripts/measure_symmetry.py recorded."""
    angles = list(next(iter(record["policies"].values()))["errors"])
    rows = [
        [
            name,
            f"{row['parameters']:,}",
            f"{row['step_ms']:.0f}",
            f"{row['chunk_ms']:.0f}",
            *(f"{row['errors'][angle]:.0e}" for angle in angles),
        ]
        for name, row in record["policies"].items()
    ]
    header = ["policy", "parameters", "training step, ms", "chunk, ms", *(f"error at {angle}°" for angle in angles)]
    return f"{markdown_table(header, rows, 'lrrr' + 'r' * len(angles))}\n\n{record['date']}: `{record['command']}`"


def replace_block(text: str, name: str, content: str) -> str:
    """Put `content` between `<!-- name:begin -->` and `<!-- name:end -->`. Raises ValueError without the marks."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected one {begin} and after it one {end}")
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n{content.strip()}\n{end}{tail}"


def _entrant(file: Path, key: str, node: Mapping[str, Any], tree: Mapping[str, Any]) -> Entrant:
    seeds = tuple(range(tree["seeds"][0], tree["seeds"][1] + 1))
    runs = []
    for training_seed, outcome in zip(tree["training_seeds"], node["outcomes"], strict=True):
        if len(outcome) != len(seeds) or set(outcome) - set("01"):
            raise ResultError(f"{file}: {key}.outcomes: expected {len(seeds)} characters 0 or 1, got {outcome!r}")
        success = tuple(c == "1" for c in outcome)
        result = RolloutResult(tree["task"], "", node["label"], seeds, success, success, (0,) * len(seeds), 0.0)
        runs.append(Run(training_seed, result))
    entrant = Entrant(key, node["label"], tuple(runs), {k: node[k] for k in ("parameters",) if k in node})
    counted = (entrant.pooled.successes, entrant.pooled.trials)
    if counted != (node["successes"], node["rollouts"]):
        raise ResultError(
            f"{file}: {key}: outcomes give {counted[0]}/{counted[1]}, "
            f"but it says {node['successes']}/{node['rollouts']}; was it edited by hand?"
        )
    return entrant


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table; align: one of l, r per column."""
    rule = {"l": "---", "r": "---:"}
    lines = [header, [rule[kind] for kind in align], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
