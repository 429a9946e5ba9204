"""Charts as SVG text: they scale, need no plotting library and go into a page or a file of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from equidiff.statistics import Proportion

__all__ = ["Bar", "Curve", "curves", "outcome_strips", "palette", "standalone", "success_bars"]

_COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D46", "#666666")
# classes carry a prefix because a <style> inside an inline SVG applies to the whole page
_STYLE = (
    "svg text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:currentColor}"
    "svg .c-m{opacity:.65}svg .c-g{stroke:currentColor;opacity:.14}svg .c-b{font-weight:600}"
)


def palette(index: int) -> str:
    """A colour that the colour-blind can tell from its neighbours (Okabe and Ito); repeats after eight."""
    return _COLOURS[index % len(_COLOURS)]


@dataclass(frozen=True)
class Bar:
    """One row of `success_bars`. `dots`: rates (0 to 1) of single training seeds."""

    label: str
    proportion: Proportion
    colour: str
    dots: tuple[float, ...] = ()
    strong: bool = False


@dataclass(frozen=True)
class Curve:
    """Points (x, y) of one line; `band`: (low, high) at every point. A line without a label is not in the legend."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: str
    band: tuple[tuple[float, float], ...] = ()
    dashed: bool = False


def success_bars(bars: Sequence[Bar], title: str = "Success rate") -> str:
    """Horizontal bars from 0 to 100 % with exact 95 % intervals as whiskers."""
    if not bars:
        raise ValueError("success_bars: needs at least one bar")
    left, width, row, top = 230, 300, 40, 26
    height = top + row * len(bars) + 30
    parts = []
    for percent in range(0, 101, 25):
        x = left + width * percent / 100
        parts.append(_line(x, top, x, top + row * len(bars), "g"))
        parts.append(_text(x, top + row * len(bars) + 18, f"{percent} %", "m", "middle"))
    for i, bar in enumerate(bars):
        y = top + row * i + row / 2
        low, high = (left + width * bound for bound in bar.proportion.interval())
        end = left + width * bar.proportion.rate
        parts.append(_text(left - 12, y + 4.5, bar.label, "b" if bar.strong else "", "end"))
        parts.append(
            f'<rect x="{left}" y="{y - 11:.1f}" width="{end - left:.1f}" height="22" rx="3" fill="{bar.colour}"/>'
        )
        parts.append(f'<g stroke="currentColor" stroke-width="1.6"><path d="M{low:.1f} {y}H{high:.1f}')
        parts.append(f'M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10"/></g>')
        for dot in bar.dots if len(bar.dots) > 1 else ():
            parts.append(f'<circle cx="{left + width * dot:.1f}" cy="{y + 15}" r="3" fill="{bar.colour}"/>')
        parts.append(_text(left + width + 18, y + 4.5, str(bar.proportion), "b" if bar.strong else ""))
    return _svg(720, height, parts, title)


def curves(
    lines: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
) -> str:
    """A line chart with a legend. Points that an axis cannot show (not finite, or <= 0 if logarithmic) are left out."""
    named = sum(bool(line.label) for line in lines)
    width, height, left, right, top, bottom = 720, 360, 62, 16, 30 + 20 * math.ceil(named / 2), 46
    kept = [
        [(x, y, i) for i, (x, y) in enumerate(line.points) if _drawable(x, log_x) and _drawable(y, log_y)]
        for line in lines
    ]
    if not any(kept):
        return _svg(width, 60, [_text(width / 2, 34, "no points to draw", "m", "middle")], title)
    xs = [x for points in kept for x, _, _ in points]
    ys = [y for points in kept for _, y, _ in points]
    x_axis = _Axis(min(xs), max(xs), left, width - right, log_x)
    low, high = y_range or (min(ys), max(ys))
    y_axis = _Axis(low, high, height - bottom, top, log_y, margin=0.0 if y_range else 0.05)
    parts = []
    for tick in y_axis.ticks():
        y = y_axis(tick)
        parts += [_line(left, y, width - right, y, "g"), _text(left - 8, y + 4, _number(tick, percent), "m", "end")]
    for tick in x_axis.ticks(sorted(set(xs)) if len(set(xs)) <= 8 else None):
        x = x_axis(tick)
        parts += [_line(x, top, x, height - bottom, "g"), _text(x, height - bottom + 18, _number(tick), "m", "middle")]
    parts.append(_text((left + width - right) / 2, height - 6, x_label, "m", "middle"))
    parts.append(_text(14, top - 10, y_label, "m"))
    entry = 0
    for line, points in zip(lines, kept, strict=True):
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        if line.band:
            edge = [(x_axis(x), y_axis(line.band[j][side])) for side in (0, 1) for x, _, j in points[:: 1 - 2 * side]]
            outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in edge)
            parts.append(f'<path d="M{outline}Z" fill="{line.colour}" opacity=".13"/>')
        if points:
            trace = "L".join(f"{x_axis(x):.1f} {y_axis(y):.1f}" for x, y, _ in points)
            parts.append(f'<path d="M{trace}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>')
        for x, y, _ in points if len(points) <= 8 else ():
            parts.append(f'<circle cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3.5" fill="{line.colour}"/>')
        if line.label:
            x, y = left + (entry % 2) * 330, 14 + 20 * (entry // 2)
            parts.append(f'<path d="M{x} {y - 4}h22" stroke="{line.colour}" stroke-width="3"{dash}/>')
            parts.append(_text(x + 30, y, line.label))
            entry += 1
    return _svg(width, height, parts, title)


def outcome_strips(rows: Sequence[tuple[str, str, Sequence[bool]]], title: str = "Outcome of every episode") -> str:
    """One square per episode, (label, colour, outcomes) per row; the same column is the same seed."""
    if not rows or not any(outcomes for _, _, outcomes in rows):
        raise ValueError("outcome_strips: needs at least one row with an episode")
    left, step = 230, min(14.0, 480 / max(len(outcomes) for _, _, outcomes in rows))
    parts = []
    for i, (label, colour, outcomes) in enumerate(rows):
        y = 8 + 26 * i
        parts.append(_text(left - 12, y + 12, label, "", "end"))
        for j, solved in enumerate(outcomes):
            fill = f'fill="{colour}"' if solved else f'fill="none" stroke="{colour}" opacity=".55"'
            inset = 0 if solved else 0.5
            parts.append(
                f'<rect x="{left + step * j + inset:.1f}" y="{y + inset}" width="{step - 2 - 2 * inset:.1f}" '
                f'height="{16 - 2 * inset}" rx="1.5" {fill}/>'
            )
    return _svg(720, 14 + 26 * len(rows), parts, title)


def standalone(svg: str) -> str:
    """The chart as a file of its own: light ink where the reader's screen is dark."""
    return svg.replace("</style>", "@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>", 1) + "\n"


class _Axis:
    """Maps values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool, margin: float = 0.0) -> None:
        self.log, self.start, self.end = log, start, end
        a, b = (math.log10(low), math.log10(high)) if log else (low, high)
        if a == b:
            a, b = a - 0.5, b + 0.5
        self.low, self.high = a - margin * (b - a), b + margin * (b - a)

    def __call__(self, value: float) -> float:
        v = math.log10(max(value, 1e-300)) if self.log else value
        v = min(max(v, self.low), self.high)
        return self.start + (self.end - self.start) * (v - self.low) / (self.high - self.low)

    def ticks(self, only: Sequence[float] | None = None) -> list[float]:
        if only is not None:
            return list(only)
        if self.log:
            marks = [m * 10.0**e for e in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
            inside = [m for m in marks if self.low <= math.log10(m) <= self.high]
            if len(inside) < 2:  # a narrow range: name its ends
                return [float(f"{10.0**end:.3g}") for end in (self.low, self.high)]
            return inside if len(inside) <= 9 else [m for m in inside if f"{m:e}".startswith("1.0")]
        raw = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (not log or value > 0)


def _number(value: float, percent: bool = False) -> str:
    return f"{100 * value:.0f} %" if percent else f"{value:g}"


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    kind = f' class="c-{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x0: float, y0: float, x1: float, y1: float, css: str) -> str:
    return f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" class="c-{css}"/>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" color="#333">'
    return f"{head}<title>{escape(title)}</title><style>{_STYLE}</style>{''.join(parts)}</svg>"
