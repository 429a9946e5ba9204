"""Demonstrations in a robomimic HDF5 file: of the scripted experts, or of whoever else makes attempts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from equidiff.config import check_count
from equidiff.data.writer import DemoWriter
from equidiff.sim.collect import Demonstration, GenerationError, Recorder, in_seed_order
from equidiff.sim.env import TaskEnv, env_arguments, make_env
from equidiff.sim.experts import make_expert
from equidiff.sim.kinematics import matrix_to_rotvec
from equidiff.sim.pool import Maker
from equidiff.sim.task import Task

__all__ = [
    "Demonstration",
    "ExpertAttempts",
    "GenerationError",
    "Report",
    "collect",
    "demonstrate",
    "episodes",
    "expert_writer",
    "generate",
]


@dataclass(frozen=True)
class Report:
    """What a generation did.

    written: demonstrations in the file. Of this run: tried, solved (in the final state), solved_any (after some
    step), and its seconds. seeds_used: attempts that the whole file took, over all runs.
    """

    path: Path
    written: int
    tried: int
    solved: int
    solved_any: int = 0
    seconds: float = 0.0
    seeds_used: int = 0

    @property
    def demos_per_minute(self) -> float:
        """Demonstrations written in a minute of this run; 0 if it had nothing to do."""
        return 60 * self.solved / self.seconds if self.seconds else 0.0


class ExpertAttempts:
    """Episodes of the task's scripted expert."""

    def __init__(self, task: Task) -> None:
        self.env = make_env(task, "relative")

    def __call__(self, seed: int) -> Demonstration:
        return demonstrate(self.env, seed)

    def close(self) -> None:
        """Free the simulator."""
        self.env.close()


def demonstrate(env: TaskEnv, seed: int) -> Demonstration:
    """Run the task's expert from the initial state of `seed`, until its script ends or the horizon.

    The expert's targets are executed as relative actions; the target they amount to is stored as well.
    """
    env.reset(seed=seed)
    expert = make_expert(env)
    observation, record = env.observe(), Recorder(env.model_xml)
    while len(record) < env.task.horizon and (target := expert()) is not None:
        state = env.state
        action = env.relative_action(target.position, target.rotation, target.grip)
        after, _, _, _, info = env.step(action)
        position, rotation = env.goal
        record.add(
            state,
            observation,
            action,
            np.concatenate([position, matrix_to_rotvec(rotation), [target.grip]]),
            info["success"],
        )
        observation = after
    return record.finish(seed, env.success)


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
    return collect(
        partial(ExpertAttempts, described),
        n,
        expert_writer(described, Path(out), seed),
        name=f"the expert of {described.name}",
        seed=seed,
        workers=workers,
        valid_fraction=valid_fraction,
        progress=progress,
    )


def expert_writer(task: Task, out: Path, seed: int) -> DemoWriter:
    """The writer of `generate`. Raises DataError if what is at `out` was made with another task or first seed."""
    return DemoWriter(out, env_arguments(task, "relative"), {"task": task.to_json(), "first_seed": seed})


def collect(
    make: Callable[[], Maker[Demonstration]],
    n: int,
    writer: DemoWriter,
    *,
    name: str,
    seed: int = 0,
    workers: int = 2,
    least: float = 0.1,
    facts: Callable[[Report], Mapping[str, Any]] | None = None,
    valid_fraction: float = 0.0,
    progress: bool = True,
) -> Report:
    """Add solved attempts to `writer` until it has `n`, in the order of their seeds, and finish its file.

    make: as of `in_seed_order`. name: of who attempts, for messages. least: share of solved attempts below which it
    gives up, after 20. facts: what to note in the file about a run that attempted something. Raises GenerationError,
    and ConfigError for n or workers below 1.
    """
    check_count("n", n)
    check_count("workers", workers)
    solved = solved_any = tried = 0
    written = len(writer.seeds_done)
    begin = max((s + 1 for s in writer.seeds_done), default=seed)
    started = time.monotonic()
    with writer:
        with (
            in_seed_order(make, begin, workers if written < n else 0) as demonstrations,
            tqdm(
                total=n, initial=min(n, written), desc=f"demonstrations of {name}", unit="demo", disable=not progress
            ) as bar,
        ):
            for demo in demonstrations:
                tried += 1
                solved_any += demo.success_any
                if demo.success:
                    with _told_if_disk_fails(writer):
                        _add(writer, demo)
                    solved += 1
                    bar.update()
                bar.set_postfix(solved=f"{solved}/{tried}")
                if written + solved >= n:
                    break
                if tried >= 20 and solved < least * tried:
                    raise GenerationError(
                        f"{name} solved {solved} of {tried} episodes; "
                        "make the task easier (placement, horizon) or give another expert or source"
                    )
        seconds = time.monotonic() - started
        used = max(writer.seeds_done) + 1 - seed
        report = Report(writer.path, written + solved, tried, solved, solved_any, seconds if tried else 0.0, used)
        with _told_if_disk_fails(writer):
            writer.finish(valid_fraction, facts(report) if facts and tried else None)
    return report


def _add(writer: DemoWriter, demo: Demonstration) -> None:
    writer.add(
        demo.seed,
        demo.states,
        demo.actions,
        demo.actions_abs,
        demo.obs,
        demo.model_file,
        attrs={"success": True},  # of the final state: no other is kept
    )


@contextmanager
def _told_if_disk_fails(writer: DemoWriter) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = len(writer.seeds_done)
        raise GenerationError(
            f"{writer.path}: cannot be written ({error}). {kept} demonstrations are kept beside it; make room and call "
            "again to go on"
        ) from error


def episodes(task: Task, first: int, workers: int) -> AbstractContextManager[Iterator[Demonstration]]:
    """The expert's episodes of the seeds from `first` on: `in_seed_order`."""
    return in_seed_order(partial(ExpertAttempts, task), first, workers)
