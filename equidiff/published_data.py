"""Which published file belongs to a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from equidiff.config import ConfigError, did_you_mean

__all__ = ["COLLECTIONS", "REPO", "published_path"]

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
