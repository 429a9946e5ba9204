"""One demonstration prepared: observations made from its states, step by step, into a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from equidiff.data.robomimic import changed_at, fingerprint
from equidiff.data.whole_file import whole_file
from equidiff.perception import PerceptionSettings
from equidiff.sim.convert import absolute_targets
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.prepare_checks import checked_arrays, load_scene
from equidiff.sim.render import RendererSettings
from equidiff.sim.task import Task

__all__ = ["Job", "Maker"]

_CHUNK = 2**20  # bytes of one compressed piece
_SMALL = 1024  # bytes of a step that are not worth compressing
_KEPT = ("rewards", "dones")  # robomimic's own training reads them


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    source: Path
    env_args: Mapping[str, Any]
    task: Task
    perception: PerceptionSettings | None
    renderer: RendererSettings

    def make_env(self) -> TaskEnv:
        """The environment of the file, seeing what is asked for."""
        return make_env_from_args(self.env_args, self.task, perception=self.perception, renderer=self.renderer)

    def about(self) -> dict[str, Any]:
        """What decides the result, as JSON."""
        return {
            "source": fingerprint(self.source),
            "changed": changed_at(self.source),
            "objects": {name: dataclasses.asdict(thing) for name, thing in self.task.objects.items()},
            "perception": None if self.perception is None else self.perception.to_json(),
            "renderer": None if self.perception is None else self.renderer.to_json(),
            "mujoco": metadata.version("mujoco"),
        }


class Maker:
    """Makes demonstrations in one process, with one environment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.env: TaskEnv | None = None
        self.loaded = ""

    def close(self) -> None:
        """Free the simulator."""
        if self.env is not None:
            self.env.close()

    def __call__(self, name: str, parts: Path) -> str:
        """Put `NAME.hdf5` into the folder when it is complete. Raises DataError if the demonstration is unusable."""
        if self.env is None:
            self.env = self.job.make_env()
        where = f"{self.job.source}: {name}"
        with h5py.File(self.job.source, "r") as given:
            demo = given[f"data/{name}"]
            arrays = checked_arrays(demo, len(self.env.state), where)
            model_file = str(demo.attrs.get("model_file", ""))
            if model_file and model_file != self.loaded:
                load_scene(self.env, model_file, where)
                self.loaded = model_file
            with whole_file(parts / f"{name}.hdf5") as made:
                _prepare(demo, arrays, made.create_group("demo"), self.env)
        return name


def _prepare(demo: h5py.Group, arrays: Mapping[str, np.ndarray], out: h5py.Group, env: TaskEnv) -> None:
    """Everything of one demonstration, and the attribute `success`: whether it is solved in its last state."""
    states, actions = arrays["states"], arrays["actions"]
    columns: dict[str, _Column] = {}
    positions, rotations = np.empty((len(states), 3)), np.empty((len(states), 3, 3))
    for step, state in enumerate(states):
        env.set_positions(state)
        for key, value in env.observe().items():
            if key not in columns:
                columns[key] = _Column(out, f"obs/{key}", value, len(states))
            columns[key].add(value)
        positions[step], rotations[step] = env.eef
    if "actions_abs" in arrays:
        targets = arrays["actions_abs"]
    elif env.control == "relative":
        limits = np.asarray(env.env.robots[0].controller.output_max)
        targets = absolute_targets(actions, positions, rotations, limits)
    else:
        targets = actions
    for key, values in (("states", states), ("actions", actions), ("actions_abs", targets)):
        out.create_dataset(key, data=values)
    for key in _KEPT:
        if isinstance(demo.get(key), h5py.Dataset) and len(demo[key]) == len(actions):
            out.create_dataset(key, data=demo[key][()])
    for key, value in demo.attrs.items():
        out.attrs[key] = value
    out.attrs["num_samples"] = len(actions)
    out.attrs["success"] = env.ends_solved(states)


class _Column:
    """All steps of one observation, written as they come: an episode of grids is a gigabyte.

    Small ones as they are; pictures, grids and clouds compressed in pieces of about a megabyte.
    """

    def __init__(self, out: h5py.Group, key: str, first: np.ndarray, steps: int) -> None:
        small = first.nbytes < _SMALL
        self._rows = steps if small else int(np.clip(_CHUNK // first.nbytes, 1, steps))
        pieces = {} if small else {"chunks": (self._rows, *first.shape), "compression": "gzip", "compression_opts": 4}
        self._stored = out.create_dataset(key, (steps, *first.shape), first.dtype, **pieces)
        self._waiting: list[np.ndarray] = []
        self._written = 0

    def add(self, value: np.ndarray) -> None:
        """The next step."""
        self._waiting.append(value)
        if len(self._waiting) == self._rows or self._written + len(self._waiting) == len(self._stored):
            end = self._written + len(self._waiting)
            self._stored[self._written : end] = np.stack(self._waiting)
            self._written, self._waiting = end, []
