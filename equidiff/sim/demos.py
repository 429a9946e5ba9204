"""Demonstrations from the scripted experts, in parallel, written as a robomimic HDF5 file."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from equidiff.data.writer import DemoWriter
from equidiff.sim.env import TaskEnv, env_arguments, make_env
from equidiff.sim.experts import make_expert
from equidiff.sim.kinematics import matrix_to_rotvec
from equidiff.sim.task import Task
from equidiff.sim.workers import one_thread

__all__ = ["Demonstration", "GenerationError", "Report", "demonstrate", "episodes", "generate"]


class GenerationError(RuntimeError):
    """Demonstrations could not be made; the message says why. What was made so far is kept."""


@dataclass(frozen=True)
class Demonstration:
    """One episode, step t of every array before action t (robomimic's convention).

    states (T, S); actions (T, 7) relative in [-1, 1]; actions_abs (T, 7): target position in metres,
    rotation vector in radians, gripper; obs {key: (T, ...)} float32.
    """

    seed: int
    success: bool
    states: np.ndarray
    actions: np.ndarray
    actions_abs: np.ndarray
    obs: dict[str, np.ndarray]
    model_file: str


@dataclass(frozen=True)
class Report:
    """What a generation did: episodes asked of the expert in this run and those solved in the final state."""

    path: Path
    written: int
    tried: int
    solved: int


def demonstrate(env: TaskEnv, seed: int) -> Demonstration:
    """Run the task's expert from the initial state of `seed`, until its script ends or the horizon.

    The expert's targets are executed as relative actions; the target they amount to is stored as well.
    """
    env.reset(seed=seed)
    expert = make_expert(env)
    observation, model_file = env.observe(), env.model_xml
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    observations: list[dict[str, np.ndarray]] = []
    while len(actions) < env.task.horizon and (target := expert()) is not None:
        states.append(env.state)
        observations.append(observation)
        action = env.relative_action(target.position, target.rotation, target.grip)
        observation, *_ = env.step(action)
        position, rotation = env.goal
        actions.append(action)
        targets.append(np.concatenate([position, matrix_to_rotvec(rotation), [target.grip]]))
    obs = {key: np.stack([step[key] for step in observations]) for key in observations[0]}
    return Demonstration(seed, env.success, np.stack(states), np.stack(actions), np.stack(targets), obs, model_file)


def generate(
    task: Mapping[str, Any] | Task,
    n: int,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    workers: int = 2,
    valid_fraction: float = 0.0,
    progress: bool = True,
) -> Report:
    """Write the first `n` episodes from seed `seed` on that end solved; goes on where an earlier call stopped.

    The result does not depend on `workers`. Raises GenerationError if the expert fails far too often or a
    worker dies, ConfigError for a task without an expert, SimulatorError if the simulator is missing.
    """
    described = task if isinstance(task, Task) else Task.from_config(task)
    if n < 1 or workers < 1:
        raise ValueError(f"generate: expected n >= 1 and workers >= 1, got n={n}, workers={workers}")
    attributes = {"task": dataclasses.asdict(described), "first_seed": seed}
    solved = tried = 0
    with DemoWriter(Path(out), env_arguments(described, "relative"), attributes) as writer:
        written = len(writer.seeds_done)
        begin = max((s + 1 for s in writer.seeds_done), default=seed)
        with (
            episodes(described, begin, workers if written < n else 0) as demonstrations,
            tqdm(
                total=n,
                initial=min(n, written),
                desc=f"demonstrations of {described.name}",
                unit="demo",
                disable=not progress,
            ) as bar,
        ):
            for demo in demonstrations:
                tried += 1
                if demo.success:
                    writer.add(demo.seed, demo.states, demo.actions, demo.actions_abs, demo.obs, demo.model_file)
                    solved += 1
                    bar.update()
                bar.set_postfix(expert=f"{solved}/{tried}")
                if written + solved >= n:
                    break
                if tried >= 20 and solved < 0.1 * tried:
                    raise GenerationError(
                        f"the expert of {described.name} solved {solved} of {tried} episodes; "
                        "make the task easier (placement, horizon) or give another expert"
                    )
        writer.finish(valid_fraction)
    return Report(Path(out), written + solved, tried, solved)


@contextmanager
def episodes(task: Task, first: int, workers: int) -> Iterator[Iterator[Demonstration]]:
    """The expert's episodes of the seeds from `first` on, in their order; no end, or none at all with workers=0.

    Leaving the context ends the worker processes. Raises GenerationError if one dies.
    """
    if workers == 0:
        yield iter(())
    elif workers == 1:
        env = make_env(task, "relative")
        try:
            yield (demonstrate(env, seed) for seed in itertools.count(first))
        finally:
            env.close()
    else:
        with one_thread():
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare, (task,))
            waiting = deque(pool.submit(_run, first + i) for i in range(workers + 1))
        try:
            yield _in_order(pool, waiting, first)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, waiting: deque[Future[Demonstration]], first: int) -> Iterator[Demonstration]:
    for seed in itertools.count(first):
        try:
            demo = waiting.popleft().result()
        except BrokenProcessPool as error:
            raise GenerationError(f"a worker died near seed {seed}; run with workers=1 to see why") from error
        waiting.append(pool.submit(_run, seed + len(waiting) + 1))
        yield demo


_env: TaskEnv | None = None


def _prepare(task: Task) -> None:
    global _env
    _env = make_env(task, "relative")


def _run(seed: int) -> Demonstration:
    assert _env is not None
    return demonstrate(_env, seed)
