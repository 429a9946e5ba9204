"""Demonstrations by the NVlabs MimicGen: a few sources, cut into sub-tasks and moved to where the objects are."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equidiff.data.writer import DemoWriter
from equidiff.sim.backend import quiet
from equidiff.sim.collect import Demonstration, Recorder
from equidiff.sim.demos import Report, collect
from equidiff.sim.env import TaskEnv, env_arguments, make_env, seeded
from equidiff.sim.kinematics import matrix_to_rotvec
from equidiff.sim.mimicgen_source import Source
from equidiff.sim.mimicgen_task import MimicGenTask, load_generator
from equidiff.sim.task import Task

__all__ = ["MimicGenAttempts", "generate_mimicgen"]


class MimicGenAttempts:
    """Attempts of mimicgen's DataGenerator at a task, decided by their seed alone."""

    def __init__(self, task: Task, source: Source, per_subtask: bool, physics: str = "fast") -> None:
        load_generator()
        from mimicgen.datagen.data_generator import DataGenerator

        about = MimicGenTask.of(task)
        self.env, self.per_subtask = make_env(task, "relative", physics), per_subtask
        self.interface = about.make_interface(self.env.env)
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # it prints, and shows a bar
            self.generator = DataGenerator(about.task_spec(), str(source.path), list(source.demos))

    def __call__(self, seed: int) -> Demonstration:
        simulation = _Simulation(self.env, seed)
        # another stream than the one that places the objects
        with seeded(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])):
            self.generator.generate(simulation, self.interface, select_src_per_subtask=self.per_subtask)
        stable = bool(np.isfinite(self.env.state).all())
        return simulation.record.finish(seed, stable and self.env.success)

    def close(self) -> None:
        """Free the simulator."""
        self.env.close()


class _Simulation:
    """The methods of robomimic's environment wrapper that mimicgen calls, on a TaskEnv; keeps what happens.

    Not robomimic's own: its constructor does not know arguments that mimicgen passes, and its step is slower.
    """

    def __init__(self, env: TaskEnv, seed: int) -> None:
        self.env, self.seed = env, seed
        self.record = Recorder("")

    def reset(self) -> dict[str, np.ndarray]:
        observation, _ = self.env.reset(seed=self.seed)
        self.record = Recorder(self.env.model_xml)
        return observation

    def get_state(self) -> dict[str, np.ndarray]:
        return {"states": self.env.state}

    def get_observation(self) -> dict[str, np.ndarray]:
        return self.env.observe()  # also brings the poses up to date that the next action is computed from

    def is_success(self) -> dict[str, bool]:
        return {"task": self.env.success}

    def step(self, action: np.ndarray) -> None:
        env = self.env
        state, observation = env.state, env.observe()
        _, _, _, _, info = env.step(action)
        position, rotation = env.goal
        target = np.concatenate([position, matrix_to_rotvec(rotation), action[6:]])
        self.record.add(state, observation, np.array(action), target, info["success"])


def generate_mimicgen(
    task: Mapping[str, Any] | Task,
    source: Source,
    n: int,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    workers: int = 2,
    per_subtask: bool | None = None,
    valid_fraction: float = 0.0,
    progress: bool = True,
) -> Report:
    """Write the first `n` attempts from seed `seed` on that end solved; goes on where an earlier call stopped.

    The layout is that of `equidiff.sim.demos.generate`; the result does not depend on `workers`. per_subtask: choose
    another source demonstration for each sub-task; None as in the published data. The attribute "generation" notes
    attempts and successes of the whole file and the speed of the last run. Raises GenerationError if fewer than one of
    50 attempts succeed, ConfigError for a task that is not MimicGen's, SimulatorError if something is missing.
    """
    described = task if isinstance(task, Task) else Task.from_config(task)
    if per_subtask is None:
        per_subtask = MimicGenTask.of(described).source_per_subtask
    attributes = {
        "task": described.to_json(),
        "first_seed": seed,
        "method": "mimicgen",
        "source": source.to_json(),
        "source_per_subtask": per_subtask,
        "mimicgen_version": load_generator().__version__,
    }
    return collect(
        partial(MimicGenAttempts, described, source, per_subtask),
        n,
        DemoWriter(Path(out), env_arguments(described, "relative"), attributes),
        name=f"MimicGen on {described.name}",
        seed=seed,
        workers=workers,
        least=0.02,
        facts=partial(_facts, workers=workers),
        valid_fraction=valid_fraction,
        progress=progress,
    )


def _facts(report: Report, workers: int) -> dict[str, Any]:
    return {
        "method": "mimicgen",
        "attempts": report.seeds_used,
        "successes": report.written,
        "rate": round(report.written / report.seeds_used, 4),
        "last_run": {
            "attempts": report.tried,
            "successes": report.solved,
            "successes_at_any_step": report.solved_any,
            "seconds": round(report.seconds, 1),
            "demos_per_minute": round(report.demos_per_minute, 2),
            "workers": workers,
        },
    }
