"""One self-contained page about a run: outcome, states and faults, latencies, tracking, the path, the video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from equidiff.report.html import card, data_uri, document, table
from equidiff.report.inspect_charts import histograms, top_view
from equidiff.report.svg import palette
from real_robot.report.charts import lines, timeline
from real_robot.report.load import Run
from real_robot.report.summary import stages, tracking_error

__all__ = ["render"]

_EMBED_LIMIT = 12_000_000  # bytes of video; beyond it the page refers to the file beside it


def render(run: Run, summary: Mapping[str, Any], video: Path | None = None) -> str:
    """The page as a string; summary: from `summarise`. video: an MP4, embedded up to 12 MB, else named."""
    robot, checkpoint = (str(run.start.get(key, "-")) for key in ("robot", "checkpoint"))
    body = [
        f'<header><p class="kicker">equidiff · run on {escape(robot)}</p><h1>{escape(_headline(summary))}</h1>',
        f'<p class="lead">{escape(_lead(summary))}</p><p class="soft">{escape(checkpoint)}</p></header>',
        "<h2>What happened</h2>",
        card(_timeline(run)),
        '<p class="note">Red lines: faults. Dashed: marks of the operator or of the success callback.</p>',
        _events(run),
        "<h2>Latency</h2>",
        _latency_table(summary),
        *_latency_charts(run),
        "<h2>Plans and limits</h2>",
        _counts(summary),
        "<h2>Tracking</h2>",
        _tracking_table(summary),
        *_tracking_charts(run),
        "<h2>Path from above</h2>",
        *_path(run),
        *_video(video),
        *_frames(summary),
        "<h2>Settings</h2>",
        f"<pre>{escape(json.dumps(dict(run.start), indent=1, ensure_ascii=False))}</pre>",
    ]
    return document(f"Run on {robot} · equidiff", body)


def _headline(summary: Mapping[str, Any]) -> str:
    if summary["end"] is None:
        return "Run cut off: its record has no end"
    outcome = {True: "solved", False: "not solved", None: "success not judged"}[summary["success"]]
    return f"{outcome[0].upper()}{outcome[1:]}: {summary['end']['reason']}"


def _lead(summary: Mapping[str, Any]) -> str:
    n = len(summary["faults"])
    plans = summary["plans"]
    share = 100 * plans["late_actions"] / plans["actions"] if plans["actions"] else 0.0
    return (
        f"{summary['duration_s']:.1f} s, {summary['ticks']['count']} ticks, {plans['requested']} plans, "
        f"{share:.1f} % of the actions came late, {n} fault{'' if n == 1 else 's'}."
    )


def _timeline(run: Run) -> str:
    return timeline(
        [(name, since - run.first, until - run.first) for name, since, until in run.states],
        [(n.t - run.first, f"{n.texts['name']}: {n.texts['detail']}") for n in run.faults],
        [(n.t - run.first, n.texts["text"]) for n in run.markers],
        run.last - run.first,
    )


def _events(run: Run) -> str:
    rows = [(n.t, "fault", f"{n.texts['name']}: {n.texts['detail']}") for n in run.faults]
    rows += [(n.t, "state", f"{n.texts['source']} to {n.texts['target']}: {n.texts['why']}") for n in run.transitions]
    rows += [(n.t, "mark", n.texts["text"]) for n in run.markers]
    tags = {"fault": '<span class="tag down">fault</span>', "state": "state", "mark": "mark"}
    shown = sorted(rows, key=lambda row: row[0])
    return table(
        ["seconds", "", ""],
        [[f"{t - run.first:.3f}", tags[kind], escape(text)] for t, kind, text in shown[:500]],
        numbers=[0],
    )


def _latency_table(summary: Mapping[str, Any]) -> str:
    rows = [
        [escape(stage), *(_ms(found[key]) for key in ("p50", "p99", "max")), str(found["count"])]
        for stage, found in summary["latency_s"].items()
    ]
    return table(["milliseconds", "p50", "p99", "max", "measured"], rows, numbers=[1, 2, 3, 4])


def _latency_charts(run: Run) -> list[str]:
    found = stages(run)
    groups = {
        "Ticks": ("tick lateness", "tick compute", "age of the arm's state"),
        "Plans": (
            *(("perception",) if "perception" in found else ()),
            "planning",
            "round trip of a plan",
            "observation to plan",
        ),
        "Cameras": tuple(name for name in found if name.startswith("capture to arrival")),
    }
    parts = []
    for title, names in groups.items():
        if any(len(found[name].at) for name in names):
            at = {name: found[name].at - run.first for name in names}
            parts.append(lines(title, "milliseconds", at, {name: found[name].seconds for name in names}, 1000.0, True))
    for name in ("round trip of a plan", "tick lateness"):
        seconds = found[name].seconds
        if np.isfinite(seconds).sum() > 1:
            parts.append(histograms(1000 * seconds[:, None], [f"{name}, ms"], per_row=1))
    return [card(part) for part in parts]


def _counts(summary: Mapping[str, Any]) -> str:
    plans, ticks, limits = summary["plans"], summary["ticks"], summary["limits"]
    rows = [
        ["plans asked for", str(plans["requested"])],
        ["plans without an answer", str(plans["unanswered"])],
        ["plans dropped whole", str(plans["dropped"])],
        ["actions in all plans", str(plans["actions"])],
        ["actions dropped because their time was past", str(plans["late_actions"])],
        ["actions in dropped plans", str(plans["dropped_actions"])],
        ["ticks without a target of a plan", f"{ticks['without_a_target']} of {ticks['count']}"],
        ["ticks with a command", f"{ticks['with_a_command']} of {ticks['count']}"],
        ["longest time between ticks, ms", _ms(ticks["longest_gap_s"])],
        ["ticks at which the gate acted", f"{limits['ticks']} of {ticks['count']}"],
        *([f"limit: {escape(name)}", str(n)] for name, n in limits["by_name"].items()),
    ]
    return table([], rows, numbers=[1])


def _tracking_table(summary: Mapping[str, Any]) -> str:
    found = summary["tracking"]
    lag = "unknown" if found["lag_s"] is None else f"{1000 * found['lag_s']:.0f} ms"
    named = {
        "error": "measured against sent",
        "error_after_lag": f"the same, {lag} later (the delay that fits best)",
        "changed_by_the_gate": "sent against the plan's target",
    }
    rows = []
    for key, label in named.items():
        cells = [_scaled(found[key]["metres"][q], 1000, "{:.2f}") for q in ("p50", "p99", "max")]
        cells += [_scaled(found[key]["radians"][q], 180 / np.pi, "{:.2f}") for q in ("p50", "p99", "max")]
        rows.append([label, *cells])
    header = ["", "mm p50", "p99", "max", "degrees p50", "p99", "max"]
    return table(header, rows, numbers=range(1, 7))


def _tracking_charts(run: Run) -> list[str]:
    ticks = run.ticks
    if len(ticks.t) < 2:
        return []
    t = ticks.t - run.first
    x = {"sent": t, "measured": ticks.state - run.first, "target of the plan": t}
    parts = []
    for i, axis in enumerate("xyz"):
        values = {"sent": ticks.sent[:, i], "measured": ticks.pose[:, i], "target of the plan": ticks.target[:, i]}
        parts.append(lines(f"{axis} of the tool", f"{axis}, millimetres", x, values, 1000.0))
    fingers = {"measured": ticks.gripper[:, 0], "sent": ticks.gripper[:, 1]}
    parts.append(lines("Gripper", "opening, millimetres", x, fingers, 1000.0))
    metres, radians = tracking_error(ticks)
    parts.append(lines("Tracking error", "position, millimetres", {"position": t}, {"position": metres}, 1000.0, True))
    parts.append(
        lines("Tracking error", "orientation, degrees", {"orientation": t}, {"orientation": radians}, 180 / np.pi, True)
    )
    if np.isfinite(ticks.wrench).any():
        force = {name: ticks.wrench[:, i] for i, name in enumerate(("x", "y", "z"))}
        parts.append(lines("Force at the tool", "force, newtons", dict.fromkeys(force, t), force))
    return [card(part) for part in parts]


def _path(run: Run) -> list[str]:
    ticks = run.ticks
    if not len(ticks.t):
        return ['<p class="note">No ticks were recorded.</p>']
    nearest = np.clip(np.searchsorted(ticks.t, [n.t for n in run.faults]), 0, len(ticks.t) - 1)
    objects = {"fault": ticks.pose[nearest, :2]} if len(nearest) else {}
    every = max(1, len(ticks.t) // 4000)
    dot = f'<span class="dot" style="background:{palette(1)}"></span>arm at a fault. ' if objects else ""
    return [
        card(top_view([ticks.pose[::every, :3]], (0.0, 0.0), None, objects)),
        f'<p class="note">{dot}The measured path of the tool from start (ring, dark) to end (square, yellow), in the '
        "frame of the arm's base, which stands at the red cross.</p>",
    ]


def _video(video: Path | None) -> list[str]:
    if video is None:
        return []
    large = video.stat().st_size > _EMBED_LIMIT
    address = escape(video.name, quote=True) if large else data_uri(video, "video/mp4")
    return [
        "<h2>Video</h2>",
        f'<figure><video controls muted playsinline preload="metadata" src="{address}"></video></figure>',
    ]


def _frames(summary: Mapping[str, Any]) -> list[str]:
    if not summary["frames"]:
        return []
    rows = [
        [escape(name), str(of["count"]), str(of["lost"]), _scaled(of["hz"], 1, "{:.1f}"), _ms(of["longest_gap_s"])]
        for name, of in summary["frames"].items()
    ]
    header = ["camera", "pictures", "lost", "Hz", "longest gap, ms"]
    return ["<h2>Pictures</h2>", table(header, rows, numbers=[1, 2, 3, 4])]


def _ms(seconds: float | None) -> str:
    return _scaled(seconds, 1000, "{:.2f}")


def _scaled(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else form.format(value * factor)
