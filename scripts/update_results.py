"""Write the recorded results into the documentation, so that no number is typed by hand.

python scripts/update_results.py            # docs/{results,measurements}/*.json -> docs and README.md
python scripts/update_results.py --check    # exit status 1 if something is not up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equidiff.report.measured_data import markdown_loading, markdown_loading_run, markdown_replay
from equidiff.report.measured_rendering import markdown_rendering
from equidiff.report.measured_visual import markdown_laws, markdown_published
from equidiff.report.recorded import (
    markdown_experts,
    markdown_mimicgen,
    markdown_overview,
    markdown_physics,
    markdown_study,
    markdown_symmetry,
    read_record,
    replace_block,
)
from equidiff.report.study import Study
from equidiff.report.svg import Bar, Curve, curves, standalone, success_bars
from equidiff.results import ResultError
from real_robot.report.measured import markdown_closed_loop

Record = tuple[Study, dict[str, Any]]
ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = {"experts": markdown_experts, "physics": markdown_physics}
# blocks of the other pages: what makes the text, and the page
PAGES = {
    "mimicgen": (markdown_mimicgen, "mimicgen"),
    "symmetry": (markdown_symmetry, "symmetry"),
    "replay": (markdown_replay, "actions"),
    "loading": (markdown_loading, "loading"),
    "loading_small": (markdown_loading, "loading"),
    "loading_run": (markdown_loading_run, "loading"),
    "rendering": (markdown_rendering, "observations"),
    "closed_loop": (markdown_closed_loop, "closed_loop"),
    "laws": (markdown_laws, "visual"),
    "published": (markdown_published, "visual"),
}
STUDIES = ("lift_cloud", "lift_image")  # of docs/visual.md
NOTHING = "No result is recorded yet."


def contents(root: Path) -> dict[Path, str]:
    """What every generated or partly generated file should contain."""
    docs = root / "docs"
    records = {file.stem: read_record(file) for file in sorted((docs / "results").glob("*.json"))}
    files: dict[Path, str] = {}
    overview = markdown_overview(list(records.values())) if records else NOTHING
    results, readme = docs / "results.md", root / "README.md"
    files[results] = replace_block(results.read_text(), "overview", overview)
    for name, markdown in MEASUREMENTS.items():
        file = docs / "measurements" / f"{name}.json"
        text = markdown(json.loads(file.read_text())) if file.exists() else NOTHING
        files[results] = replace_block(files[results], name, text)
    for name, (markdown, where) in PAGES.items():
        page, file = docs / f"{where}.md", docs / "measurements" / f"{name}.json"
        if page.exists():
            text = markdown(json.loads(file.read_text())) if file.exists() else NOTHING
            files[page] = replace_block(files.get(page) or page.read_text(), name, text)
    visual = docs / "visual.md"
    if visual.exists():
        for name in STUDIES:
            text = _study(name, records, docs, "images", files) + _losses(name, records, docs, files)
            files[visual] = replace_block(files[visual], name, text)
    files[readme] = readme.read_text()
    for page, folder in ((results, "images"), (readme, "docs/images")):
        files[page] = replace_block(files[page], "demo", _study("demo", records, docs, folder, files))
    return files


def _study(name: str, records: Mapping[str, Record], docs: Path, folder: str, files: dict[Path, str]) -> str:
    """Chart, picture, film and text of a record. folder: of the pictures, as the page calls it."""
    if name not in records:
        return NOTHING
    study, record = records[name]
    bars = [Bar(e.label, e.pooled, study.colour(e), e.rates, e is study.entrants[0]) for e in study.entrants]
    files[docs / "images" / f"{name}.svg"] = standalone(success_bars(bars))
    text = f"![Success rates]({folder}/{name}.svg)\n\n"
    if (docs / "images" / f"{name}.png").exists():
        text += f"![The same starts, one policy per row]({folder}/{name}.png)\n\n"
    if (docs / "images" / f"{name}.mp4").exists():
        text += f"[Film of the same starts]({folder}/{name}.mp4)\n\n"
    return text + markdown_study(study, record)


def _losses(name: str, records: Mapping[str, Record], docs: Path, files: dict[Path, str]) -> str:
    """Chart of the losses of a record's first trainings: on the data that was trained on, dashed, and on other data."""
    if name not in records:
        return ""
    study, record = records[name]
    lines = [
        Curve(f"{entrant.label}, {what}", tuple(map(tuple, points)), study.colour(entrant), dashed=key == "train/loss")
        for entrant in study.entrants
        for key, what in (("valid/loss", "validation"), ("train/loss", "training"))
        if (points := record[entrant.key].get("losses", {}).get(key))
    ]
    if not lines:
        return ""
    chart = curves(lines, title="Loss", x_label="optimiser step", y_label="loss", log_y=True)
    files[docs / "images" / f"{name}_loss.svg"] = standalone(chart)
    return f"\n\n![Loss on training and validation data](images/{name}_loss.svg)"


def main(arguments: list[str]) -> int:
    """Update or check; returns the exit status."""
    if set(arguments) - {"--check"}:
        print(__doc__)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    try:
        wanted = contents(ROOT)
    except (ResultError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'out of date' if arguments else 'updated'}: {path.relative_to(ROOT)}")
        if not arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
