"""One self-contained HTML page for a study: no external resource, light and dark, fit for mail and printing."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from equidiff.report.study import Entrant, Study, format_p, headline, series
from equidiff.report.svg import Bar, Curve, curves, outcome_strips, success_bars

__all__ = ["render", "write_page"]

_EMBED_LIMIT = 12_000_000  # bytes of video; beyond it the page refers to the file beside it

_CSS = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--ink:#1d2129;--soft:#5b6472;--line:#dfe3e8;--accent:#0072b2}
@media(prefers-color-scheme:dark){:root{--bg:#14171c;--card:#1d2128;--ink:#e6e9ee;--soft:#9aa4b2;--line:#323843;--accent:#5db3e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:920px;margin:0 auto;padding:40px 20px 80px}
header .kicker{color:var(--accent);font-weight:600;letter-spacing:.02em;margin:0}
h1{font-size:1.9rem;line-height:1.2;margin:.2em 0 .4em}
h2{font-size:1.2rem;margin:2.4em 0 .6em;padding-bottom:.3em;border-bottom:1px solid var(--line)}
.lead{font-size:1.15rem;margin:.4em 0}
.soft,figcaption,.note{color:var(--soft);font-size:.9rem}
svg{color:inherit;width:100%;height:auto;display:block}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;margin:1em 0;overflow-x:auto}
figure{margin:1em 0}
figure img,video{width:100%;height:auto;border-radius:8px;border:1px solid var(--line);background:#fff}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:7px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr:last-child td{border-bottom:0}
.dot{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.55em}
.tag{border-radius:99px;padding:1px 9px;font-size:.82rem;border:1px solid var(--line);white-space:nowrap}
.tag.up{color:#0b7a3b;border-color:#0b7a3b}.tag.down{color:#c0392b;border-color:#c0392b}
@media(prefers-color-scheme:dark){.tag.up{color:#58c98b;border-color:#58c98b}.tag.down{color:#ff8a7a;border-color:#ff8a7a}}
.command{position:relative;margin:.3em 0 1em}
pre{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:11px 70px 11px 14px;
overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;
overflow-wrap:anywhere}
.command button{position:absolute;top:6px;right:6px;font:inherit;font-size:.8rem;padding:3px 10px;border-radius:6px;
border:1px solid var(--line);background:var(--bg);color:var(--ink);cursor:pointer}
@media print{.command button,video{display:none}main{max-width:none;padding:0}}
"""

_SCRIPT = """
for(const b of document.querySelectorAll('.command button'))b.addEventListener('click',async()=>{
const t=b.parentElement.querySelector('pre').textContent;
try{await navigator.clipboard.writeText(t);b.textContent='copied'}catch{
const r=document.createRange();r.selectNodeContents(b.parentElement.querySelector('pre'));
const s=getSelection();s.removeAllRanges();s.addRange(r);b.textContent='selected'}
setTimeout(()=>b.textContent='copy',1500)});
"""


def write_page(
    path: str | os.PathLike[str],
    study: Study,
    *,
    sheet: str | os.PathLike[str] | None = None,
    video: str | os.PathLike[str] | None = None,
) -> Path:
    """Write `render(study, ...)` to `path`, through a temporary file; returns the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        temporary.write_text(render(study, sheet=sheet, video=video), encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


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
        _card(success_bars([_bar(study, entrant) for entrant in study.entrants])),
        '<p class="note">Success in the final state of the episode. Whiskers: exact 95 % interval '
        f"(Clopper and Pearson) over the episodes{_dots(study)}.</p>",
    ]
    if study.tests:
        body += ["<h2>The same episodes, side by side</h2>", _tests(study)]
    body += [_card(outcome_strips(_strips(study))), '<p class="note">One square per episode, filled if solved.']
    body += ["The same column is the same start. p: exact McNemar test, not corrected for their number.</p>"]
    if sheet is not None:
        body += ["<h2>Filmed episodes</h2>", _figure(sheet)]
    if video is not None:
        body += ["" if sheet is not None else "<h2>Filmed episodes</h2>", _video(video)]
    body += [*_learning(study), *_settings(study)]
    if study.commands:
        body.append("<h2>Do it again</h2>")
        body += [_command(what, line) for what, line in study.commands]
    if study.facts:
        rows = [[escape(name), escape(value)] for name, value in study.facts.items()]
        body += ["<h2>Where and when</h2>", _table([], rows)]
    body += [f'<p class="note">{escape(note)}</p>' for note in study.notes]
    title = escape(f"{study.title} · equidiff")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{_CSS}</style></head>\n'
        "<body><main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


# -- parts ---------------------------------------------------------------------------------------------


def _bar(study: Study, entrant: Entrant) -> Bar:
    return Bar(entrant.label, entrant.pooled, study.colour(entrant), entrant.rates, entrant is study.entrants[0])


def _dots(study: Study) -> str:
    return ". Dots: each training" if len(study.entrants[0].runs) > 1 else ", one training each"


def _tests(study: Study) -> str:
    first = study.entrants[0]
    kinds = {1: ("up", "better"), 0: ("", "not told apart"), -1: ("down", "worse")}
    rows = []
    for _, other, table in study.tests:
        css, verdict = kinds[table.better()]
        rows.append(
            [
                _named(study, other),
                str(table.both),
                str(table.only_first),
                str(table.only_second),
                str(table.neither),
                escape(format_p(table.p_value)),
                f'<span class="tag {css}">{verdict}</span>',
            ]
        )
    header = [f"{first.label} against", "both", "only it", "only the other", "neither", "", "it is"]
    return _table(header, rows, numbers=range(1, 6))


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
            parts.append(_card(curves(lines, title=name, x_label="optimiser step", y_label=name, log_y=True)))
    return ["<h2>Learning curves</h2>", *parts] if parts else []


def _settings(study: Study) -> list[str]:
    names = list(dict.fromkeys(name for entrant in study.entrants for name in entrant.facts))
    if not names:
        return []
    rows = [
        [_named(study, entrant), *(escape(_value(entrant.facts.get(name, "-"))) for name in names)]
        for entrant in study.entrants
    ]
    return ["<h2>Settings and cost</h2>", _table(["policy", *names], rows, numbers=range(1, len(names) + 1))]


def _value(value: str | int | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value


def _named(study: Study, entrant: Entrant) -> str:
    return f'<span class="dot" style="background:{study.colour(entrant)}"></span>{escape(entrant.label)}'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells of `rows` are HTML; the header is text."""
    css = ['class="n"' if i in numbers else "" for i in range(len(rows[0]))]
    head = "".join(f"<th {c}>{escape(cell)}</th>" for cell, c in zip(header, css, strict=True)) if header else ""
    lines = "".join(
        "<tr>" + "".join(f"<td {c}>{cell}</td>" for cell, c in zip(row, css, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="card"><table>{f"<tr>{head}</tr>" if head else ""}{lines}</table></div>'


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _command(what: str, line: str) -> str:
    return (
        f'<p class="soft">{escape(what)}</p><div class="command"><pre>{escape(line)}</pre>'
        '<button type="button">copy</button></div>'
    )


def _figure(path: str | os.PathLike[str]) -> str:
    caption = "Start, middle and end of an episode; equal numbers are equal starts. Green: solved in the final state."
    return (
        f'<figure><img alt="{caption}" src="{_data_uri(path, "image/png")}"><figcaption>{caption}</figcaption></figure>'
    )


def _video(path: str | os.PathLike[str]) -> str:
    source = Path(path)
    large = source.stat().st_size > _EMBED_LIMIT
    address = escape(source.name, quote=True) if large else _data_uri(source, "video/mp4")
    caption = (
        "One row per policy, one column per start, numbered. The frame turns green or red when the episode is over."
    )
    return (
        f'<figure><video controls muted loop playsinline preload="metadata" src="{address}"></video>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data_uri(path: str | os.PathLike[str], kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"
