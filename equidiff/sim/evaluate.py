"""Evaluating a policy in simulation: of a checkpoint, or of the policy under training."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from equidiff.checkpoint import CheckpointError, inspect_checkpoint, load_policy
from equidiff.config import check_count
from equidiff.policy import Policy
from equidiff.results import RolloutResult
from equidiff.sim.rollouts import Episode, Footage, Rollouts, summarise
from equidiff.sim.task import Task
from equidiff.spec import Spec

__all__ = ["RolloutEvaluator", "evaluate_checkpoint"]


class RolloutEvaluator:
    """Success rate over fixed seeds, for the trainer: {"success": rate at the end, "success_any": at any step}.

    perception: how the training data's pictures were made, for a policy that sees. Workers are started at the first
    call and kept.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        control: str,
        n: int = 50,
        seed: int = 100000,
        workers: int = 2,
        batch: int = 4,
        perception: Mapping[str, Any] | None = None,
        spec: Spec | None = None,
    ) -> None:
        from equidiff.sim.env import make_env
        from equidiff.sim.seeing import sight_of

        described = Task.from_config(task)
        self.seeds = _seeds("evaluation.", n, seed)
        seen, renderer = (None, None) if spec is None else sight_of(perception, spec)
        make = functools.partial(make_env, described, control, perception=seen, renderer=renderer)
        self.rollouts = Rollouts(make, horizon=described.horizon, workers=workers, batch=batch)

    def __call__(self, policy: Policy, step: int) -> dict[str, float]:
        """Evaluate now; `step` is the optimiser step, for the progress bar."""
        episodes = self.rollouts.run(policy, self.seeds, label=f"evaluation at step {step}")
        return {
            "success": sum(e.success for e in episodes) / len(episodes),
            "success_any": sum(e.success_any for e in episodes) / len(episodes),
        }

    def close(self) -> None:
        """End the workers."""
        self.rollouts.close()


def evaluate_checkpoint(
    checkpoint: str | os.PathLike[str],
    *,
    n: int = 50,
    seed: int = 100000,
    workers: int = 2,
    batch: int = 4,
    horizon: int | None = None,
    physics: str = "fast",
    stop_on_success: bool = False,
    device: str = "cpu",
    film: int = 0,
    frame_size: int = 256,
    label: str = "",
    ignore_mismatch: bool = False,
) -> tuple[RolloutResult, list[Episode]]:
    """Roll a checkpoint out on the seeds seed .. seed + n - 1 of the task it was trained for.

    film: number of episodes to film. Raises ConfigError for numbers out of range, CheckpointError if the checkpoint is
    damaged or names no task, and PerceptionError if its pictures were drawn otherwise than they would be now, unless
    `ignore_mismatch`.
    """
    from equidiff.sim.env import make_env
    from equidiff.sim.seeing import sight_of

    seeds = _seeds("", n, seed)
    check_count("film", film, least=0)
    if horizon is not None:
        check_count("horizon", horizon)
    manifest = inspect_checkpoint(checkpoint)
    if "task" not in manifest or "control" not in manifest:
        raise CheckpointError(f"{checkpoint}: its manifest names no task; it was not written by scripts/train.py")
    task = Task.from_config(manifest["task"])
    policy = load_policy(checkpoint, device=device)
    steps = horizon or task.horizon
    perception, renderer = sight_of(manifest.get("perception"), policy.spec, ignore_mismatch)
    make = functools.partial(
        make_env, task, manifest["control"], physics=physics, perception=perception, renderer=renderer
    )
    footage = Footage(camera=task.camera, width=frame_size, height=frame_size) if film else None
    began = time.perf_counter()
    with Rollouts(make, horizon=steps, workers=workers, batch=batch, stop_on_success=stop_on_success) as rollouts:
        episodes = rollouts.run(
            policy, seeds, footage=footage, film=seeds[:film], label=label or f"rollouts of {task.name}"
        )
    result = summarise(
        episodes,
        task=task.name,
        checkpoint=str(checkpoint),
        policy=label or Path(checkpoint).parent.parent.name,
        wall_s=time.perf_counter() - began,
        horizon=steps,
        stop_on_success=stop_on_success,
        physics=physics,
        batch=batch,
        versions={name: metadata.version(name) for name in ("torch", "robosuite", "mujoco")},
        cpu=platform.processor() or platform.machine(),
    )
    return result, episodes


def _seeds(at: str, n: int, first: int) -> list[int]:
    first = check_count(f"{at}seed", first, least=0)
    return list(range(first, first + check_count(f"{at}n", n)))
