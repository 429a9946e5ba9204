"""Tables about policies that see: the laws of every encoder, and what a step of the published policies costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equidiff.report.recorded import markdown_table

__all__ = ["markdown_laws", "markdown_published"]

_STAGES = ("encoder", "denoiser", "sampler")


def markdown_laws(record: Mapping[str, Any]) -> str:
    """Figures of scripts/laws_table.py."""
    angles = [str(angle) for angle in record["angles"]]
    rows = [
        [
            row["policy"],
            row["size"],
            str(row["order"]),
            *(_error(row["errors"][angle][stage]) for stage in _STAGES for angle in angles),
        ]
        for row in record["rows"]
    ]
    header = ["policy", "size", "N", *(f"{stage} {angle}°" for stage in _STAGES for angle in angles)]
    table = markdown_table(header, rows, "llr" + "r" * (len(header) - 3))
    return f"{table}\n\n{record['batch']} random scenes, float64. {record['date']}: `{record['command']}`"


def markdown_published(record: Mapping[str, Any]) -> str:
    """Figures of scripts/bench_published.py."""
    rows = [
        [
            f"`{name}`",
            f"{row['parameters']:,}",
            f"{row['step_s']:.1f} s",
            f"{row['peak_mb'] / 1000:.1f} GB",
            f"{row['build_s']:.1f} s",
        ]
        for name, row in record["experiments"].items()
    ]
    table = markdown_table(["experiment", "parameters", "training step", "peak memory", "built in"], rows, "lrrrr")
    least = min(row["imports_mb"] for row in record["experiments"].values())
    return (
        f"{table}\n\nBatch {record['batch']}, one thread, processor time; memory of the whole process, of which the "
        f"imports are {least / 1000:.1f} GB. {record['cpu']}, {record['date']}: `{record['command']}`"
    )


def _error(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.0e}"
