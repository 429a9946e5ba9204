"""One self-contained HTML page that shows a file of demonstrations before anybody trains on it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.inspect_file import Inspection
from equidiff.data.inspect_poses import GRIPPER
from equidiff.data.inspect_symmetry import StartSymmetry, SymmetryReport
from equidiff.data.inspect_views import camera_name
from equidiff.report.html import card, command, document, table
from equidiff.report.inspect_charts import histograms, legend, roses, top_view
from equidiff.report.inspect_cloud import CLOUD_SCRIPT, cloud_view, voxel_points
from equidiff.report.inspect_pictures import depth_range, image_uri, sheets
from equidiff.report.inspect_text import key_rows, length_words

__all__ = ["render_inspection"]

_PATHS = 60  # drawn from above
_COMPONENTS = 32  # histograms of one key

_CSS = """
main{max-width:1040px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(124px,1fr));gap:12px;margin:1.4em 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:1.2rem;line-height:1.3;overflow-wrap:anywhere}
.tile span{color:var(--soft);font-size:.85rem}
.verdict{border-left:5px solid var(--line);padding-left:16px}
.verdict.good{border-color:#2e9e5b}.verdict.mid{border-color:#e0a100}.verdict.bad{border-color:#c0392b}
.verdict p{margin:.45em 0}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:.85rem;margin:.6em 0 0}
.legend span{display:inline-flex;align-items:center;gap:6px}
.legend i{display:inline-block;height:10px;border-radius:2px}
.legend .ring{width:10px;border:1.5px solid var(--ink);border-radius:50%}.legend .ring.red{border-color:#d62728}
.legend .square{width:9px;height:9px;background:#fde725;border:1px solid var(--ink)}
.legend .round{width:11px;height:11px;border-radius:50%}
.legend .dashes{width:20px;height:0;border-top:2px dashed var(--soft)}
.legend .cross{color:#d62728;font-size:1.1rem;line-height:1}
.above{max-width:700px;margin:0 auto}
.cloud{margin:1em 0}
.cloud canvas{width:100%;border-radius:8px;cursor:grab;
touch-action:none;display:block;background:#181b21}
.cloud canvas[hidden],.cloud img[hidden]{display:none}
.keys code{white-space:nowrap;overflow-wrap:normal;font-size:12px}
.keys td{padding:5px 8px;font-size:.85rem}
details{margin:.6em 0}summary{cursor:pointer;font-weight:600;padding:.2em 0}
.scale{height:10px;border-radius:5px;margin:.4em 0 .1em}
.tag.warn{color:#9a6b00;border-color:#9a6b00}@media(prefers-color-scheme:dark){.tag.warn{color:#f0c14b;border-color:#f0c14b}}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
"""
_NAMES = {
    "position": ("x, m", "y, m", "z, m"),
    "quaternion": ("x", "y", "z", "w"),
    "velocity": ("x", "y", "z"),
    "action": ("x", "y", "z", "turn x", "turn y", "turn z", "gripper"),
    "action_abs": ("x, m", "y, m", "z, m", "rotation x", "rotation y", "rotation z", "gripper"),
}
_FINE = "Nothing odd was found in the arrays."
_TONE = {"holds": "good", "partly": "mid", "too few to say": "mid", "does not hold": "bad"}
_HEADLINE = {
    "holds": "The demonstrations are symmetric about the centre, as far as their starts tell.",
    "partly": "The demonstrations are only partly symmetric about the centre.",
    "does not hold": "The demonstrations are not symmetric about the centre.",
    "too few to say": "The file does not say whether its demonstrations are symmetric about the centre.",
}


def render_inspection(
    found: Inspection,
    symmetry: SymmetryReport,
    *,
    bounds: Sequence[Sequence[float]] | None = None,
    line: str = "",
) -> str:
    """The page as a string. bounds: of the workspace, ((x0, x1), (y0, y1), ...); line: the command that made it."""
    problems, notes = len(found.problems), len(found.findings) - len(found.problems)
    odd = f"{_count(problems, 'problem')} and {_count(notes, 'note')} about the arrays." if found.findings else _FINE
    body = [
        f'<header><p class="kicker">equidiff · look before training</p><h1>{escape(found.path.name)}</h1>',
        f'<p class="lead"><strong>{_HEADLINE[symmetry.verdict]}</strong> {odd}</p></header>',
        _tiles(found),
        "<h2>Findings</h2>",
        _findings(found),
        "<h2>Symmetry</h2>",
        _symmetry(symmetry),
        *_from_above(found, symmetry, bounds),
        *_pictures(found),
        *_clouds(found),
        "<h2>Lengths</h2>",
        card(histograms(_column(found.lengths.values()), ["steps of a demonstration"], 40, "Lengths", per_row=1)),
        f'<p class="note">{escape(length_words(found))}.</p>',
        "<h2>Keys</h2>",
        _keys(found, symmetry),
        "<h2>Distributions</h2>",
        '<p class="note">Every component on a scale of its own; dotted: zero. Steps are taken evenly from every '
        "demonstration.</p>",
        *_distributions(found),
        *_metadata(found),
    ]
    if line:
        body += ["<h2>Do it again</h2>", command("This page:", line)]
    return document(f"{found.path.name} · equidiff", body, _CSS, CLOUD_SCRIPT)


# -- parts ---------------------------------------------------------------------------------------------


def _count(n: int, what: str) -> str:
    return f"{n or 'No'} {what}{'' if n == 1 else 's'}"


def _column(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), dtype=np.float64)[:, None]


def _tiles(found: Inspection) -> str:
    steps = sum(found.lengths.values())
    known = [s for s in found.success.values() if s is not None]
    masks = ", ".join(f"{m} {len(names)}" for m, names in found.masks.items())
    tiles = [
        (f"{len(found.lengths):,}", "demonstrations"),
        (f"{steps:,}", f"steps, {steps / found.control_hz / 60:.1f} minutes"),
        (f"{found.control_hz:g} Hz", "control rate" if found.hz_from == "file" else f"control rate ({found.hz_from})"),
        (f"{sum(known)}/{len(known)}" if known else "unknown", "end solved" if known else "success: not in the file"),
        (masks or "none", "masks (split)"),
        (found.env, "environment"),
        (f"{found.bytes / 1e6:.1f} MB", "file"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)
        + "</div>"
    )


def _findings(found: Inspection) -> str:
    if not found.findings:
        return "<p>Nothing odd in shapes, lengths, values, jumps, quaternions, grippers, pictures; no duplicates.</p>"
    rows: list[list[str]] = []
    counts = Counter((f.severity, f.topic) for f in found.findings)
    shown: Counter[tuple[str, str]] = Counter()
    for f in sorted(found.findings, key=lambda f: (f.severity != "problem", f.topic)):
        kind = (f.severity, f.topic)
        shown[kind] += 1
        css = "down" if f.severity == "problem" else "warn"
        tag = f'<span class="tag {css}">{f.severity}</span>'
        if shown[kind] <= 5:
            rows.append([tag, escape(f.topic), escape(f.demo or "whole file"), escape(f.message)])
        elif shown[kind] == counts[kind]:
            rows.append([tag, escape(f.topic), "", f"... and {counts[kind] - 5} more; all are in inspect.json"])
    return table(["", "what", "where", ""], rows)


def _symmetry(symmetry: SymmetryReport) -> str:
    words = "".join(f"<p>{escape(w)}</p>" for w in symmetry.words)
    parts = [f'<div class="verdict {_TONE[symmetry.verdict]}">{words}</div>']
    circles: list[tuple[str, str, Any, float]] = []
    for s in symmetry.starts:
        xy = s.points - np.asarray(symmetry.centre)
        circles.append((s.name, "place, from the centre", np.arctan2(xy[:, 1], xy[:, 0]), 2 * math.pi))
        if s.yaws is not None:
            circles.append(
                (s.name, "yaw" + ("" if s.fold == 1 else f", modulo {360 / s.fold:g}°"), s.yaws, 2 * math.pi / s.fold)
            )
    if circles:
        parts.append(card(roses(circles, "Directions of the start states")))
        parts.append(
            '<p class="note">Start states: one tick per demonstration, sectors by area. Red: the mean of the unit '
            "vectors; it ends near the middle where directions are even, at the rim where all are equal.</p>"
        )
        parts.append(table(_HEADER, [_row(s) for s in symmetry.starts], numbers=range(1, len(_HEADER))))
        parts.append(
            '<p class="note">|r|: resultants of frequency 1, 2 and 4, between 0 and 1. p: Rayleigh (one preferred '
            "direction) and Kuiper (any unevenness); small values speak against evenness. Ratio: smallest to largest "
            "standard deviation of the start positions, p from Mauchly's test. Offset: mean position over root mean "
            "square distance from the centre.</p>"
        )
    a = symmetry.actions
    if a is not None:
        resultants = ", ".join(f"{r:.2f}" for r in a.resultants)
        rows = [
            ["resultants of frequency 1 to 4 of all steps, weighted by length", resultants],
            [
                "weakest to strongest direction of the steps, 95 % over demonstrations",
                f"{a.ratio:.2f} ({a.interval[0]:.2f} to {a.interval[1]:.2f})",
            ],
            [
                "net motion of whole demonstrations: resultant, p (Rayleigh, Kuiper)",
                f"{a.net.resultants[0]:.2f}, {a.net.rayleigh_p:.2g}, {a.net.kuiper_p:.2g}",
            ],
        ]
        parts.append(table(["horizontal motion commands", ""], rows, numbers=[1]))
    if symmetry.cameras:
        rows = [
            [
                escape(c.name),
                _exact(c.exact),
                "-" if c.tilt is None else f"{c.tilt:.1f}°",
                escape(c.why),
            ]
            for c in symmetry.cameras
        ]
        parts.append(table(["camera", "equivariant", "tilt", ""], rows, numbers=[2]))
    return "".join(parts)


_HEADER = [
    "start of",
    "n",
    "|r| 1",
    "2",
    "4",
    "p Rayleigh",
    "p Kuiper",
    "empty arc",
    "ratio",
    "p",
    "offset",
    "yaw |r|",
    "yaw p",
]


def _row(s: StartSymmetry) -> str | Any:
    yaw = (
        ["-", "-"] if s.yaw is None else [f"{s.yaw.resultants[0]:.2f}", f"{min(s.yaw.rayleigh_p, s.yaw.kuiper_p):.2g}"]
    )
    a = s.around
    return [
        escape(s.name),
        str(s.n),
        *(f"{a.resultants[i]:.2f}" for i in (0, 1, 3)),
        f"{a.rayleigh_p:.2g}",
        f"{a.kuiper_p:.2g}",
        f"{math.degrees(a.empty_arc):.0f}°",
        f"{s.spread.ratio:.2f}",
        f"{s.spread.p:.2g}",
        f"{s.offset:.2f}",
        *yaw,
    ]


def _from_above(found: Inspection, symmetry: SymmetryReport, bounds: Sequence[Sequence[float]] | None) -> list[str]:
    paths = [p.path for p in found.poses if p.path is not None]
    objects = {s.name: s.points for s in symmetry.starts if s.name != GRIPPER}
    if not paths and not objects:
        return ["<h2>From above</h2>", "<p>The file has no gripper or object positions to draw.</p>"]
    step = max(1, -(-len(paths) // _PATHS))
    best = None if symmetry.best is None else symmetry.best.xy
    chart = top_view(paths[::step], symmetry.centre, bounds, objects, best)
    signs = legend([escape(name) for name in objects], bounds is not None, best is not None)
    note = (
        f"{len(paths[::step])} of {len(paths)} paths; all starts of the objects." if step > 1 else "All demonstrations."
    )
    return ["<h2>From above</h2>", card(f'<div class="above">{chart}</div>{signs}'), f'<p class="note">{note}</p>']


def _pictures(found: Inspection) -> list[str]:
    parts = []
    kinds = found.views.kinds
    views = sorted(found.views.frames.items(), key=lambda item: (camera_name(item[0]), kinds[item[0]] == "depth"))
    for key, frames in views:
        kind = kinds[key]
        if kind not in ("image", "depth"):
            continue
        parts.append(f"<h2>{escape(key.removeprefix('obs/'))}</h2>")
        outcome = "Green: ends solved, red: does not, grey: the file does not say."
        caption = f"First, middle and last picture of {len(frames)} demonstrations. {outcome}"
        for sheet in sheets(frames, kind, found.success):
            parts.append(
                f'<figure><img alt="{escape(key)}" src="{image_uri(sheet)}"><figcaption>{caption}</figcaption></figure>'
            )
        if kind == "depth":
            low, high = depth_range(list(frames.values()))
            unit = 1e-4 if next(iter(frames.values())).dtype.kind == "u" else 1.0
            parts.append(
                f'<p class="note">Yellow is near ({low * unit:.2f} m), blue is far ({high * unit:.2f} m), '
                "grey: nothing seen.</p>"
            )
    return parts


def _clouds(found: Inspection) -> list[str]:
    parts = []
    for key, frames in found.views.frames.items():
        kind = found.views.kinds[key]
        if kind not in ("voxels", "cloud"):
            continue
        demo, stored = next(iter(frames.items()))
        box = None
        if kind == "cloud":
            what, points, dot = f"{len(stored[0])} points", stored[0], 0.006
        else:
            points, dot, box = voxel_points(stored[0]), 1.7 / stored.shape[2], (-1.0, 1.0)
            what = f"{len(points)} occupied cells of {stored.shape[2]}³, in units of half the grid's side"
        parts += [f"<h2>{escape(key.removeprefix('obs/'))}</h2>"]
        parts.append(cloud_view(points, f"First step of {escape(demo)}: {what}.", dot, box))
    return parts


def _keys(found: Inspection, symmetry: SymmetryReport) -> str:
    rows = []
    for row in key_rows(found, symmetry):
        key, law = row[0], found.keys[row[0]].to_json(len(found.lengths))["law"]
        rows.append([f"<code>{escape(key)}</code>", *map(escape, row[1:6]), _exact(row[7]), escape(law)])
    header = [
        "key",
        "shape a step",
        "dtype",
        "range",
        "in",
        "constant in",
        "equivariant",
        "how it turns with the scene",
    ]
    return f'<div class="keys">{table(header, rows)}</div>'


def _exact(word: str) -> str:
    css = {"yes": "up", "approximate": "warn", "no": "down"}.get(word, "")
    return f'<span class="tag {css}">{word}</span>'


def _distributions(found: Inspection) -> list[str]:
    parts = []
    order = sorted(found.keys, key=lambda k: (not k.startswith("actions"), k))
    for key in order:
        sample = found.keys[key].sample()
        if sample is None:
            continue
        width = sample.shape[1]
        given = _NAMES.get(found.keys[key].kind, ())
        names = given if len(given) == width else [str(i) for i in range(width)]
        chart = histograms(sample[:, :_COMPONENTS], names[:_COMPONENTS], title=escape(key))
        more = f'<p class="note">and {width - _COMPONENTS} more</p>' if width > _COMPONENTS else ""
        open_ = " open" if key.startswith("actions") or found.keys[key].kind == "position" else ""
        parts.append(f"<details{open_}><summary>{escape(key)}</summary>{card(chart)}{more}</details>")
    return parts or ["<p>Nothing small enough for histograms.</p>"]


def _metadata(found: Inspection) -> list[str]:
    rows = []
    perception = found.attributes.get("perception")
    if isinstance(perception, Mapping):
        rows = [[escape(str(k)), f"<code>{escape(_short(v))}</code>"] for k, v in perception.items()]
    parts = ["<h2>Perception and renderer</h2>", table(["setting", ""], rows)] if rows else []
    others = {k: v for k, v in found.attributes.items() if k not in ("perception", "settings")}
    lines = [[escape(str(k)), f"<code>{escape(_short(v))}</code>"] for k, v in others.items()]
    if lines:
        parts += [f"<details><summary>Attributes of the file</summary>{table(['attribute', ''], lines)}</details>"]
    return parts


def _short(value: Any, most: int = 1500) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= most else f"{text[:most]} ..."
