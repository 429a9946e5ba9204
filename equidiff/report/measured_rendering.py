"""Table of the renderer's speed and of how its pictures differ from robosuite's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equidiff.report.recorded import markdown_table

__all__ = ["markdown_rendering"]


def markdown_rendering(record: Mapping[str, Any]) -> str:
    """Figures of scripts/bench_rendering.py."""
    cameras = record["cameras"]
    rows = []
    for task, row in record["tasks"].items():
        rate, times, off = (row[key] for key in ("pictures_per_cpu_second", "speedup", "difference"))
        off = {kind: f"{value:.2f}" for kind, value in off.items()}
        for kind, each in row["difference_by_camera"].items():
            off[kind] += f" ({', '.join(f'{each[name]:.2f}' for name in cameras)})"
        rows.append(
            [
                task,
                f"{rate['robosuite']:.0f}",
                f"{rate['fast']:.0f}",
                f"{times['fast']:.1f}",
                off["fast"],
                f"{times['smooth']:.1f}",
                off["smooth"],
                f"{row['difference']['default']:.2f}",
            ]
        )
    header = [
        "task",
        "robosuite, pictures / s",
        "fast, pictures / s",
        "times",
        "difference",
        "`samples: 2`, times",
        "difference",
        "`kind: default`, difference",
    ]
    size = record["size"]
    return (
        markdown_table(header, rows, "lrrrrrrr")
        + f"\n\n{size} × {size} pixels, per second of CPU time; mean absolute difference from robosuite's pictures in "
        f"grey levels of 255, of both cameras and of each ({', '.join(cameras)}). {record['cpu']}, "
        f"{record['cores']} cores: `{record['command']}`"
    )
