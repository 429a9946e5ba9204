"""The table of scripts/closed_loop.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equidiff.report.recorded import markdown_table
from equidiff.statistics import Proportion

__all__ = ["markdown_closed_loop"]

_STITCHES = {"replace": "new plan at once", "blend": "blended", "real_time": "real-time chunking"}


def markdown_closed_loop(record: Mapping[str, Any]) -> str:
    """Success with exact 95 % intervals, time to success and faults, of each way to run the policy."""

    def share(solved: int, episodes: int) -> list[str]:
        low, high = Proportion(solved, episodes).interval()
        return [f"{solved}/{episodes}", f"{100 * low:.0f}–{100 * high:.0f} %"]

    plain = record["plain"]
    rows = [["plain rollout", "–", *share(plain["solved"], plain["episodes"]), "–", "–", "–"]]
    for row in record["rows"]:
        delay = "of this computer" if row["delay"] is None else f"{1000 * row['delay']:.0f} ms"
        if row["time"] == "real" and row["observation_to_plan_s"] is not None:
            delay += f" ({1000 * row['observation_to_plan_s']:.0f} ms)"
        rows.append(
            [
                f"{row['time']} time, {_STITCHES.get(row['stitch'], row['stitch'])}",
                delay,
                *share(row["solved"], row["episodes"]),
                "–" if row["seconds"] is None else f"{row['seconds']:.1f} s",
                "–" if row.get("jump_mm") is None else f"{row['jump_mm']:.1f} mm",
                ", ".join(f"{count} × {name.replace('_', ' ')}" for name, count in row["faults"].items()) or "none",
            ]
        )
    header = [
        "loop",
        "delay of the policy",
        "solved",
        "95 % interval",
        "time to success",
        "jump at a new plan",
        "faults",
    ]
    return f"{record['task']}:\n\n{markdown_table(header, rows, 'llrrrrl')}\n\n`{record['command']}`"
