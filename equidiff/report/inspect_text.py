"""The tree that inspect.json holds, and the text for the terminal."""

from __future__ import annotations

import dataclasses
import math
import statistics
import textwrap
from collections import Counter
from typing import Any

from equidiff.data.inspect_file import Inspection
from equidiff.data.inspect_keys import law_of
from equidiff.data.inspect_symmetry import SymmetryReport
from equidiff.data.inspect_views import camera_name
from equidiff.report.table import format_table

__all__ = ["key_rows", "length_words", "report_text", "success_words", "summary"]

_SHOWN = 3  # findings of one topic that the terminal lists


def summary(found: Inspection, symmetry: SymmetryReport) -> dict[str, Any]:
    """Everything but the pictures, as JSON values; NaN and infinity as null."""
    lengths = list(found.lengths.values())
    known = [s for s in found.success.values() if s is not None]
    tree = {
        "file": str(found.path),
        "bytes": found.bytes,
        "env": found.env,
        "control_hz": found.control_hz,
        "control_hz_from": found.hz_from,
        "demonstrations": len(lengths),
        "steps": sum(lengths),
        "length": {"min": min(lengths), "median": statistics.median(lengths), "max": max(lengths)},
        "success": {"known": len(known), "solved": sum(known)},
        "masks": {mask: len(members) for mask, members in found.masks.items()},
        "keys": {key: stats.to_json(len(lengths)) for key, stats in sorted(found.keys.items())},
        "findings": [dataclasses.asdict(f) for f in found.findings],
        "symmetry": symmetry.to_json(),
        "perception": found.attributes.get("perception"),
        "lengths": found.lengths,
    }
    finite: dict[str, Any] = _finite(tree)
    return finite


def report_text(found: Inspection, symmetry: SymmetryReport, width: int = 110) -> str:
    """For the terminal: facts, keys, findings, verdict."""

    facts = [
        f"{found.path} ({found.bytes / 1e6:.1f} MB)",
        f"environment {found.env}, {found.control_hz:g} Hz ({found.hz_from}), {len(found.lengths)} demonstrations, "
        f"{sum(found.lengths.values())} steps; {length_words(found)}",
        f"success: {success_words(found)}; masks: "
        + (", ".join(f"{m} {len(names)}" for m, names in found.masks.items()) or "none"),
    ]
    header = ["key", "shape", "dtype", "range", "in", "constant in", "kind", "equivariant"]
    parts = ["\n".join(facts), format_table(header, key_rows(found, symmetry), "lllllr")]
    parts.append(_findings(found, width))
    parts.append("Symmetry: " + symmetry.verdict)
    parts.append("\n".join(textwrap.fill(w, width, subsequent_indent="  ") for w in symmetry.words))
    return "\n\n".join(parts)


def length_words(found: Inspection) -> str:
    """Shortest, median and longest, in steps and seconds."""
    lengths = list(found.lengths.values())
    low, middle, high = min(lengths), statistics.median(lengths), max(lengths)
    return f"{low} / {middle:g} / {high} steps (shortest, median, longest), median {middle / found.control_hz:.1f} s"


def success_words(found: Inspection) -> str:
    """Share of the demonstrations that end solved, or that the file does not say."""
    known = [s for s in found.success.values() if s is not None]
    if not known:
        return "unknown, the file does not say"
    return f"{sum(known)} of {len(known)}" + (
        f", unknown for {len(found.success) - len(known)}" if len(known) < len(found.success) else ""
    )


def key_rows(found: Inspection, symmetry: SymmetryReport) -> list[list[str]]:
    """(key, shape, dtype, range, in how many demonstrations, constant in how many, kind, whether it is equivariant)."""
    seen = {camera.name: camera.exact for camera in symmetry.cameras}
    n = len(found.lengths)
    rows = []
    for key, s in sorted(found.keys.items(), key=lambda item: (item[0].startswith("datagen"), item[0])):
        shape = " or ".join("×".join(map(str, shape)) or "1" for shape in s.shapes)
        span = "-"
        if s.low is not None and s.high is not None:
            span = f"{float(s.low.min()):.4g} to {float(s.high.max()):.4g}" + (" (sampled)" if s.sampled else "")
        constant = str(len(s.constant)) if s.constant else "-"
        law = seen.get(camera_name(key), "unknown") if s.kind in ("image", "depth") else law_of(s.kind).exact
        rows.append([key, shape, ", ".join(sorted(s.dtypes)), span, f"{len(s.present)}/{n}", constant, s.kind, law])
    return rows


def _findings(found: Inspection, width: int) -> str:
    if not found.findings:
        return "Nothing odd was found."
    counts = Counter((f.severity, f.topic) for f in found.findings)
    lines = [f"Problems: {len(found.problems)}, notes: {len(found.findings) - len(found.problems)}"]
    shown: Counter[tuple[str, str]] = Counter()
    for f in sorted(found.findings, key=lambda f: (f.severity != "problem", f.topic)):
        kind = (f.severity, f.topic)
        shown[kind] += 1
        if shown[kind] <= _SHOWN:
            text = f"{f.severity} ({f.topic}): {f.demo + ': ' if f.demo else ''}{f.message}"
            lines.append(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="      "))
        elif shown[kind] == counts[kind]:
            lines.append(f"      ... and {counts[kind] - _SHOWN} more like it")
    return "\n".join(lines)


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(k): _finite(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(v) for v in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return None
    return tree
