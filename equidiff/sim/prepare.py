"""Observations and absolute actions from the stored states of a file that lacks them, e.g. MimicGen's.

Every stored state is put back into the simulator and looked at; nothing is stepped. The same code makes the
observations of a live environment (TaskEnv.observe), so both are equal.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.data.alone import alone_in_parts
from equidiff.data.episode import DataError
from equidiff.data.robomimic import DemoFile
from equidiff.data.whole_file import need_room, put_whole
from equidiff.perception import PerceptionSettings
from equidiff.results import write_json
from equidiff.sim.pool import in_order
from equidiff.sim.prepare_checks import check_environment
from equidiff.sim.prepare_demo import Job, Maker
from equidiff.sim.render import RendererSettings
from equidiff.sim.sight import Sight
from equidiff.sim.task import Task

__all__ = ["prepare", "prepare_states"]

_OURS = ("perception", "prepared_from")  # attributes of a file that was prepared before, of other observations


def prepare_states(
    path: str | os.PathLike[str], task: Mapping[str, Any] | Task, out: str | os.PathLike[str], *, progress: bool = True
) -> Path:
    """`prepare` for object and gripper poses only, in this process; if another one makes `out`, waits for that one."""
    return prepare(path, task, out, workers=1, progress=progress, wait=True)


def prepare(
    path: str | os.PathLike[str],
    task: Mapping[str, Any] | Task,
    out: str | os.PathLike[str],
    *,
    perception: PerceptionSettings | None = None,
    renderer: RendererSettings | None = None,
    workers: int = 2,
    progress: bool = True,
    wait: bool = False,
) -> Path:
    """Write a copy of `path` with the observations of `task`, what `perception` asks for, and `actions_abs`.

    Demonstrations that are not solved in their last state stay in the file but not in mask/train: published sets flag
    success at any step. The original is only read. Finished demonstrations are kept in `.NAME.parts` beside `out`,
    so that a call after a kill goes on; `out` appears when it is complete, and does not depend on `workers`. Only one
    process makes it: another is refused, or with `wait` waits and takes what was made meanwhile. The attribute
    `perception` of 'data' holds the settings, the renderer's, the cameras' intrinsics and the versions.
    Raises DataError if `path` has no states, was made in another environment, or cannot be read or written;
    SimulatorError if the simulator is missing; PerceptionError for cameras that do not exist.
    """
    source, target = Path(path), Path(out)
    if source.resolve() == target.resolve():
        raise DataError(f"{source}: would be overwritten; choose another out=")
    if workers < 1:
        raise DataError(f"workers: expected at least 1, got {workers}")
    described = task if isinstance(task, Task) else Task.from_config(task)
    with DemoFile(source) as file:
        env_args, names, masks, attributes = file.env_args, file.names, file.masks, file.attributes
    check_environment(source, env_args, described)
    job = Job(source, env_args, described, perception, renderer or RendererSettings())
    how = None if perception is None else _perception(job)  # also finds a camera that does not exist, before any work
    parts = target.parent / f".{target.name}.parts"
    waiting = f"{target}: another process is making it; waiting for that one" if wait else None
    try:
        with alone_in_parts(target, waiting):
            if wait and target.exists():
                return target
            _open_parts(parts, job)
            todo = [name for name in names if not (parts / f"{name}.hdf5").exists()]
            died = DataError(f"{source}: a worker died; run with workers=1 to see why")
            with (
                in_order(
                    partial(Maker, job),
                    [(name, parts) for name in todo],
                    min(workers, max(len(todo), 1)),
                    lambda task: died,
                ) as made,
                tqdm(
                    total=len(names),
                    initial=len(names) - len(todo),
                    desc=f"observations of {source.name}",
                    unit="demo",
                    disable=not progress,
                ) as bar,
            ):
                for _ in made:
                    bar.update()
            _join(target, parts, source, names, masks, attributes, how)
            for part in parts.glob("*.hdf5"):
                part.unlink()
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read, or {target} cannot be written ({error}). Finished demonstrations are "
            f"in {parts}; the same call goes on"
        ) from error
    return target


def _open_parts(parts: Path, job: Job) -> None:
    """Start the folder of finished demonstrations, or go on with one of the same settings."""
    about = json.loads(json.dumps(job.about()))
    note = parts / "settings.json"
    if note.exists():
        found = json.loads(note.read_text())
        differing = [key for key in about if found.get(key) != about[key]]
        if differing == ["changed"]:  # perhaps a copy, perhaps edited where its fingerprint does not look
            print(f"{parts}: {job.source} was changed or copied since the interrupted preparation; it begins anew")
            for left in parts.glob("*.hdf5"):
                left.unlink()
        elif differing:
            raise DataError(
                f"{parts}: an interrupted preparation with another {' and '.join(differing)} is there; remove the "
                "folder, or choose another out="
            )
    write_json(note, about)
    for left in parts.glob(".*.part"):  # under way when a process died
        left.unlink()


def _join(
    target: Path,
    parts: Path,
    source: Path,
    names: tuple[str, ...],
    masks: Mapping[str, tuple[str, ...]],
    attributes: Mapping[str, Any],
    perception: Mapping[str, Any] | None,
) -> None:
    need_room(target.parent, sum((parts / f"{name}.hdf5").stat().st_size for name in names))
    with put_whole(target) as temporary, h5py.File(temporary, "w") as made:
        data = made.create_group("data")
        for name in names:
            with h5py.File(parts / f"{name}.hdf5", "r") as part:
                part.copy("demo", data, name=name)
        for key, value in attributes.items():
            if key not in _OURS:
                data.attrs[key] = value
        data.attrs["prepared_from"] = source.name
        if perception is not None:
            data.attrs["perception"] = json.dumps(perception)
        solved = {name for name in names if bool(data[name].attrs["success"])}
        for mask in {"train", *masks}:
            members = [n for n in masks.get(mask, names) if n in solved or mask not in ("train", "valid")]
            made.create_dataset(f"mask/{mask}", data=np.array(members, dtype="S"))
        made.flush()  # an error on closing would be lost


def _perception(job: Job) -> dict[str, Any]:
    """What a checkpoint must know of how the observations were made."""
    assert job.perception is not None
    env = dataclasses.replace(job, perception=None).make_env()
    sight = Sight(job.perception, job.renderer)
    try:
        env.observe()
        return {
            "settings": job.perception.to_json(),
            "renderer": job.renderer.to_json(),
            "intrinsics": sight.intrinsics(env.model, env.data),
            "gl": os.environ.get("MUJOCO_GL", ""),
            "versions": {name: metadata.version(name) for name in ("mujoco", "robosuite", "equidiff")},
        }
    finally:
        sight.close()
        env.close()
