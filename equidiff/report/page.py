"""One self-contained HTML page for a study: no external resource, light and dark, fit for mail and printing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from equidiff.report.html import card, command, data_uri, document, table, write_html
from equidiff.report.study import Entrant, Study, format_p, headline, series
from equidiff.report.svg import Bar, Curve, curves, outcome_strips, success_bars

__all__ = ["render", "write_page"]

_EMBED_LIMIT = 12_000_000  # bytes of video; beyond it the page refers to the file beside it


def write_page(
    path: str | os.PathLike[str],
    study: Study,
    *,
    sheet: str | os.PathLike[str] | None = None,
    video: str | os.PathLike[str] | None = None,
) -> Path:
    """Write `render(study, ...)` to `path`, through a temporary file; returns the path."""
    return write_html(path, render(study, sheet=sheet, video=video))


def render(
    study: Study, *, sheet: str | os.PathLike[str] | None = None, video: str | os.PathLike[str] | None = None
) -> str:
    """The page as a string. sheet: PNG with filmed episodes; video: MP4. Both are embedded.

    A video larger than 12 MB is named by its file name instead and must lie beside the page.
    """
    lead, *rest = headline(study)
    body = [
        f'<header><p class="kicker">equidiff · {escape(study.task)}</p><h1>{escape(study.title)}</h1>',
        f'<p class="lead"><strong>{escape(lead)}</strong></p>',
        f"<p>{escape(' '.join(rest))}</p></header>" if rest else "</header>",
        "<h2>Success rate</h2>",
        card(success_bars([_bar(study, entrant) for entrant in study.entrants])),
        '<p class="note">Success in the final state of the episode. Whiskers: exact 95 % interval '
        f"(Clopper and Pearson) over the episodes{_dots(study)}.</p>",
    ]
    if study.tests:
        body += ["<h2>The same episodes, side by side</h2>", _tests(study)]
    body += [card(outcome_strips(_strips(study))), '<p class="note">One square per episode, filled if solved.']
    body += ["The same column is the same start. p: exact McNemar test, not corrected for their number.</p>"]
    if sheet is not None:
        body += ["<h2>Filmed episodes</h2>", _figure(sheet)]
    if video is not None:
        body += ["" if sheet is not None else "<h2>Filmed episodes</h2>", _video(video)]
    body += [*_learning(study), *_settings(study)]
    if study.commands:
        body.append("<h2>Do it again</h2>")
        body += [command(what, line) for what, line in study.commands]
    if study.facts:
        rows = [[escape(name), escape(value)] for name, value in study.facts.items()]
        body += ["<h2>Where and when</h2>", table([], rows)]
    body += [f'<p class="note">{escape(note)}</p>' for note in study.notes]
    return document(f"{study.title} · equidiff", body)


# -- parts ---------------------------------------------------------------------------------------------


def _bar(study: Study, entrant: Entrant) -> Bar:
    return Bar(entrant.label, entrant.pooled, study.colour(entrant), entrant.rates, entrant is study.entrants[0])


def _dots(study: Study) -> str:
    return ". Dots: each training" if len(study.entrants[0].runs) > 1 else ", one training each"


def _tests(study: Study) -> str:
    first = study.entrants[0]
    kinds = {1: ("up", "better"), 0: ("", "not told apart"), -1: ("down", "worse")}
    rows = []
    for _, other, paired in study.tests:
        css, verdict = kinds[paired.better()]
        rows.append(
            [
                _named(study, other),
                str(paired.both),
                str(paired.only_first),
                str(paired.only_second),
                str(paired.neither),
                escape(format_p(paired.p_value)),
                f'<span class="tag {css}">{verdict}</span>',
            ]
        )
    header = [f"{first.label} against", "both", "only it", "only the other", "neither", "", "it is"]
    return table(header, rows, numbers=range(1, 6))


def _strips(study: Study) -> list[tuple[str, str, Sequence[bool]]]:
    several = len(study.entrants[0].runs) > 1
    order = sorted(study.entrants[0].runs[0].result.seeds)
    rows: list[tuple[str, str, Sequence[bool]]] = []
    for entrant in study.entrants:
        for i, run in enumerate(entrant.runs):
            solved = dict(zip(run.result.seeds, run.result.success, strict=True))
            label = f"{entrant.label}, {i + 1}" if several else entrant.label
            rows.append((label, study.colour(entrant), [solved[seed] for seed in order if seed in solved]))
    return rows


def _learning(study: Study) -> list[str]:
    parts = []
    for key, name in (("train/loss", "Training loss"), ("valid/loss", "Validation loss")):
        lines = [
            Curve(entrant.label if i == 0 else "", points, study.colour(entrant))
            for entrant in study.entrants
            for i, run in enumerate(entrant.runs)
            if (points := series(run.metrics, key))
        ]
        if lines:
            parts.append(card(curves(lines, title=name, x_label="optimiser step", y_label=name, log_y=True)))
    return ["<h2>Learning curves</h2>", *parts] if parts else []


def _settings(study: Study) -> list[str]:
    names = list(dict.fromkeys(name for entrant in study.entrants for name in entrant.facts))
    if not names:
        return []
    rows = [
        [_named(study, entrant), *(escape(_value(entrant.facts.get(name, "-"))) for name in names)]
        for entrant in study.entrants
    ]
    return ["<h2>Settings and cost</h2>", table(["policy", *names], rows, numbers=range(1, len(names) + 1))]


def _value(value: str | int | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value


def _named(study: Study, entrant: Entrant) -> str:
    return f'<span class="dot" style="background:{study.colour(entrant)}"></span>{escape(entrant.label)}'


def _figure(path: str | os.PathLike[str]) -> str:
    caption = "Start, middle and end of an episode; equal numbers are equal starts. Green: solved in the final state."
    return (
        f'<figure><img alt="{caption}" src="{data_uri(path, "image/png")}"><figcaption>{caption}</figcaption></figure>'
    )


def _video(path: str | os.PathLike[str]) -> str:
    source = Path(path)
    large = source.stat().st_size > _EMBED_LIMIT
    address = escape(source.name, quote=True) if large else data_uri(source, "video/mp4")
    caption = (
        "One row per policy, one column per start, numbered. The frame turns green or red when the episode is over."
    )
    return (
        f'<figure><video controls muted loop playsinline preload="metadata" src="{address}"></video>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
