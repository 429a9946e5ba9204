"""What every page of the project shares: style, tables, commands, and one self-contained document."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from equidiff.writing import write_text

__all__ = ["card", "command", "data_uri", "document", "table", "write_html"]

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


def document(title: str, body: Sequence[str], style: str = "", script: str = "") -> str:
    """A whole page from parts of HTML; `style` and `script` are added to those that all pages have."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_CSS}{style}</style></head>\n'
        "<body><main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main><script>{_SCRIPT}{script}</script></body></html>\n"
    )


def write_html(path: str | os.PathLike[str], text: str) -> Path:
    """Write a page through a temporary file; returns the path."""
    return write_text(path, text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells of `rows` are HTML; the header is text. numbers: columns that are set right-aligned."""
    if not rows:
        return ""
    css = ['class="n"' if i in numbers else "" for i in range(len(rows[0]))]
    head = "".join(f"<th {c}>{escape(cell)}</th>" for cell, c in zip(header, css, strict=True)) if header else ""
    lines = "".join(
        "<tr>" + "".join(f"<td {c}>{cell}</td>" for cell, c in zip(row, css, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="card"><table>{f"<tr>{head}</tr>" if head else ""}{lines}</table></div>'


def card(content: str) -> str:
    """A framed part of the page."""
    return f'<div class="card">{content}</div>'


def command(what: str, line: str) -> str:
    """A command line with a button that copies it."""
    return (
        f'<p class="soft">{escape(what)}</p><div class="command"><pre>{escape(line)}</pre>'
        '<button type="button">copy</button></div>'
    )


def data_uri(path: str | os.PathLike[str], kind: str) -> str:
    """A file as an address inside the page."""
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"
