"""Observations and absolute actions from the stored states of a file that lacks them, e.g. MimicGen's.

Every stored state is put back into the simulator and looked at; nothing is stepped. The same code makes the
observations of a live environment (TaskEnv.observe), so both are equal.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.robomimic import DemoFile, fingerprint
from equidiff.data.whole_file import need_room, put_whole, whole_file
from equidiff.perception import PerceptionSettings
from equidiff.results import write_json
from equidiff.sim.convert import absolute_targets
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.render import RendererSettings
from equidiff.sim.sight import Sight
from equidiff.sim.task import Task
from equidiff.sim.workers import end_with_parent, one_thread

__all__ = ["prepare", "prepare_states"]

_CHUNK = 2**20  # bytes of one compressed piece


def prepare_states(
    path: str | os.PathLike[str], task: Mapping[str, Any] | Task, out: str | os.PathLike[str], *, progress: bool = True
) -> Path:
    """`prepare` for object and gripper poses only, in this process."""
    return prepare(path, task, out, workers=1, progress=progress)


def prepare(
    path: str | os.PathLike[str],
    task: Mapping[str, Any] | Task,
    out: str | os.PathLike[str],
    *,
    perception: PerceptionSettings | None = None,
    renderer: RendererSettings | None = None,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write a copy of `path` with the observations of `task`, what `perception` asks for, and `actions_abs`.

    Demonstrations that are not solved in their last state stay in the file but not in mask/train: published sets flag
    success at any step. The original is only read. Finished demonstrations are kept in `.NAME.parts` beside `out`,
    so that a call after a kill goes on; `out` appears when it is complete, and does not depend on `workers`. The
    attribute `perception` of 'data' holds the settings, the renderer's, the cameras' intrinsics and the versions.
    Raises DataError if `path` has no states, was made in another environment, or cannot be read or written;
    SimulatorError if the simulator is missing; PerceptionError for cameras that do not exist.
    """
    source, target = Path(path), Path(out)
    if source.resolve() == target.resolve():
        raise DataError(f"{source}: would be overwritten; choose another out=")
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    described = task if isinstance(task, Task) else Task.from_config(task)
    with DemoFile(source) as file:
        env_args, names, masks, attributes = file.env_args, file.names, file.masks, file.attributes
    if not env_args:
        raise DataError(f"{source}: 'data' has no attribute 'env_args'; it says in which environment the states are")
    if env_args.get("env_name") != described.env:
        raise DataError(
            f"{source}: was made in {env_args.get('env_name')!r}, but task={described.name} is {described.env!r}; "
            "choose the task of the data"
        )
    job = _Job(source, env_args, described, perception, renderer or RendererSettings())
    how = None if perception is None else _perception(job)  # also finds a camera that does not exist, before any work
    parts = target.parent / f".{target.name}.parts"
    try:
        with _alone(parts):
            _open_parts(parts, job)
            todo = [name for name in names if not (parts / f"{name}.hdf5").exists()]
            with (
                _worker(job, min(workers, max(len(todo), 1))) as run,
                tqdm(
                    total=len(names),
                    initial=len(names) - len(todo),
                    desc=f"observations of {source.name}",
                    unit="demo",
                    disable=not progress,
                ) as bar,
            ):
                for _ in run(todo, parts):
                    bar.update()
            _join(target, parts, source, names, masks, attributes, how)
            shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read, or {target} cannot be written ({error}). Finished demonstrations are "
            f"in {parts}; the same call goes on"
        ) from error
    return target


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know."""

    source: Path
    env_args: Mapping[str, Any]
    task: Task
    perception: PerceptionSettings | None
    renderer: RendererSettings

    def make_env(self) -> TaskEnv:
        return make_env_from_args(self.env_args, self.task, perception=self.perception, renderer=self.renderer)

    def about(self) -> dict[str, Any]:
        """What decides the result, as JSON."""
        return {
            "source": fingerprint(self.source),
            "objects": {name: dataclasses.asdict(thing) for name, thing in self.task.objects.items()},
            "perception": None if self.perception is None else self.perception.to_json(),
            "renderer": None if self.perception is None else self.renderer.to_json(),
        }


@contextmanager
def _alone(parts: Path) -> Iterator[None]:
    """Only one process makes these parts; the system frees the lock of one that was killed."""
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{parts}: another process is at work there; wait for it, or choose another out=") from error
    try:
        yield
    finally:
        lock.release()


def _open_parts(parts: Path, job: _Job) -> None:
    """Start the folder of finished demonstrations, or go on with one of the same settings."""
    about = json.loads(json.dumps(job.about()))
    note = parts / "settings.json"
    if note.exists():
        found = json.loads(note.read_text())
        differing = [key for key in about if found.get(key) != about[key]]
        if differing:
            raise DataError(
                f"{parts}: an interrupted preparation with another {' and '.join(differing)} is there; remove the "
                "folder, or choose another out="
            )
    else:
        write_json(note, about)
    for left in parts.glob(".*.part"):  # under way when a process died
        left.unlink()


@contextmanager
def _worker(job: _Job, workers: int) -> Iterator[Any]:
    """A function (names, folder) -> iterator that puts one finished demonstration after the other into the folder."""
    if workers == 1:
        maker = _Maker(job)
        try:
            yield lambda names, parts: (maker.make(name, parts) for name in names)
        finally:
            maker.close()
        return
    with one_thread():
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (job,))

        def run(names: list[str], parts: Path) -> Iterator[str]:
            try:
                yield from pool.map(_make, names, [parts] * len(names))
            except BrokenProcessPool as error:
                raise DataError(f"{job.source}: a worker died; run with workers=1 to see why") from error

        try:
            yield run
        finally:
            pool.shutdown(cancel_futures=True)


_maker: _Maker | None = None


def _start(job: _Job) -> None:
    global _maker
    end_with_parent()
    _maker = _Maker(job)


def _make(name: str, parts: Path) -> str:
    assert _maker is not None
    return _maker.make(name, parts)


class _Maker:
    """Makes demonstrations in one process, with one environment."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.env: TaskEnv | None = None
        self.loaded = ""

    def close(self) -> None:
        if self.env is not None:
            self.env.close()

    def make(self, name: str, parts: Path) -> str:
        """Put `NAME.hdf5` into the folder, by a rename when it is complete."""
        if self.env is None:
            self.env = self.job.make_env()
        with h5py.File(self.job.source, "r") as given:
            demo = given[f"data/{name}"]
            for key in ("states", "actions"):
                if key not in demo:
                    raise DataError(
                        f"{self.job.source}: {name} has no {key!r}{did_you_mean(key, list(demo))}; observations are "
                        "made from it"
                    )
            model_file = str(demo.attrs.get("model_file", ""))
            if model_file and model_file != self.loaded:
                self.env.load_model(model_file)
                self.loaded = model_file
            with whole_file(parts / f"{name}.hdf5") as made:
                _copy(demo, made.create_group("demo"), self.env)
        return name


def _copy(demo: h5py.Group, out: h5py.Group, env: TaskEnv) -> None:
    """One demonstration, with the attribute `success`: whether it is solved in its last state."""
    states, actions = np.asarray(demo["states"]), np.asarray(demo["actions"], dtype=np.float64)
    if not np.isfinite(states).all() or len(states) != len(actions) or not len(states):
        raise DataError(
            f"{demo.file.filename}: {demo.name} has states {states.shape} and actions {actions.shape}; expected as "
            "many, at least one, and finite values. Drop or repair it"
        )
    observations, positions, rotations = [], [], []
    for state in states:
        env.set_positions(state)
        observations.append(env.observe())
        position, rotation = env.eef
        positions.append(position)
        rotations.append(rotation)
    if "actions_abs" in demo:
        targets = np.asarray(demo["actions_abs"])
    elif env.control == "relative":
        limits = np.asarray(env.env.robots[0].controller.output_max)
        targets = absolute_targets(actions, np.stack(positions), np.stack(rotations), limits)
    else:
        targets = actions
    for key, value in (("states", states), ("actions", actions), ("actions_abs", targets)):
        out.create_dataset(key, data=value)
    for key in observations[0]:
        _store(out, f"obs/{key}", np.stack([step[key] for step in observations]))
    for key, value in demo.attrs.items():
        out.attrs[key] = value
    out.attrs["num_samples"] = len(actions)
    out.attrs["success"] = env.ends_solved(states)


def _store(out: h5py.Group, key: str, values: np.ndarray) -> None:
    """Small arrays as they are; pictures, grids and clouds compressed in pieces of about a megabyte."""
    step = values[0].nbytes
    if step < 1024:
        out.create_dataset(key, data=values)
        return
    rows = int(np.clip(_CHUNK // step, 1, len(values)))
    out.create_dataset(key, data=values, chunks=(rows, *values.shape[1:]), compression="gzip", compression_opts=4)


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
            data.attrs[key] = value
        data.attrs["prepared_from"] = source.name
        if perception is not None:
            data.attrs["perception"] = json.dumps(perception)
        solved = {name for name in names if bool(data[name].attrs["success"])}
        for mask in {"train", *masks}:
            members = [n for n in masks.get(mask, names) if n in solved or mask not in ("train", "valid")]
            made.create_dataset(f"mask/{mask}", data=np.array(members, dtype="S"))
        made.flush()  # an error on closing would be lost


def _perception(job: _Job) -> dict[str, Any]:
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
