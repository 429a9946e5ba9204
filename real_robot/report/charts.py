"""Charts of a run as SVG: the states along time, and lines thinned without losing their peaks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from equidiff.report.svg import Curve, curves, palette
from real_robot.types import Array

__all__ = ["lines", "thinned", "timeline"]

_STYLE = (
    "<style>svg text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:currentColor}"
    "svg .c-m{opacity:.65}svg .c-g{stroke:currentColor;opacity:.16}</style>"
)
_COLOURS = {"running": "#009E73", "holding": "#E69F00", "fault": "#D55E00", "homing": "#56B4E9", "ready": "#0072B2"}
_OTHER = "#8a919c"


def timeline(
    states: Sequence[tuple[str, float, float]],
    faults: Sequence[tuple[float, str]],
    marks: Sequence[tuple[float, str]],
    last: float,
) -> str:
    """A row for each state, a bar while the run was in it; red lines: faults, dashed: marks. Times from 0 to `last`."""
    names = list(dict.fromkeys(name for name, _, _ in states))
    left, width, row, top = 130, 570, 26, 8
    height = top + row * max(len(names), 1)

    def at(t: float) -> float:
        return left + width * min(max(t / last if last > 0 else 0.0, 0.0), 1.0)

    parts = []
    for tick in _ticks(last):
        x = at(tick)
        parts.append(f'<path d="M{x:.1f} {top}V{height}" class="c-g"/>')
        parts.append(f'<text x="{x:.1f}" y="{height + 18}" text-anchor="middle" class="c-m">{tick:g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{height + 38}" text-anchor="middle" class="c-m">seconds</text>')
    for i, name in enumerate(names):
        parts.append(f'<text x="{left - 10}" y="{top + row * i + 18}" text-anchor="end">{escape(name)}</text>')
    for name, since, until in states:
        y, x = top + row * names.index(name) + 4, at(since)
        colour = _COLOURS.get(name, _OTHER)
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{max(at(until) - x, 1.5):.1f}" height="{row - 8}" rx="2" '
            f'fill="{colour}">'
            f"<title>{escape(name)}: {since:.3f} to {until:.3f} s</title></rect>"
        )
    for kind, notes in (("", faults), (' stroke-dasharray="4 4"', marks)):
        for t, text in notes:
            colour = "currentColor" if kind else "#d62728"
            parts.append(
                f'<path d="M{at(t):.1f} {top - 6}V{height + 2}" stroke="{colour}" stroke-width="1.6"{kind}>'
                f"<title>{escape(text)}</title></path>"
            )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height + 46}" role="img" color="#333">'
    return f"{head}<title>States of the run</title>{_STYLE}{''.join(parts)}</svg>"


def lines(
    title: str,
    y_label: str,
    x: Mapping[str, Array],
    y: Mapping[str, Array],
    scale: float = 1.0,
    from_zero: bool = False,
) -> str:
    """A chart of {label: values} over {label: seconds}; values times `scale`. Gaps (NaN) break a line.

    from_zero: the axis starts at 0 unless there are values below it.
    """
    drawn = []
    for i, (label, values) in enumerate(y.items()):
        for j, (t, v) in enumerate(_pieces(x[label], values * scale)):
            points = tuple(zip(t.tolist(), v.tolist(), strict=True))
            drawn.append(Curve(label if j == 0 else "", points, palette(i)))
    shown = [v for line in drawn for _, v in line.points]
    y_range = None
    if from_zero and shown and max(shown) > 0:
        y_range = (min(0.0, *shown), 1.05 * max(shown))
    return curves(drawn, title=title, x_label="seconds", y_label=y_label, y_range=y_range)


def thinned(t: Array, values: Array, most: int = 1200) -> tuple[Array, Array]:
    """At most `most` of the points: the smallest and the largest of each stretch of time, in order."""
    if len(t) <= most:
        return t, values
    edges = np.linspace(0, len(t), most // 2 + 1).round().astype(int)
    kept: set[int] = set()
    for a, b in itertools.pairwise(edges):
        kept |= {a + int(np.argmin(values[a:b])), a + int(np.argmax(values[a:b]))}
    index = np.array(sorted(kept))
    return t[index], values[index]


def _pieces(t: Array, values: Array) -> list[tuple[Array, Array]]:
    """Stretches without NaN, thinned; no more than a page can carry."""
    finite = np.isfinite(values)
    starts = np.flatnonzero(finite & ~np.concatenate([[False], finite[:-1]]))
    ends = np.flatnonzero(finite & ~np.concatenate([finite[1:], [False]])) + 1
    if len(starts) > 200:  # gaps everywhere: one line through all
        return [thinned(t[finite], values[finite])]
    share = 1200 / max(int(finite.sum()), 1)
    return [thinned(t[a:b], values[a:b], max(4, int(share * (b - a)))) for a, b in zip(starts, ends, strict=True)]


def _ticks(last: float) -> list[float]:
    if not last > 0:
        return [0.0]
    raw = last / 6
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(float(unit * m) for m in (1, 2, 5, 10) if unit * m >= raw)
    return [round(step * i, 9) for i in range(int(last / step) + 1)]
