"""Tables of what was measured about data: replays of actions and the loading of windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equidiff.report.recorded import markdown_table

__all__ = ["markdown_loading", "markdown_loading_run", "markdown_replay"]

_WAYS = {
    "cache": "cache, as training reads it",
    "mapped": "the same files, memory-mapped",
    "hdf5": "HDF5 file directly",
    "memory": "all in memory",
    "cold": "cache, pages dropped before",
}


def markdown_replay(record: Mapping[str, Any]) -> str:
    """Replays {task: {"file", "command", "controls": {control: figures}}} as written by scripts/replay_actions.py."""
    rows, commands = [], []
    for task, about in record.items():
        commands.append(f"`{about['command']}`")
        for control, row in about["controls"].items():
            low, high = row["interval"] or (0.0, 1.0)
            place, turn = row["position_error_mm"], row["rotation_error_degrees"]
            rows.append(
                [
                    task,
                    control.replace("_", " "),
                    f"{row['still_solved']}/{row['solved_when_recorded']}",
                    f"{100 * low:.0f}–{100 * high:.0f} %",
                    f"{place['mean']:.2f} / {place['max']:.1f} mm",
                    f"{turn['mean']:.2f} / {turn['max']:.1f}°",
                    f"{100 * row['clipped_share']:.2f} %",
                ]
            )
    header = [
        "task",
        "actions",
        "still solved",
        "95 % interval",
        "gripper off, mean / max",
        "turned, mean / max",
        "cut",
    ]
    return markdown_table(header, rows, "llrrrrr") + "\n\n" + "\n".join(f"- {command}" for command in commands)


def markdown_loading(record: Mapping[str, Any]) -> str:
    """Figures of scripts/bench_loading.py."""
    settings, build = record["settings"], record["build"]
    rows = [
        [
            label,
            f"{record[way]['windows_per_s']:,}",
            f"{record[way]['peak_mb']} MB",
            f"{record[way]['anonymous_mb']} MB",
        ]
        for way, label in _WAYS.items()
        if way in record
    ]
    rows.append(["building the cache", "", f"{build['peak_mb']} MB", f"{build['anonymous_mb']} MB"])
    lines = [
        markdown_table(["reading", "windows/s", "peak memory", "of it anonymous"], rows, "lrrr"),
        "",
        f"{settings['n']} demonstrations of {settings['steps']} steps, two cameras of {settings['size']}×"
        f"{settings['size']}, windows of {settings['obs']} observations, batches of {settings['batch']}: a file of "
        f"{record['file_gb']} GB, a cache of {record['cache_gb']} GB, built in {build['seconds']} s. "
        f"The cache is {record['cache_over_hdf5']} times as fast as the file.",
    ]
    if "training" in record:
        training = record["training"]
        lines += [
            "",
            f"A training step of `experiment={training['experiment']}` takes {training['windows_per_s']} windows/s on "
            f"this machine's {training['device']} (batch {training['batch']}).",
        ]
    return "\n".join([*lines, "", f"`{record['command']}`, {record['cores']} cores, shared with other work."])


def markdown_loading_run(record: Mapping[str, Any]) -> str:
    """Figures of scripts/bench_loading.py run=STEPS."""
    settings = record["settings"]
    pictures = settings["n"] * settings["steps"] * record["picture_bytes_a_step"] / 1e9
    return (
        f"A whole run of {settings['run']} steps with {record['validations']} validations on {settings['n']} "
        f"demonstrations ({pictures:.2f} GB of pictures), in {record['seconds']:.0f} s: peak {record['peak_mb']} MB, "
        f"{record['anonymous_mb']} MB of it anonymous; allowed are {record['limit_mb']} MB."
    )
