"""What is in a file of demonstrations, in a few lines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import h5py

from equidiff.data.robomimic import DemoFile

__all__ = ["summary"]


def summary(path: str | os.PathLike[str], task: Mapping[str, Any] | None = None) -> str:
    """What a file of demonstrations holds, in a few lines. Raises DataError for another kind of file."""
    with DemoFile(path) as file, h5py.File(path, "r") as raw:
        names, env_args, masks = file.names, file.env_args, file.masks
        demos = [raw["data"][name] for name in names]
        lengths = sorted(_length(demo) for demo in demos)
        keys = Counter(key for name in names for key in file.keys(name))
        shapes = {key: tuple(demos[0]["obs"][key].shape[1:]) for key in file.keys(names[0])}
        arrays = [name for name in ("actions", "actions_abs", "states") if name in demos[0]]
    env = str(env_args.get("env_name", "unknown"))
    lines = [
        f"{len(names)} demonstrations, {sum(lengths)} steps ({lengths[0]} to {lengths[-1]}, median "
        f"{lengths[len(lengths) // 2]}), environment {env}"
    ]
    if task is not None and env not in ("unknown", task["env"]):
        lines.append(f"note: the environment is not that of task={task['name']}, {task['env']}")
    shown = [f"{key} {shapes[key]}" for key in sorted(shapes)]
    lines.append(f"observations: {', '.join(shown) or 'none'}")
    lines.append(f"arrays: {', '.join(arrays) or 'neither actions nor states'}")
    if masks:
        lines.append("masks: " + ", ".join(f"{mask} ({len(members)})" for mask, members in sorted(masks.items())))
    partly = sorted(key for key, count in keys.items() if count < len(names))
    if partly:
        lines.append(f"note: only some demonstrations have {', '.join(partly)}")
    return "\n".join(lines)


def _length(demo: h5py.Group) -> int:
    if "num_samples" in demo.attrs:
        return int(demo.attrs["num_samples"])
    arrays = [value for value in demo.values() if isinstance(value, h5py.Dataset) and value.ndim]
    return len(arrays[0]) if arrays else 0
