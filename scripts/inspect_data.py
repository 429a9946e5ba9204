"""Look at demonstrations before training: counts, ranges, odd values, a page of pictures, a report on the symmetry.

    python scripts/inspect_data.py data=outputs/demos/stack_200.hdf5 task=stack
    python scripts/inspect_data.py data=demos.hdf5 centre=[0.45,0.0] folds='{cube: 4}' out=outputs/inspect/mine
    python scripts/inspect_data.py data=demos.hdf5 strict=true        # for scripts: exit status 1 if there are problems

Prints a summary and writes inspect.json (all numbers) and index.html (one page that needs nothing else) into `out`.
The file is read one demonstration at a time and never changed. Without task=... the centre is (0, 0) and every yaw
counts in full. Exit status: 0; 1 with strict=true and problems in the data; 2 if the file cannot be read.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.inspect_checks import Limits
from equidiff.data.inspect_file import Inspection, inspect_file
from equidiff.data.inspect_symmetry import SymmetryReport, symmetry_report
from equidiff.data.inspect_views import cameras
from equidiff.hydra_app import run_app
from equidiff.report.html import write_html
from equidiff.report.inspect_page import render_inspection
from equidiff.report.inspect_text import report_text, summary
from equidiff.results import write_json


def main(config: DictConfig) -> int:
    settings: Any = OmegaConf.to_container(config, resolve=True)
    task = settings.get("task") or {}
    path = Path(settings["data"]["path"])
    centre = _centre(settings["centre"] if settings["centre"] is not None else task.get("centre", (0.0, 0.0)))
    out = Path(settings["out"] or Path("outputs/inspect") / path.stem)
    if out.exists() and not out.is_dir():
        raise DataError(f"out={out}: is a file, expected a folder")
    found = inspect_file(
        path,
        task or None,
        limits=Limits(**settings["limits"]),
        episodes=_at_least_one("episodes", settings["episodes"]),
        progress=sys.stderr.isatty(),
    )
    symmetry = report(found, centre, _folds(task, settings["folds"] or {}, found))
    line = shlex.join(["python", "scripts/inspect_data.py", *sys.argv[1:]])
    write_json(out / "inspect.json", summary(found, symmetry))
    page = write_html(out / "index.html", render_inspection(found, symmetry, bounds=task.get("bounds"), line=line))
    print(report_text(found, symmetry))
    print(f"\npage: {page}\nnumbers: {out / 'inspect.json'}")
    if settings["strict"] and found.problems:
        print(f"strict: {len(found.problems)} problems", file=sys.stderr)
        return 1
    return 0


def report(found: Inspection, centre: tuple[float, float], folds: Mapping[str, int]) -> SymmetryReport:
    """The symmetry report of an inspected file."""
    pictures = [key for key, stats in found.keys.items() if stats.kind in ("image", "depth") and key.startswith("obs/")]
    return symmetry_report(found.poses, centre, folds, cameras(pictures, found.views, centre))


def _folds(task: Mapping[str, Any], given: Mapping[str, int], found: Inspection) -> dict[str, int]:
    names = sorted({name for poses in found.poses for name in poses.start})
    for name, fold in given.items():
        if name not in names:
            raise DataError(f"folds.{name}: no such object{did_you_mean(name, names)}; the file has {', '.join(names)}")
        _at_least_one(f"folds.{name}", fold)
    objects = {name: int(node.get("fold", 1)) for name, node in (task.get("objects") or {}).items()}
    # MimicGen's own records name the object in full: square_peg for the task's peg
    known = {n: fold for n in names for name, fold in objects.items() if n == name or n.endswith(f"_{name}")}
    return known | dict(given)


def _centre(value: Any) -> tuple[float, float]:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError):
        raise DataError(f"centre: expected [x, y] in metres, got {value!r}") from None
    return x, y


def _at_least_one(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise DataError(f"{name}: expected a whole number >= 1, got {value!r}")
    return value


if __name__ == "__main__":
    run_app(main, "inspect", __doc__)
