"""Charts of a data set as SVG: paths from above, histograms, directions on a circle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.report.svg import palette

__all__ = ["histograms", "legend", "ramp", "roses", "top_view"]

# a few points of viridis (van der Walt and Smith, CC0): even steps of brightness, readable without colour
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (253, 231, 37),
    ]
)
_PARTS = 12  # pieces of a path that are coloured by time
_STYLE = (
    "<style>svg text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:currentColor}"
    "svg .c-m{opacity:.65}svg .c-g{stroke:currentColor;opacity:.16}</style>"
)


def ramp(share: NDArray[Any] | float) -> NDArray[np.uint8]:
    """Shares (...) in 0..1 to colours (..., 3), dark blue to yellow."""
    at = np.clip(np.asarray(share, dtype=np.float64), 0, 1)
    knots = np.linspace(0, 1, len(_VIRIDIS))
    return np.stack([np.interp(at, knots, _VIRIDIS[:, i]) for i in range(3)], -1).round().astype(np.uint8)


def top_view(
    paths: Sequence[NDArray[Any]],
    centre: tuple[float, float],
    bounds: Sequence[Sequence[float]] | None,
    objects: Mapping[str, NDArray[Any]],
    best: tuple[float, float] | None = None,
) -> str:
    """The gripper's paths (P, 3) from above, x to the right and y up, and where objects start {name: (n, 2)}."""
    everything = [p[:, :2] for p in paths] + [o[np.isfinite(o).all(1)] for o in objects.values()] + [np.array([centre])]
    points = np.concatenate([np.asarray(e, dtype=float)[np.isfinite(e).all(1)] for e in everything])
    if bounds is not None:
        points = np.concatenate([points, np.array(bounds, dtype=float)[:2].T])
    low, high = points.min(0), points.max(0)
    size, left, top = 600, 56, 12
    side = max(float((high - low).max()) * 1.06, 0.05)
    corner = (low + high) / 2 - side / 2
    at = lambda p: (left + size * (p[0] - corner[0]) / side, top + size * (1 - (p[1] - corner[1]) / side))
    parts = []
    for tick in _ticks(corner[0], corner[0] + side):
        x, _ = at((tick, 0))
        parts += [f'<path d="M{x:.1f} {top}V{top + size}" class="c-g"/>']
        parts += [_text(x, top + size + 18, f"{tick:g}", "middle", "c-m")]
    for tick in _ticks(corner[1], corner[1] + side):
        _, y = at((0, tick))
        parts += [
            f'<path d="M{left} {y:.1f}H{left + size}" class="c-g"/>',
            _text(left - 8, y + 4, f"{tick:g}", "end", "c-m"),
        ]
    parts += [
        _text(left + size / 2, top + size + 38, "x, metres", "middle", "c-m"),
        _text(4, top + 10, "y", "start", "c-m"),
    ]
    if bounds is not None:
        (x0, y1), (x1, y0) = at((bounds[0][0], bounds[1][0])), at((bounds[0][1], bounds[1][1]))
        parts.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" fill="none" '
            'stroke="currentColor" stroke-dasharray="6 5" opacity=".5"/>'
        )
    for i, (_, starts) in enumerate(objects.items()):
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>' for x, y in map(at, starts[np.isfinite(starts).all(1)])
        )
        parts.append(f'<g fill="{palette(i + 1)}" fill-opacity=".55" stroke="{palette(i + 1)}">{dots}</g>')
    parts += _paths([p[np.isfinite(p).all(1)] for p in paths], at)
    x, y = at(centre)
    parts.append(f'<path d="M{x - 11:.1f} {y:.1f}h22M{x:.1f} {y - 11:.1f}v22" stroke="#d62728" stroke-width="2.6"/>')
    if best is not None:
        x, y = at(best)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="#d62728" stroke-width="2.2"/>')
    return _svg(left + size + 12, top + size + 46, parts, "Paths of the gripper from above")


def legend(objects: Sequence[str], bounds: bool, best: bool) -> str:
    """What the signs of `top_view` mean, as HTML."""
    stops = ",".join("rgb({},{},{})".format(*ramp(t)) for t in (0.0, 0.25, 0.5, 0.75, 1.0))
    items = [f'<i style="width:64px;background:linear-gradient(90deg,{stops})"></i>gripper, start to end']
    items += ['<i class="ring"></i>start', '<i class="square"></i>end', '<b class="cross">+</b>centre of the symmetry']
    items += ['<i class="ring red"></i>best centre from the data'] if best else []
    items += ['<i class="dashes"></i>bounds'] if bounds else []
    items += [
        f'<i class="round" style="background:{palette(i + 1)}"></i>{name} at the start'
        for i, name in enumerate(objects)
    ]
    return '<p class="legend">' + "".join(f"<span>{item}</span>" for item in items) + "</p>"


def histograms(values: NDArray[Any], names: Sequence[str], bins: int = 32, title: str = "", per_row: int = 4) -> str:
    """Small histograms, `per_row` side by side, one per column of values (N, C); every one has its own scale."""
    gap, columns = 12, min(per_row, values.shape[1])
    width, height = ((946 + gap) // per_row - gap, 104 if per_row > 1 else 160)
    parts = []
    for c in range(values.shape[1]):
        x0, y0 = (c % columns) * (width + gap), (c // columns) * (height + 30)
        column = values[:, c][np.isfinite(values[:, c])]
        parts.append(_text(x0 + 2, y0 + 13, names[c], "start", ""))
        if not len(column):
            parts.append(_text(x0 + width / 2, y0 + 60, "no finite value", "middle", "c-m"))
            continue
        low, high = float(column.min()), float(column.max())
        if high - low < 1e-9 * max(1.0, abs(low)):
            parts.append(_text(x0 + width / 2, y0 + 60, f"always {low:.4g}", "middle", "c-m"))
            continue
        counts, _ = np.histogram(column, bins=bins, range=(low, high))
        base, tall = y0 + height - 4, height - 30
        bar = width / bins
        outline = "".join(f"V{base - tall * n / counts.max():.1f}h{bar:.2f}" for n in counts)
        parts.append(f'<path d="M{x0} {base}{outline}V{base}Z" fill="{palette(0)}" fill-opacity=".75"/>')
        parts.append(f'<path d="M{x0} {base}h{width}" class="c-g"/>')
        if low < 0 < high:
            zero = x0 + width * -low / (high - low)
            parts.append(
                f'<path d="M{zero:.1f} {base}v{-tall}" stroke="currentColor" stroke-dasharray="2 3" opacity=".6"/>'
            )
        parts += [
            _text(x0, base + 15, f"{low:.3g}", "start", "c-m"),
            _text(x0 + width, base + 15, f"{high:.3g}", "end", "c-m"),
        ]
    rows = -(-values.shape[1] // columns)
    return _svg(per_row * (width + gap) - gap, rows * (height + 30), parts, title or "Histograms")


def roses(circles: Sequence[tuple[str, str, NDArray[Any], float]], title: str) -> str:
    """Circles with a tick for every angle and bars for their number in 24 sectors: (name, note, angles, period).

    period: 2 pi, or a part of it whose turn covers the circle; angles of an n-fold object are drawn n times as wide.
    """
    width, columns = 236, 4
    parts = []
    for i, (name, note, phi, period) in enumerate(circles):
        cx, cy, radius = (i % columns) * (width + 4) + width / 2 + 8, (i // columns) * 290 + 148, 80
        turned = np.mod(phi[np.isfinite(phi)] * (2 * math.pi / period), 2 * math.pi)
        parts += [_text(cx, cy - 128, name, "middle", ""), _text(cx, cy - 112, note, "middle", "c-m")]
        counts, edges = np.histogram(turned, bins=24, range=(0, 2 * math.pi))
        largest = max(int(counts.max()), 1)
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True):
            r = radius * math.sqrt(count / largest)  # area, not length, stands for the number
            if r > 0:
                xa, ya, xb, yb = cx + r * math.cos(a), cy - r * math.sin(a), cx + r * math.cos(b), cy - r * math.sin(b)
                parts.append(
                    f'<path d="M{cx:.1f} {cy:.1f}L{xa:.1f} {ya:.1f}A{r:.1f} {r:.1f} 0 0 0 {xb:.1f} {yb:.1f}Z" '
                    f'fill="{palette(0)}" fill-opacity=".7"/>'
                )
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}" fill="none" class="c-g"/>')
        ticks = "".join(
            f"M{cx + (radius + 2) * math.cos(p):.1f} {cy - (radius + 2) * math.sin(p):.1f}"
            f"l{6 * math.cos(p):.1f} {-6 * math.sin(p):.1f}"
            for p in turned[:: max(1, len(turned) // 400)]
        )
        parts.append(f'<path d="{ticks or "M0 0"}" stroke="currentColor" opacity=".6"/>')
        if len(turned):
            mean = np.exp(1j * turned).mean()
            x, y = cx + radius * mean.real, cy - radius * mean.imag
            parts.append(f'<path d="M{cx:.1f} {cy:.1f}L{x:.1f} {y:.1f}" stroke="#d62728" stroke-width="2.6"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="#d62728"/>')
        full = math.degrees(period)
        for part, dx, dy in ((0.0, 14, 4), (0.25, 0, -12), (0.5, -14, 4), (0.75, 0, 20)):
            a = 2 * math.pi * part
            anchor = "start" if dx > 0 else "end" if dx < 0 else "middle"
            x, y = cx + radius * math.cos(a) + dx * 0.9, cy - radius * math.sin(a) + dy
            parts.append(_text(x, y, f"{full * part:g}°", anchor, "c-m"))
    rows = -(-len(circles) // columns)
    return _svg(columns * (width + 4) + 16, rows * 290 - 20, parts, title)


def _paths(paths: Sequence[NDArray[Any]], at: Any) -> list[str]:
    """Pieces of one colour are drawn together, the last on top: the file stays small."""
    parts = []
    for piece in range(_PARTS):
        lines = []
        for path in paths:
            cut = np.linspace(0, len(path) - 1, _PARTS + 1).round().astype(int)
            run = path[cut[piece] : cut[piece + 1] + 1]
            if len(run) > 1:
                lines.append("M" + "L".join("{:.1f} {:.1f}".format(*at(p)) for p in run))
        colour = "rgb({},{},{})".format(*ramp((piece + 0.5) / _PARTS))
        parts.append(
            f'<path d="{"".join(lines) or "M0 0"}" fill="none" stroke="{colour}" stroke-width="1.5" opacity=".75"/>'
        )
    starts, ends = [p[0] for p in paths if len(p)], [p[-1] for p in paths if len(p)]
    rings = "".join('<circle cx="{:.1f}" cy="{:.1f}" r="3.4"/>'.format(*at(p)) for p in starts)
    squares = "".join('<path d="M{:.1f} {:.1f}m-3-3h6v6h-6z"/>'.format(*at(p)) for p in ends)
    parts.append(f'<g fill="none" stroke="currentColor" stroke-width="1.3">{rings}</g>')
    parts.append(
        f'<g fill="rgb({",".join(map(str, ramp(1.0)))})" stroke="currentColor" stroke-width=".8">{squares}</g>'
    )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    return [round(step * i, 6) + 0.0 for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str, css: str) -> str:
    from html import escape

    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    return f"{head}<title>{title}</title>{_STYLE}{''.join(parts)}</svg>"
