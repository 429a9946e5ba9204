"""The page of scripts/check_equivariance.py: errors over the angle, and turned scenes with what is planned in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from equidiff.equivariance import Report, View
from equidiff.equivariance.report import FORMULA
from equidiff.report.html import card, command, document, table
from equidiff.report.inspect_pictures import image_uri
from equidiff.report.svg import Curve, curves, palette

__all__ = ["error_curves", "render_equivariance", "scene", "scenes_figure"]

_SMALLEST = 1e-17  # drawn for an error of exactly 0
_PANEL = 300
_COMPUTED = ("normaliser", "encoder", "denoiser", "prediction", "sampler")


def error_curves(report: Report) -> str:
    """SVG: the error of each stage of the computation, and the worst of the fields, over the angle."""
    fields = [s for s in report.stages if s.name not in _COMPUTED]
    degrees = [math.degrees(angle) for angle in report.angles]
    rows = [(s.name, s.errors) for s in report.stages if s.name in _COMPUTED]
    if fields:
        columns = zip(*(s.errors for s in fields), strict=True)
        worst = [max((e for e in column if e is not None), default=None) for column in columns]
        rows.insert(0, ("fields, the worst of them", tuple(worst)))
    lines = []
    for i, (name, errors) in enumerate(rows):
        points = tuple((d, max(e, _SMALLEST)) for d, e in zip(degrees, errors, strict=True) if e is not None)
        if points:
            lines.append(Curve(name, points, palette(i)))
    ends = (degrees[0], degrees[-1])
    lines.append(Curve("threshold", tuple((d, report.threshold) for d in ends), "#888888", dashed=True))
    return curves(
        lines, title="Error over the angle", x_label="turn of the scene, degrees", y_label="error", log_y=True
    )


def scene(view: View, half: float, centre: tuple[float, float], mark: str = "") -> str:
    """SVG, a map from above: objects, points, voxels, the gripper and both plans."""
    size = _PANEL
    at = lambda p: (size * (0.5 + (p[0] - centre[0]) / (2 * half)), size * (0.5 - (p[1] - centre[1]) / (2 * half)))
    parts = [f'<rect width="{size}" height="{size}" fill="#f3f4f6" stroke="#c8ced6"/>']
    for name, side in view.sides.items():
        width = size * side / (2 * half)
        corner = (size - width) / 2
        uri = image_uri(Image.fromarray(view.pictures[name]))
        frame = f'x="{corner:.1f}" y="{corner:.1f}" width="{width:.1f}" height="{width:.1f}"'
        parts.append(f'<image href="{uri}" {frame} opacity=".8"/>')
    if view.points is not None:
        for row in view.points[np.argsort(view.points[:, 2])][:: max(1, len(view.points) // 800)]:
            x, y = at(row)
            rgb = ",".join(str(int(255 * v)) for v in np.clip(row[3:6], 0, 1)) if len(row) >= 6 else "120,130,140"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="rgb({rgb})"/>')
    x, y = at(centre)
    parts.append(f'<path d="M{x - 5:.1f} {y:.1f}h10M{x:.1f} {y - 5:.1f}v10" stroke="#666"/>')
    for i, (name, place) in enumerate(view.objects.items()):
        x, y = at(place)
        parts.append(f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" fill="{palette(i + 2)}"/>')
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" font-size="11" fill="#333">{escape(name)}</text>')
    parts += _plans([at(p) for p in view.path], [at(p) for p in view.turned])
    x, y = at(view.gripper)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="#0072B2" stroke-width="2.5"/>')
    bar = _bar_length(half)
    parts.append(f'<path d="M8 {size - 10}h{size * bar / (2 * half):.1f}" stroke="#444" stroke-width="2"/>')
    parts.append(f'<text x="8" y="{size - 15}" font-size="11" fill="#444">{bar * 100:g} cm</text>')
    return _panel(parts, f"{math.degrees(view.angle):.1f}° {mark}".strip())


def picture(view: View, name: str) -> str:
    """SVG: one picture of the turned scene, with both plans over it if its camera is known."""
    pixels = view.pictures[name]
    scale = _PANEL / max(pixels.shape[:2])
    width, height = pixels.shape[1] * scale, pixels.shape[0] * scale
    uri = image_uri(Image.fromarray(pixels))
    style = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
    parts = [f'<rect width="{_PANEL}" height="{_PANEL}" fill="#f3f4f6" stroke="#c8ced6"/>']
    parts.append(f'<image href="{uri}" width="{width:.1f}" height="{height:.1f}" {style}/>')
    if name in view.drawn:
        path, turned = ([tuple(p * scale) for p in line if np.isfinite(p).all()] for line in view.drawn[name])
        parts += _plans(path, turned, "#fff")
    note = "" if name in view.drawn or name in view.sides else ", camera not known"
    return _panel(parts, f"{name}{note}", "#fff")


def _plans(path: Sequence[tuple[float, ...]], turned: Sequence[tuple[float, ...]], wide: str = "#111") -> list[str]:
    """The wide line of the turned plan, and the plan with its steps."""
    parts = []
    lines = ((turned, f'{wide}" stroke-width="6" opacity=".4'), (path, '#D55E00" stroke-width="2'))
    for points, style in lines:
        if points:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path d="M{line}" fill="none" stroke="{style}"/>')
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="#D55E00"/>' for x, y in path]


def _panel(parts: Sequence[str], label: str, ink: str = "#111") -> str:
    title = f'<text x="8" y="20" font-size="15" font-weight="600" fill="{ink}">{escape(label)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_PANEL} {_PANEL}" role="img">'
        f"<title>{escape(label)}</title>{''.join(parts)}{title}</svg>"
    )


def _bar_length(half: float) -> float:
    """Metres of the scale: at most a third of the map."""
    return max((length for length in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if length <= 2 * half / 3), default=0.01)


def panels(view: View, half: float, centre: tuple[float, float]) -> list[str]:
    """The map, and beside it every picture that is not drawn into the map."""
    return [scene(view, half, centre), *(picture(view, name) for name in view.pictures if name not in view.sides)]


def scenes_figure(views: Sequence[View], centre: tuple[float, float], columns: int = 3) -> str:
    """All scenes in one SVG; a row for each if there are pictures beside the maps."""
    half, step = scene_extent(views, centre), _PANEL + 10
    rows = [panels(view, half, centre) for view in views]
    wide = max(len(row) for row in rows)
    if wide == 1:
        flat = [row[0] for row in rows]
        rows, wide = [flat[i : i + columns] for i in range(0, len(flat), columns)], columns
    inner = [
        panel.replace("<svg ", f'<svg x="{x * step}" y="{y * step}" width="{_PANEL}" height="{_PANEL}" ', 1)
        for y, row in enumerate(rows)
        for x, panel in enumerate(row)
    ]
    size = f"0 0 {wide * step} {len(rows) * step}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif">'
    return f"{head}<title>Turned scenes</title>{''.join(inner)}</svg>"


def scene_extent(views: Sequence[View], centre: tuple[float, float]) -> float:
    """Half of the side of the drawn square, metres: everything that is planned or stands there fits at any angle."""
    shown = [np.atleast_2d(v) for view in views for v in (view.path, view.turned, view.gripper, *view.objects.values())]
    wide = [side / 2 for view in views for side in view.sides.values()]
    far = float(np.linalg.norm(np.concatenate(shown)[:, :2] - centre, axis=1).max())
    return max(far * 1.1, 0.05, *wide)


def render_equivariance(
    report: Report, views: Sequence[View], centre: tuple[float, float], subject: str, line: str
) -> str:
    """The whole page."""
    verdict = f"Fails: {', '.join(report.failed)}" if report.failed else "Turns with the scene"
    half = scene_extent(views, centre)
    rows = []
    for stage in report.stages:
        worst = stage.worst
        keys = ("exact", "grid", "share", "between")
        cells = ["-" if key not in worst else f"{worst[key]:.2e}" for key in keys]
        word = report.verdict(stage)
        tag = {"ok": "up", "FAILED": "down"}.get(word, "")
        rows.append([escape(stage.name), *cells, f'<span class="tag {tag}">{word}</span>'])
    shown = "".join(f"<div>{panel}</div>" for view in views for panel in panels(view, half, centre))
    note = (
        "Maps: from above, x to the right, y up, to scale. Circle: gripper. Orange: what the policy plans for the "
        "turned scene. Wide line: its plan for the scene as it is, turned. They coincide where the policy turns with "
        "the scene. Pictures are turned with the scene; plans are seen through their cameras where these are known, "
        "and turned with the picture."
    )
    return document(
        "Equivariance",
        [
            f'<header><p class="kicker">Equivariance check</p><h1>{escape(verdict)}</h1>'
            f'<p class="lead">{escape(subject)}</p></header>',
            "<h2>Error over the angle</h2>",
            card(error_curves(report)),
            f'<p class="note">{escape(FORMULA)}. Judged at the {report.order} rotations of the group.</p>',
            "<h2>Turned scenes</h2>",
            f'<div class="scenes">{shown}</div><p class="note">{note}</p>',
            "<h2>Every stage</h2>",
            table(
                [
                    "stage",
                    f"exact, limit {report.threshold:g}",
                    f"grid, {report.grid_limit}",
                    "of unturned",
                    "between",
                    "",
                ],
                rows,
                (1, 2, 3, 4),
            ),
            "".join(f'<p class="note">{escape(failure)}</p>' for failure in report.failures[:20]),
            command("Made by", line),
        ],
        style=".scenes{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:12px}",
    )
