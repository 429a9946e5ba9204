"""Source demonstrations as MimicGen wants them: with the poses and sub-task signals of every step ("datagen_info")."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.data.episode import DataError
from equidiff.sim import memory
from equidiff.sim.backend import quiet
from equidiff.sim.demos import generate
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.mimicgen_task import MimicGenTask
from equidiff.sim.task import Task

__all__ = ["Source", "expert_source", "has_datagen_info", "open_source", "write_datagen_info"]

_DATAGEN_INFO = ("eef_pose", "object_poses", "subtask_term_signals", "target_pose", "gripper_action")


@dataclass(frozen=True)
class Source:
    """A file of demonstrations to generate from and those of them that are used.

    refused: {demonstration: reason} for those that MimicGen cannot cut into sub-tasks.
    """

    path: Path
    demos: tuple[str, ...]
    refused: dict[str, str]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For the attributes of a generated file."""
        return {"file": self.path.name, "sha256": self.sha256, "demos": list(self.demos)}


def open_source(path: str | os.PathLike[str], task: Task, n: int | None = None, progress: bool = True) -> Source:
    """The first `n` (None: all) demonstrations of a robomimic file that MimicGen can use for `task`.

    A file without datagen_info is not changed: a copy with it is written beside it, once, as NAME_datagen.hdf5.
    Raises DataError if the file is damaged, of another task or has no usable demonstration.
    """
    given, about = Path(path), MimicGenTask.of(task)
    if not has_datagen_info(given, task):
        made = given.with_name(f"{given.stem}_datagen.hdf5")
        if not (made.exists() and has_datagen_info(made, task)):
            write_datagen_info(given, task, made, progress=progress)
        given = made
    demos, refused = _usable(given, about, n)
    if not demos:
        name, reason = next(iter(refused.items()))
        raise DataError(f"{given}: MimicGen can use none of its demonstrations; {name}: {reason}")
    return Source(given, demos, refused, _sha256(given))


def expert_source(task: Task, n: int, folder: Path, *, seed: int = 0, workers: int = 1, progress: bool = True) -> Path:
    """A file of `n` solved demonstrations of a D0 task by its scripted expert, with datagen_info; made once.

    Raises ConfigError for a task without an expert.
    """
    path = folder / f"{task.name}_source_{n}.hdf5"
    if path.exists() and has_datagen_info(path, task):
        return path
    generate(task, n, path, seed=seed, workers=workers, progress=progress)
    write_datagen_info(path, task, path, progress=progress)
    return path


def has_datagen_info(path: Path, task: Task) -> bool:
    """Whether every demonstration has all of it. Raises DataError for a file that is damaged or of another task."""
    with _opened(path) as file:
        _check_family(path, file, task)
        return all(f"data/{name}/datagen_info/{key}" in file for name in _names(path, file) for key in _DATAGEN_INFO)


def write_datagen_info(path: Path, task: Task, out: Path, progress: bool = True) -> Path:
    """Write a copy of `path` whose demonstrations have datagen_info, from their states put back into the simulator.

    task: one of the file's family; the environment is the file's own. `out` appears when it is complete and may be
    `path`. Raises DataError.
    """
    about = MimicGenTask.of(task)
    with _opened(path) as file:
        _check_family(path, file, task)
        env_args = json.loads(file["data"].attrs["env_args"])
    controller = env_args["env_kwargs"].get("controller_configs", {})
    if not controller.get("control_delta", True):
        raise DataError(f"{path}: has absolute actions; MimicGen needs a source with relative ones (control_delta)")
    temporary = out.with_name(f".{out.name}.part")
    env = make_env_from_args(env_args, dataclasses.replace(task, env=env_args["env_name"]))
    try:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            names = _names(path, file)
            for name in tqdm(names, desc=f"sub-tasks of {path.name}", unit="demo", disable=not progress):
                _annotate(file[f"data/{name}"], env, about, f"{path}: {name}")
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); copy {path} to a place with room to write") from error
    finally:
        temporary.unlink(missing_ok=True)
        env.close()
    return out


def _annotate(demo: h5py.Group, env: TaskEnv, about: MimicGenTask, where: str) -> None:
    for key in ("states", "actions"):
        if key not in demo:
            raise DataError(f"{where} has no {key!r}; MimicGen's poses and signals are derived from it")
    if demo.attrs.get("model_file"):
        env.load_model(str(demo.attrs["model_file"]))
    interface = about.make_interface(env.env)
    steps: list[dict[str, Any]] = []
    memory.forget(env.env)
    for state, action in zip(demo["states"], np.asarray(demo["actions"], dtype=np.float64), strict=True):
        env.set_state(state)
        memory.look(env.env)
        steps.append(interface.get_datagen_info(action=action).to_dict())
    if "datagen_info" in demo:
        del demo["datagen_info"]
    info = demo.create_group("datagen_info")
    for key in _DATAGEN_INFO:
        values = [step[key] for step in steps]
        if isinstance(values[0], dict):
            for name in values[0]:
                info.create_dataset(f"{key}/{name}", data=np.array([value[name] for value in values]))
        else:
            info.create_dataset(key, data=np.array(values))
    info.attrs["env_interface_name"], info.attrs["env_interface_type"] = about.interface, "robosuite"


def _usable(path: Path, about: MimicGenTask, n: int | None) -> tuple[tuple[str, ...], dict[str, str]]:
    spec = about.task_spec()
    from mimicgen.utils.file_utils import parse_source_dataset

    with _opened(path) as file:
        names = _names(path, file)
    demos: list[str] = []
    refused: dict[str, str] = {}
    for name in names:
        if n is not None and len(demos) >= n:
            break
        try:
            with quiet(), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                parse_source_dataset(str(path), [name], task_spec=spec)
            demos.append(name)
        except (AssertionError, KeyError) as error:  # how mimicgen says that it cannot cut a demonstration
            refused[name] = str(error)
    return tuple(demos), refused


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    if not path.exists():
        raise DataError(f"{path}: no such file; source=null makes demonstrations with the scripted expert")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: is not an HDF5 file or is damaged ({error})") from error
    with file:
        if "data" not in file or "env_args" not in file["data"].attrs:
            raise DataError(f"{path}: is not a robomimic file: no group 'data' with the attribute 'env_args'")
        yield file


def _check_family(path: Path, file: h5py.File, task: Task) -> None:
    name = str(json.loads(file["data"].attrs["env_args"])["env_name"])
    if name.partition("_")[0] != task.env.partition("_")[0]:
        raise DataError(
            f"{path}: was made in {name!r}, which cannot be a source for task={task.name} ({task.env}); give "
            f"demonstrations of {task.env.partition('_')[0]}_D0 or another of its variants"
        )


def _names(path: Path, file: h5py.File) -> list[str]:
    names = sorted(file["data"], key=lambda name: int(name.rpartition("_")[2]))
    if not names:
        raise DataError(f"{path}: has no demonstrations")
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
