"""Which published file belongs to a task, and what is in a file that was fetched."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import h5py

from equidiff.config import ConfigError, did_you_mean
from equidiff.data.robomimic import DemoFile

__all__ = ["COLLECTIONS", "REPO", "published_path", "summary"]

REPO = "amandlek/mimicgen_datasets"
"""MimicGen's data on the Hugging Face hub (CC BY-NC-SA 4.0), `<collection>/<task>.hdf5`."""

COLLECTIONS = ("core", "object", "source")
"""core: 1000 generated demonstrations of a task; object: of its variants with other objects (o1, o2); source: the
human demonstrations that all were generated from, one file for all variants of a task."""


def published_path(task: Mapping[str, Any], collection: str | None = None) -> str:
    """Path in REPO of a task's file. task: a node of configs/task. Raises ConfigError if the task has none.

    collection: one of COLLECTIONS; None is "object" for o1 and o2, else "core".
    """
    name = str(task["name"])
    family = re.sub(r"_[do]\d$", "", name)
    if task.get("package", "robosuite") == "robosuite" or family == name:
        raise ConfigError(
            f"task={name}: no data set is published for it; the published ones are of MimicGen's tasks, e.g. "
            f"task=stack_d1. scripts/generate_demos.py makes demonstrations of the built-in tasks"
        )
    if collection is None:
        collection = "object" if re.search(r"_o\d$", name) else "core"
    if collection not in COLLECTIONS:
        raise ConfigError(
            f"collection: expected one of {', '.join(COLLECTIONS)}, got {collection!r}"
            f"{did_you_mean(collection, COLLECTIONS)}"
        )
    return f"{collection}/{family if collection == 'source' else name}.hdf5"


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
