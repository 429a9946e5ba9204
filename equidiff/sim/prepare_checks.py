"""What a file of demonstrations must have so that observations can be made from its states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.sim.env import TaskEnv
from equidiff.sim.task import Task

__all__ = ["check_environment", "checked_arrays", "load_scene"]

_ROBOSUITE = 1  # of robomimic's environment types


def check_environment(source: Path, env_args: Any, task: Task) -> None:
    """Raise DataError unless these `env_args` are of robosuite, OSC_POSE and the task's environment."""
    where = f"{source}: attribute 'env_args' of 'data'"
    if not isinstance(env_args, Mapping):
        raise DataError(f"{where}: expected a mapping with env_name and env_kwargs, got {type(env_args).__name__}")
    if not env_args:
        raise DataError(f"{source}: 'data' has no attribute 'env_args'; it says in which environment the states are")
    if env_args.get("type", _ROBOSUITE) != _ROBOSUITE:
        raise DataError(f"{where}: type is {env_args['type']!r}, expected {_ROBOSUITE}, a robosuite environment")
    if env_args.get("env_name") != task.env:
        raise DataError(
            f"{source}: was made in {env_args.get('env_name')!r}, but task={task.name} is {task.env!r}; "
            "choose the task of the data"
        )
    kwargs = env_args.get("env_kwargs")
    controller = kwargs.get("controller_configs") if isinstance(kwargs, Mapping) else None
    if not isinstance(controller, Mapping) or not {"type", "control_delta"} <= set(controller):
        raise DataError(
            f"{where}: env_kwargs.controller_configs must have type and control_delta, got "
            f"{sorted(controller) if isinstance(controller, Mapping) else controller!r}; they say what the actions mean"
        )
    if controller["type"] != "OSC_POSE":
        raise DataError(
            f"{where}: the controller is {controller['type']!r}, expected 'OSC_POSE'; poses cannot be read from other "
            "actions"
        )


def checked_arrays(demo: h5py.Group, width: int, where: str) -> dict[str, np.ndarray]:
    """states (T, width), actions (T, 7) and, if there, actions_abs (T, 7) of a stored demonstration.

    Raises DataError; `where` names the demonstration.
    """
    arrays: dict[str, np.ndarray] = {}
    for key, columns in {"states": width, "actions": 7, "actions_abs": 7}.items():
        stored = demo.get(key)
        if stored is None and key == "actions_abs":
            continue
        if not isinstance(stored, h5py.Dataset):
            raise DataError(f"{where} has no {key!r}{did_you_mean(key, list(demo))}; observations are made from it")
        if stored.dtype.kind not in "fiu" or stored.ndim != 2 or stored.shape[1] != columns:
            raise DataError(
                f"{where}: {key} are {stored.dtype} {stored.shape}, expected numbers (steps, {columns})"
                + ("; they are of another robot or another version of the environment" if key == "states" else "")
            )
        arrays[key] = np.asarray(stored, dtype=np.float64)
        if not np.isfinite(arrays[key]).all():
            step, column = (int(i) for i in np.argwhere(~np.isfinite(arrays[key]))[0])
            raise DataError(
                f"{where}: {key} is {arrays[key][step, column]} at step {step}, column {column}; drop or repair it"
            )
    lengths = {key: len(values) for key, values in arrays.items()}
    if len(set(lengths.values())) != 1 or not lengths["states"]:
        raise DataError(
            f"{where}: has {' and '.join(f'{n} {key}' for key, n in lengths.items())}, expected as many of each and at "
            "least one; drop or repair it"
        )
    return arrays


def load_scene(env: TaskEnv, model_file: str, where: str) -> None:
    """Put the scene (XML) of a demonstration into the environment. Raises DataError if it cannot be read."""
    try:
        env.load_model(model_file)
    except (ElementTree.ParseError, ValueError, AttributeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{where}: its scene (model_file) cannot be loaded: {reason}. It is damaged, or of another version of "
            f"{env.task.package}"
        ) from error
