"""`write_report`: all files of a report."""

from __future__ import annotations

import json
from pathlib import Path

from equidiff.report.html import write_html
from real_robot.report.load import load_run
from real_robot.report.page import render
from real_robot.report.rerun_log import write_rerun
from real_robot.report.summary import summarise

__all__ = ["write_report"]


def write_report(folder: Path, out: Path | None = None, rerun: bool = False) -> list[Path]:
    """Make report.json and report.html (and report.rrd) of the run in `folder`, in `out` or there; their paths.

    Raises RecordError for a record that cannot be read.
    """
    run = load_run(folder)
    out = run.folder if out is None else out
    summary = summarise(run)
    found = run.folder / "video.mp4"
    video = found if found.is_file() else None
    written = [
        write_html(out / "report.json", json.dumps(summary, indent=1, allow_nan=False) + "\n"),
        write_html(out / "report.html", render(run, summary, video)),
    ]
    if rerun:
        written.append(write_rerun(run, out / "report.rrd", video))
    return written
