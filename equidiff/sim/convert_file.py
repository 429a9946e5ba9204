"""A copy of a file of demonstrations with the actions of the other kind of control."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.needed import ACTIONS
from equidiff.data.robomimic import DemoFile
from equidiff.data.whole_file import edited_copy
from equidiff.sim.convert import actions_of, full_action
from equidiff.sim.env import make_env_from_args
from equidiff.sim.prepare_checks import check_environment, load_scene
from equidiff.sim.task import Task

__all__ = ["Converted", "convert_actions"]


@dataclass(frozen=True)
class Converted:
    """What a conversion did. clipped: steps whose target is further than one relative action reaches."""

    path: Path
    demonstrations: int
    steps: int
    clipped: int

    @property
    def clipped_share(self) -> float:
        """Share of the steps that were cut."""
        return self.clipped / self.steps


def convert_actions(
    path: str | os.PathLike[str],
    task: Mapping[str, Any] | Task,
    out: str | os.PathLike[str],
    control: str,
    *,
    progress: bool = True,
) -> Converted:
    """Write a copy of `path` whose actions of this control are made of the stored ones of the other control.

    absolute: writes `actions_abs` from the relative `actions`. relative: writes `actions` from `actions_abs`; in a file
    of an absolute environment (env_args) from its `actions`, which become `actions_abs`, and the copy's env_args say
    relative. Everything else is copied as it is. The original is only read; the copy gets its name when it is complete.
    Raises DataError for a file without states or with nothing to convert from.
    """
    source, target = Path(path), Path(out)
    if control not in ACTIONS:
        raise DataError(f"control: expected {' or '.join(ACTIONS)}, got {control!r}{did_you_mean(control, ACTIONS)}")
    if source.resolve() == target.resolve():
        raise DataError(f"{source}: would be overwritten; choose another out=")
    described = task if isinstance(task, Task) else Task.from_config(task)
    with DemoFile(source) as file:
        names, env_args = file.names, file.env_args
    check_environment(source, env_args, described)
    full_action(env_args)
    env = make_env_from_args(env_args, described)
    try:
        if control == "absolute" and env.control == "absolute":
            raise DataError(f"{source}: its 'actions' are absolute already (env_args), nothing to convert")
        made: dict[str, np.ndarray] = {}
        steps = clipped = 0
        loaded = ""
        with h5py.File(source, "r") as given:
            for name in tqdm(names, desc=f"{control} actions of {source.name}", unit="demo", disable=not progress):
                demo, where = given[f"data/{name}"], f"{source}: {name}"
                model_file = str(demo.attrs.get("model_file", ""))
                if model_file and model_file != loaded:
                    load_scene(env, model_file, where)
                    loaded = model_file
                if control == "relative" and env.control == "relative" and "actions_abs" not in demo:
                    raise DataError(f"{where}: has no 'actions_abs' to make relative actions of")
                actions, cut = actions_of(demo, control, env, where, derive=True)
                if control == "relative" and env.control == "absolute":
                    made[f"data/{name}/actions_abs"] = np.asarray(demo["actions"])
                made[f"data/{name}/{ACTIONS[control]}"] = actions
                steps, clipped = steps + len(actions), clipped + int(cut.sum())
        about = {"converted": json.dumps({"control": control, "from": source.name, "clipped_steps": clipped})}
        if env.control == "absolute":
            relative = json.loads(json.dumps(env_args))
            relative["env_kwargs"]["controller_configs"]["control_delta"] = True
            about["env_args"] = json.dumps(relative)
        with edited_copy(source, target, made) as file:
            file["data"].attrs.update(about)
    except OSError as error:
        raise DataError(f"{source}: cannot be read, or {target} cannot be written ({error})") from error
    finally:
        env.close()
    return Converted(target, len(names), steps, clipped)
