"""From the command line of scripts/prepare_data.py to a task and settings of what is observed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from equidiff.config import ConfigError, did_you_mean
from equidiff.data.robomimic import DemoFile
from equidiff.perception import PerceptionSettings
from equidiff.sim.task import Task

__all__ = ["KINDS", "find_task", "like_observation", "perception_of"]

KINDS = ("image", "depth", "voxel", "point_cloud")


def find_task(path: str | Path, configs: Path) -> dict[str, Any]:
    """The task that a file was made for: the one it names, or the only one of configs/task with its environment.

    Raises ConfigError if there is none, or several.
    """
    with DemoFile(path) as file:
        env, stored = file.env_args.get("env_name"), file.attributes.get("task")
    if isinstance(stored, str):
        task: dict[str, Any] = json.loads(stored)
        return task
    tasks: dict[str, Any] = {}
    for file_of_task in sorted((configs / "task").glob("*.yaml")):
        tasks[file_of_task.stem] = OmegaConf.to_container(OmegaConf.load(file_of_task))
    fitting = {name: tree for name, tree in tasks.items() if tree.get("env") == env}
    if len(fitting) == 1:
        found_task: dict[str, Any] = next(iter(fitting.values()))
        return found_task
    known = sorted({str(tree["env"]) for tree in tasks.values()})
    found = (
        f"several tasks have it: {', '.join(fitting)}" if fitting else f"no task has it{did_you_mean(str(env), known)}"
    )
    raise ConfigError(f"{path}: was made in the environment {env!r} and {found}; name the task: task=...")


def perception_of(config: Mapping[str, Any], task: Task) -> PerceptionSettings | None:
    """Settings of the keys obs.make, size, cameras, own_cameras, voxel and point_cloud; None for poses only."""
    kinds = list(config["obs"]["make"])
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"obs: expected some of {', '.join(KINDS)}, got {kind!r}{did_you_mean(str(kind), KINDS)}")
    if not kinds:
        return None
    own = {name: dict(camera) for name, camera in (config["own_cameras"] or {}).items()}
    seen = list(config["cameras"] or (*task.cameras.image, *own))
    cameras = {name: None for name in seen if {"image", "depth"} & set(kinds)}
    node: dict[str, Any] = {key: seen for key in ("image", "depth") if key in kinds}
    for kind, key in (("voxel", "voxels"), ("point_cloud", "point_cloud")):
        if kind in kinds:
            part = dict(config[kind])
            part["cameras"] = list(part["cameras"] or task.cameras.volume)
            cameras |= dict.fromkeys(part["cameras"])
            node[key] = part
    size = {"width": config["size"], "height": config["size"]}
    node["cameras"] = {name: {**size, **own.get(name, {})} for name in cameras}
    settings: PerceptionSettings = PerceptionSettings.from_config(node, task.bounds, task.centre)
    return settings


def like_observation(name: str, task: Mapping[str, Any], configs: Path) -> PerceptionSettings | None:
    """What configs/obs/NAME.yaml asks for; None if it asks for poses only."""
    path = configs / "obs" / f"{name}.yaml"
    if not path.exists():
        have = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"like={name}: no such observation{did_you_mean(name, have)} There are: {', '.join(have)}")
    tree = OmegaConf.create({"obs": OmegaConf.load(path), "task": dict(task)})
    node = OmegaConf.to_container(tree.obs, resolve=True).get("perception")  # type: ignore[union-attr]
    if node is None:
        return None
    described = Task.from_config(task)
    settings: PerceptionSettings = PerceptionSettings.from_config(node, described.bounds, described.centre)
    return settings
