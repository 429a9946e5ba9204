"""Stored demonstrations executed again, open loop, from their first state: do they still succeed, and how far off?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.robomimic import DemoFile
from equidiff.results import write_json
from equidiff.sim import memory
from equidiff.sim.convert import absolute_targets, actions_of, full_action, poses_of_states, relative_deltas
from equidiff.sim.env import TaskEnv, make_env_from_args
from equidiff.sim.kinematics import matrix_to_rotvec
from equidiff.sim.pool import in_order
from equidiff.sim.prepare_checks import check_environment, load_scene
from equidiff.sim.task import Task
from equidiff.statistics import clopper_pearson

__all__ = ["CONTROLS", "Replay", "record", "replay", "summary", "table"]

CONTROLS = ("relative", "absolute", "round_trip")
"""As stored or converted; round_trip: the relative actions made of the absolute ones made of the relative ones."""


@dataclass(frozen=True)
class Replay:
    """One demonstration executed again.

    recorded: whether it was solved in its last stored state; success: whether it is after its last action, executed
    again. The gripper's distance from where it was recorded, over the steps: mean and largest, mm and degrees.
    clipped: steps whose target was further than one relative action reaches.
    """

    name: str
    control: str
    steps: int
    recorded: bool
    success: bool
    mean_mm: float
    max_mm: float
    mean_degrees: float
    max_degrees: float
    clipped: int


def replay(
    path: str | os.PathLike[str],
    task: Mapping[str, Any] | Task,
    controls: Sequence[str] = ("absolute",),
    *,
    n: int | None = None,
    workers: int = 2,
    progress: bool = True,
) -> list[Replay]:
    """Execute the first `n` demonstrations (None: all) with each kind of actions; the file is only read.

    Actions of a kind that the file does not hold are converted. Raises DataError for a file without states or of
    another environment, SimulatorError if the simulator is missing.
    """
    for control in controls:
        if control not in CONTROLS:
            raise DataError(
                f"control: expected {', '.join(CONTROLS)}, got {control!r}{did_you_mean(control, CONTROLS)}"
            )
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    described = task if isinstance(task, Task) else Task.from_config(task)
    with DemoFile(path) as file:
        names, env_args = file.names, file.env_args
    check_environment(Path(path), env_args, described)
    if n is not None and not 1 <= n <= len(names):
        raise DataError(f"{path}: n={n}, but it has {len(names)} demonstrations; choose a number from 1 to that")
    job = _Job(Path(path), env_args, described)
    todo = [(name, control) for name in names[:n] for control in controls]
    done = []
    died = DataError(f"{path}: a worker died; run with workers=1 to see why")
    with in_order(partial(_Player, job), todo, min(workers, len(todo)), lambda task: died) as answers:
        bar = tqdm(answers, total=len(todo), desc=f"replay of {job.path.name}", unit="demo", disable=not progress)
        for found in bar:
            done.append(found)
            bar.set_postfix(solved=f"{sum(r.success for r in done)}/{len(done)}")
    return done


def summary(replays: Sequence[Replay]) -> dict[str, Any]:
    """Figures of replays with one kind of actions, as JSON."""
    kept = [r for r in replays if r.recorded]
    solved = sum(r.success for r in kept)
    steps = sum(r.steps for r in replays)
    return {
        "demonstrations": len(replays),
        "solved_when_recorded": len(kept),
        "still_solved": solved,
        "share": round(solved / len(kept), 4) if kept else None,
        "interval": [round(v, 4) for v in clopper_pearson(solved, len(kept))] if kept else None,
        "newly_solved": sum(r.success and not r.recorded for r in replays),
        "position_error_mm": {
            "mean": _mean(r.mean_mm for r in replays),
            "max": round(max(r.max_mm for r in replays), 4),
        },
        "rotation_error_degrees": {
            "mean": _mean(r.mean_degrees for r in replays),
            "max": round(max(r.max_degrees for r in replays), 4),
        },
        "clipped_share": round(sum(r.clipped for r in replays) / steps, 6),
    }


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """{task: {control: summary}} as a Markdown table."""
    lines = [
        "| task | actions | still solved | 95 % interval | position off, mean / max | rotation off, mean / max | cut |",
        "|-|-|-|-|-|-|-|",
    ]
    for task, controls in found.items():
        for control, row in controls.items():
            low, high = row["interval"] or (0.0, 1.0)
            place, turn = row["position_error_mm"], row["rotation_error_degrees"]
            lines.append(
                f"| {task} | {control.replace('_', ' ')} | {row['still_solved']}/{row['solved_when_recorded']} "
                f"| {100 * low:.0f}-{100 * high:.0f} % | {place['mean']:.2f} / {place['max']:.1f} mm "
                f"| {turn['mean']:.3f} / {turn['max']:.2f}° | {100 * row['clipped_share']:.2f} % |"
            )
    return "\n".join(lines)


def record(
    path: str | os.PathLike[str], task: str, file: str, found: Mapping[str, Mapping[str, Any]], command: str
) -> Path:
    """Add the figures of a file's replays, {control: summary}, to a JSON file under the name of the task."""
    target = Path(path)
    tree = json.loads(target.read_text()) if target.exists() else {}
    tree[task] = {"file": file, "command": command, "controls": dict(found)}
    return write_json(target, dict(sorted(tree.items())))


def _mean(values: Iterator[float]) -> float:
    return round(float(np.mean(list(values))), 4)


@dataclass(frozen=True)
class _Job:
    path: Path
    env_args: Mapping[str, Any]
    task: Task


class _Player:
    """Replays in one process; an environment for each control."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.own = make_env_from_args(job.env_args, job.task)
        self.environments: dict[str, TaskEnv] = {self.own.control: self.own}
        self.loaded: dict[str, str] = {}

    def close(self) -> None:
        for env in self.environments.values():
            env.close()

    def _env(self, control: str, model_file: str) -> TaskEnv:
        if control not in self.environments:
            self.environments[control] = make_env_from_args(self.job.env_args, self.job.task, control)
        env = self.environments[control]
        if model_file and self.loaded.get(control) != model_file:
            load_scene(env, model_file, str(self.job.path))
            self.loaded[control] = model_file
        return env

    def __call__(self, name: str, control: str) -> Replay:
        where = f"{self.job.path}: {name}"
        with h5py.File(self.job.path, "r") as file:
            demo = file[f"data/{name}"]
            model_file = str(demo.attrs.get("model_file", ""))
            own = self._env(self.own.control, model_file)
            kind = "relative" if control == "round_trip" else control
            if "states" not in demo or not len(demo["states"]):
                raise DataError(f"{where}: has no states; a replay starts in the first one")
            states = np.asarray(demo["states"])
            positions, rotations = poses_of_states(own, states)
            if control == "round_trip":
                limits = full_action(self.job.env_args)
                relative, _ = actions_of(demo, "relative", own, where)
                made = absolute_targets(relative, positions, rotations, limits)
                back = relative_deltas(made, positions, rotations, limits)
                actions, clipped = back.actions, back.clipped
            else:
                actions, clipped = actions_of(demo, kind, own, where)
        recorded = own.ends_solved(states)
        env = self._env(kind, model_file)
        memory.forget(env.env)
        env.set_state(states[0])
        if self.job.task.start is None:  # the pose that the arm's free joint is drawn to is the one it was reset to
            robot = env.env.robots[0]
            robot.controller.initial_joint = np.array(states[0])[1:][robot._ref_joint_pos_indexes]
        away, turned, success = [], [], False
        for t, action in enumerate(actions):
            success = bool(env.step(action)[4]["success"])
            if t + 1 < len(states):
                position, rotation = env.eef
                away.append(1e3 * float(np.linalg.norm(position - positions[t + 1])))
                turned.append(float(np.degrees(np.linalg.norm(matrix_to_rotvec(rotation @ rotations[t + 1].T)))))
        return Replay(
            name=name,
            control=control,
            steps=len(actions),
            recorded=recorded,
            success=success,
            mean_mm=float(np.mean(away or [0.0])),
            max_mm=max(away, default=0.0),
            mean_degrees=float(np.mean(turned or [0.0])),
            max_degrees=max(turned, default=0.0),
            clipped=int(clipped.sum()),
        )
