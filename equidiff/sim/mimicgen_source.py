"""Source demonstrations as MimicGen wants them: with the poses and sub-task signals of every step ("datagen_info")."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.data.alone import alone_in_parts
from equidiff.data.episode import DataError
from equidiff.data.robomimic import DemoFile, content_mark
from equidiff.data.whole_file import edited_copy
from equidiff.sim import memory
from equidiff.sim.backend import quiet
from equidiff.sim.demos import expert_writer, generate
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.mimicgen_task import MimicGenTask
from equidiff.sim.prepare_checks import check_environment
from equidiff.sim.task import Task

__all__ = ["Source", "expert_source", "has_datagen_info", "open_source", "write_datagen_info"]

_MADE_OF = "datagen_made_of"  # attribute of a copy: the mark of the file that it was made of
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

    A file without datagen_info is not changed: a copy with it is written beside it as NAME_datagen.hdf5, once for each
    content of the file. Raises DataError if the file is damaged, of another task or has no usable demonstration.
    """
    given, about = Path(path), MimicGenTask.of(task)
    if not has_datagen_info(given, task):
        given = _annotated(given, task, progress)
    demos, refused = _usable(given, about, n)
    if not demos:
        name, reason = next(iter(refused.items()))
        raise DataError(f"{given}: MimicGen can use none of its demonstrations; {name}: {reason}")
    return Source(given, demos, refused, _sha256(given))


def expert_source(task: Task, n: int, folder: Path, *, seed: int = 0, workers: int = 1, progress: bool = True) -> Path:
    """A file of `n` solved demonstrations of a D0 task by its scripted expert, with datagen_info; made once.

    seed: the first one; each has a file of its own. Raises ConfigError for a task without an expert, DataError if the
    file was made with other settings of the task.
    """
    path = folder / f"{task.name}_source_{n}{f'_seed_{seed}' if seed else ''}.hdf5"
    if path.exists() and has_datagen_info(path, task):
        expert_writer(task, path, seed).close()  # raises for other settings
        return path
    generate(task, n, path, seed=seed, workers=workers, progress=progress)
    with alone_in_parts(path, f"{path}: another process is at work there; waiting for it"):
        if not has_datagen_info(path, task):
            write_datagen_info(path, task, path, progress=progress)
    return path


def has_datagen_info(path: Path, task: Task) -> bool:
    """Whether every demonstration has all of it. Raises DataError for a file that is damaged or of another task."""
    with _opened(path) as (file, names):
        _check_family(path, task)
        return all(f"data/{name}/datagen_info/{key}" in file for name in names for key in _DATAGEN_INFO)


def write_datagen_info(path: Path, task: Task, out: Path, progress: bool = True) -> Path:
    """Write a copy of `path` whose demonstrations have datagen_info, from their states put back into the simulator.

    task: one of the file's family; the environment is the file's own. `out` appears when it is complete and may be
    `path`. Raises DataError.
    """
    about = MimicGenTask.of(task)
    env_args = _check_family(path, task)
    described = dataclasses.replace(task, env=env_args["env_name"])
    check_environment(path, env_args, described)
    if not env_args["env_kwargs"]["controller_configs"]["control_delta"]:
        raise DataError(f"{path}: has absolute actions; MimicGen needs a source with relative ones (control_delta)")
    env = make_env_from_args(env_args, described)
    made: dict[str, np.ndarray | None] = {}
    try:
        with _opened(path) as (file, names):
            for name in tqdm(names, desc=f"sub-tasks of {path.name}", unit="demo", disable=not progress):
                group = f"data/{name}/datagen_info"
                info = _datagen_info(file[f"data/{name}"], env, about, f"{path}: {name}")
                made |= {group: None, **{f"{group}/{key}": values for key, values in info.items()}}
        with edited_copy(path, out, made) as file:
            for name in names:
                attributes = file[f"data/{name}/datagen_info"].attrs
                attributes["env_interface_name"], attributes["env_interface_type"] = about.interface, "robosuite"
            if out != path:
                file["data"].attrs[_MADE_OF] = content_mark(path)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); copy {path} to a place with room to write") from error
    finally:
        env.close()
    return out


def _annotated(path: Path, task: Task, progress: bool) -> Path:
    """The copy with datagen_info beside a file, made if there is none of the file as it is now."""
    made = path.with_name(f"{path.stem}_datagen.hdf5")
    with alone_in_parts(made, f"{made}: another process is making it; waiting for that one"):
        mark = content_mark(path)
        if made.exists():
            with _opened(made) as (file, _):
                found = file["data"].attrs.get(_MADE_OF)
            if found is None:
                raise DataError(
                    f"{made}: was not made of {path.name} by this program, which would put a copy of {path.name} with "
                    "sub-tasks there; remove it, or give it as the source"
                )
            if found == mark and has_datagen_info(made, task):
                return made
            if found != mark:
                print(f"{made}: {path.name} has changed since it was made; it is made again", flush=True)
        return write_datagen_info(path, task, made, progress=progress)


def _datagen_info(demo: h5py.Group, env: TaskEnv, about: MimicGenTask, where: str) -> dict[str, np.ndarray]:
    """{key: (steps, ...), also "object_poses/cubeA"} of a demonstration."""
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
    info: dict[str, np.ndarray] = {}
    for key in _DATAGEN_INFO:
        values = [step[key] for step in steps]
        if isinstance(values[0], dict):
            info |= {f"{key}/{name}": np.array([value[name] for value in values]) for name in values[0]}
        else:
            info[key] = np.array(values)
    return info


def _usable(path: Path, about: MimicGenTask, n: int | None) -> tuple[tuple[str, ...], dict[str, str]]:
    spec = about.task_spec()
    from mimicgen.utils.file_utils import parse_source_dataset

    with _opened(path) as (_, names):
        pass
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
def _opened(path: Path) -> Iterator[tuple[h5py.File, tuple[str, ...]]]:
    """The file, read-only, and the names of its demonstrations."""
    if not path.exists():
        raise DataError(f"{path}: no such file; source=null makes demonstrations with the scripted expert")
    with DemoFile(path) as demos, h5py.File(path, "r") as file:
        yield file, demos.names


def _check_family(path: Path, task: Task) -> Any:
    """The file's env_args, which are of an environment of the task's family."""
    with DemoFile(path) as demos:
        env_args = demos.env_args
    name = env_args.get("env_name") if isinstance(env_args, Mapping) else None
    if not isinstance(name, str):
        raise DataError(
            f"{path}: attribute 'env_args' of 'data' names no environment (env_name), so it is not a robomimic file; "
            f"got {str(env_args)[:60]}"
        )
    if name.partition("_")[0] != task.env.partition("_")[0]:
        raise DataError(
            f"{path}: was made in {name!r}, which cannot be a source for task={task.name} ({task.env}); give "
            f"demonstrations of {task.env.partition('_')[0]}_D0 or another of its variants"
        )
    return env_args


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
