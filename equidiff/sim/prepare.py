"""Observations and absolute actions from the stored states of a file that lacks them, e.g. MimicGen's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.kinematics import matrix_to_rotvec, rotvec_to_matrix
from equidiff.sim.task import Task

__all__ = ["absolute_targets", "prepare_states"]


def prepare_states(
    path: str | os.PathLike[str],
    task: Mapping[str, Any] | Task,
    out: str | os.PathLike[str],
    *,
    progress: bool = True,
) -> Path:
    """Write a copy of the low-dimensional part of `path` with the observations of `task` and `actions_abs`.

    Every stored state is put back into the simulator (nothing is stepped). Episodes that are not solved
    in their last state stay in the file but not in mask/train: published sets flag success at any step.
    The original is only read; `out` appears when it is complete. Raises DataError if `path` has no
    states or was made in another environment, SimulatorError if the simulator is missing.
    """
    source, target = Path(path), Path(out)
    described = task if isinstance(task, Task) else Task.from_config(task)
    temporary = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(source, "r") as given, h5py.File(temporary, "w") as made:
            _prepare(given, made, described, source, progress)
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{source}: cannot be read or {target} cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def absolute_targets(
    actions: np.ndarray, positions: np.ndarray, rotations: np.ndarray, output_max: np.ndarray
) -> np.ndarray:
    """(T, 7) absolute targets of relative OSC_POSE actions (T, 7), as robosuite's controller forms them.

    positions (T, 3), rotations (T, 3, 3) of the gripper when the action starts; output_max (6,): metres
    and radians of a full action. A turn of exactly zero keeps the orientation that was asked for before.
    """
    out, kept = np.empty((len(actions), 7)), rotations[0]
    for t, action in enumerate(actions):
        delta = np.clip(action[:6], -1, 1) * output_max
        if np.abs(delta[3:]).max() > 0:
            kept = rotvec_to_matrix(delta[3:]) @ rotations[t]
        out[t] = np.concatenate([positions[t] + delta[:3], matrix_to_rotvec(kept), action[6:]])
    return out


def _prepare(given: h5py.File, made: h5py.File, task: Task, path: Path, progress: bool) -> None:
    if "data" not in given or "env_args" not in given["data"].attrs:
        raise DataError(f"{path}: is not a robomimic file: no group 'data' with the attribute 'env_args'")
    env_args = json.loads(given["data"].attrs["env_args"])
    if env_args["env_name"] != task.env:
        raise DataError(
            f"{path}: was made in {env_args['env_name']!r}, but task={task.name} is {task.env!r}; "
            "choose the task of the data"
        )
    names = sorted(given["data"], key=lambda name: int(name.rsplit("_", 1)[-1]))
    env = make_env_from_args(env_args, task)
    try:
        data, solved, loaded = made.create_group("data"), [], ""
        for name in tqdm(names, desc=f"observations of {path.name}", unit="demo", disable=not progress):
            demo = given[f"data/{name}"]
            for key in ("states", "actions"):
                if key not in demo:
                    raise DataError(
                        f"{path}: {name} has no {key!r}{did_you_mean(key, list(demo))}; observations are made from it"
                    )
            model_file = str(demo.attrs["model_file"])
            if model_file != loaded:
                env.load_model(model_file)
                loaded = model_file
            if _copy(demo, data.create_group(name), env):
                solved.append(name)
        for key, value in given["data"].attrs.items():
            data.attrs[key] = value
        data.attrs["prepared_from"] = path.name
        kept = set(_names(given, "train", names)) & set(solved)
        _mask(made, "train", [n for n in names if n in kept])
        if "mask/valid" in given:
            _mask(made, "valid", [n for n in _names(given, "valid", names) if n in set(solved)])
    finally:
        env.close()


def _copy(demo: h5py.Group, out: h5py.Group, env: TaskEnv) -> bool:
    """One episode; whether it is solved in its last state."""
    states, actions = np.asarray(demo["states"]), np.asarray(demo["actions"], dtype=np.float64)
    observations, positions, rotations = [], [], []
    for state in states:
        env.set_positions(state)
        observations.append(env.observe())
        position, rotation = env.eef
        positions.append(position)
        rotations.append(rotation)
    limits = np.asarray(env.env.robots[0].controller.output_max)
    targets = (
        absolute_targets(actions, np.stack(positions), np.stack(rotations), limits)
        if env.control == "relative"
        else actions
    )
    out.create_dataset("states", data=states)
    out.create_dataset("actions", data=actions)
    out.create_dataset("actions_abs", data=targets)
    for key in observations[0]:
        out.create_dataset(f"obs/{key}", data=np.stack([step[key] for step in observations]))
    for key, value in demo.attrs.items():
        out.attrs[key] = value
    env.set_state(states[-1])
    out.attrs["success"] = env.success
    return env.success


def _names(file: h5py.File, mask: str, default: list[str]) -> list[str]:
    return [n.decode() for n in file[f"mask/{mask}"]] if f"mask/{mask}" in file else default


def _mask(file: h5py.File, name: str, members: list[str]) -> None:
    file.create_dataset(f"mask/{name}", data=np.array(members, dtype="S"))
