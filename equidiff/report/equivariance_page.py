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
    """SVG from above: objects, points, the gripper, the plan (solid) and the turned plan of the scene as it is."""
    size = 300
    at = lambda p: (size * (0.5 + (p[0] - centre[0]) / (2 * half)), size * (0.5 - (p[1] - centre[1]) / (2 * half)))
    parts = [f'<rect width="{size}" height="{size}" fill="#f3f4f6" stroke="#c8ced6"/>']
    for picture in list(view.pictures.values())[:1]:
        uri = image_uri(Image.fromarray(picture))
        parts.append(f'<image href="{uri}" width="{size}" height="{size}" opacity=".8" preserveAspectRatio="none"/>')
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
    plans = ((view.turned, '#111" stroke-width="6" opacity=".28'), (view.path, '#D55E00" stroke-width="2'))
    for path, style in plans:
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(at, path))
        parts.append(f'<path d="M{line}" fill="none" stroke="{style}"/>')
    for point in view.path:
        x, y = at(point)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="#D55E00"/>')
    x, y = at(view.gripper)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="#0072B2" stroke-width="2.5"/>')
    label = f"{math.degrees(view.angle):.1f}° {mark}".strip()
    parts.append(f'<text x="8" y="20" font-size="15" font-weight="600" fill="#111">{escape(label)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img"><title>{escape(label)}</title>'
        f"{''.join(parts)}</svg>"
    )


def scenes_figure(views: Sequence[View], centre: tuple[float, float], columns: int = 3) -> str:
    """All scenes in one SVG."""
    half, size = scene_extent(views, centre), 300
    rows = -(-len(views) // columns)
    inner = [
        scene(view, half, centre).replace(
            "<svg ",
            f'<svg x="{(i % columns) * (size + 10)}" y="{(i // columns) * (size + 10)}" width="{size}" '
            f'height="{size}" ',
            1,
        )
        for i, view in enumerate(views)
    ]
    width, height = columns * (size + 10), rows * (size + 10)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    return f"{head}<title>Turned scenes</title>{''.join(inner)}</svg>"


def scene_extent(views: Sequence[View], centre: tuple[float, float]) -> float:
    """Half of the side of the drawn square, metres: everything that is planned or stands there fits at any angle."""
    shown = [np.atleast_2d(v) for view in views for v in (view.path, view.turned, view.gripper, *view.objects.values())]
    far = float(np.linalg.norm(np.concatenate(shown) - centre, axis=1).max())
    return max(far * 1.1, 0.05)


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
    panels = "".join(f"<div>{scene(view, half, centre)}</div>" for view in views)
    note = (
        "From above, x to the right, y up. Circle: gripper. Orange: what the policy plans for the turned scene. Wide "
        "grey line: its plan for the scene as it is, turned. They coincide where the policy turns with the scene. "
        "A picture "
        "or a grid in the background is turned with the scene and not to scale."
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
            f'<div class="scenes">{panels}</div><p class="note">{note}</p>',
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
