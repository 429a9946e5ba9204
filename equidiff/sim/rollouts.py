"""Rollouts of a policy in simulation: environments in worker processes, the policy batched in this one.

An episode is a function of the policy and its seed alone: the environment is reset with the seed, the
sampler draws from a generator of the seed, and the policy always sees batches of one size in which the
seed has a fixed row (matrix kernels may round rows of one batch differently). So neither the number of
episodes or workers nor the order in which they answer changes a result; only another `batch` may, by rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from equidiff.config import ConfigError, check_count
from equidiff.policy import Policy
from equidiff.results import RolloutResult
from equidiff.sim.workers import Environment, Finished, Footage, Ready, RolloutError, WorkerPool

__all__ = ["Episode", "Footage", "RolloutError", "Rollouts", "summarise"]


@dataclass(frozen=True)
class Episode:
    """One rollout. `frames` (F, H, W, 3) uint8 if it was filmed; `busy_s`: seconds inside the environment."""

    seed: int
    success: bool
    success_any: bool
    steps: int
    busy_s: float = 0.0
    frames: np.ndarray | None = field(default=None, repr=False, compare=False)


class Rollouts:
    """Runs episodes of one task. A context manager; the workers live until `close`.

    make_env: picklable callable that makes an environment (see `workers.Environment`).
    horizon: control steps of an episode; success is judged in the state after the last one, unless
    `stop_on_success` ends the episode at the first solved state. batch: episodes per call of the
    policy, filled up where there are fewer; twice as many are under way, so that some are stepped while the policy
    thinks about others. Raises ConfigError for a number below 1.
    """

    def __init__(
        self,
        make_env: Callable[[], Environment],
        *,
        horizon: int,
        workers: int = 2,
        batch: int = 4,
        stop_on_success: bool = False,
        timeout: float = 600.0,
    ) -> None:
        for name, value in (("horizon", horizon), ("workers", workers), ("batch", batch)):
            check_count(f"rollouts.{name}", value)
        self.make_env, self.horizon, self.workers, self.batch = make_env, horizon, workers, batch
        self.stop_on_success, self.timeout = stop_on_success, timeout
        self._pool: WorkerPool | None = None
        self._history = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def run(
        self,
        policy: Policy,
        seeds: Sequence[int],
        *,
        footage: Footage | None = None,
        film: Collection[int] | None = None,
        label: str = "rollouts",
        progress: bool = True,
    ) -> list[Episode]:
        """One episode per seed, in the order of `seeds`.

        footage: pictures to keep; film: of which seeds (default: all). The policy runs in eval mode on
        its own device. Raises RolloutError with the seed if an environment or the policy fails; the
        workers are then closed.
        """
        if len(set(seeds)) != len(seeds) or not seeds:
            raise ConfigError("rollouts.seeds: expected different seeds, at least one")
        module = policy if isinstance(policy, nn.Module) else None
        training = module is not None and module.training
        if module is not None:
            module.eval()
        bar = tqdm(total=len(seeds), desc=label, unit="episode", disable=not progress, dynamic_ncols=True)
        try:
            finished = self._run(policy, seeds, footage, set(seeds if film is None else film), bar)
        except BaseException:
            self.close()  # episodes under way would answer into the next run
            raise
        finally:
            bar.close()
            if module is not None:
                module.train(training)
        return [finished[seed] for seed in seeds]

    def _run(
        self, policy: Policy, seeds: Sequence[int], footage: Footage | None, film: set[int], bar: Any
    ) -> dict[int, Episode]:
        pool = self._workers(policy.spec.horizon.obs)
        todo, idle = deque(seeds), deque(range(pool.slots))
        active: set[int] = set()
        waiting: deque[Ready] = deque()
        generators: dict[int, torch.Generator] = {}
        finished: dict[int, Episode] = {}
        while len(finished) < len(seeds):
            while todo and idle:
                seed = todo.popleft()
                generators[seed] = torch.Generator().manual_seed(seed)
                active.add(seed)
                pool.start(idle.popleft(), seed, footage if seed in film else None)
            # half of the episodes wait for the policy, the other half is stepped meanwhile
            enough = min(self.batch, (len(active) + 1) // 2)
            for answer in pool.receive(block=len(waiting) < enough):
                if isinstance(answer, Ready):
                    waiting.append(answer)
                else:
                    finished[answer.seed] = _episode(answer)
                    active.discard(answer.seed)
                    idle.append(answer.slot)
                    bar.update()
                    bar.set_postfix(solved=sum(e.success for e in finished.values()))
            if waiting and len(waiting) >= min(self.batch, (len(active) + 1) // 2):
                rows: dict[int, Ready] = {}
                for item in waiting:
                    rows.setdefault(item.seed % self.batch, item)
                waiting = deque(item for item in waiting if rows[item.seed % self.batch] is not item)
                for item, actions in self._act(policy, rows, generators):
                    pool.act(item.slot, actions)
        return finished

    def _act(
        self, policy: Policy, rows: dict[int, Ready], generators: dict[int, torch.Generator]
    ) -> list[tuple[Ready, np.ndarray]]:
        """Actions (execute, A) of each item, computed in a batch of the fixed size with the item in its row."""
        device, spare = _device(policy), next(iter(rows.values()))
        batch = [rows.get(row, spare) for row in range(self.batch)]
        obs = {
            key: torch.from_numpy(np.stack([item.history[key] for item in batch])).to(device)
            for key in spare.history
            if key in policy.spec.observation.keys
        }
        draws = [generators[rows[row].seed] if row in rows else torch.Generator() for row in range(self.batch)]
        with torch.inference_mode():
            chunk = policy.act(obs, generator=draws)
        actions = chunk.action.float().cpu().numpy()
        for row, item in rows.items():
            if not np.isfinite(actions[row]).all():
                raise RolloutError(
                    f"rollouts: the policy gave an action that is not finite in the episode of seed {item.seed}"
                )
        return [(item, actions[row]) for row, item in rows.items()]

    def _workers(self, history: int) -> WorkerPool:
        if self._pool is not None and self._history != history:
            self.close()
        if self._pool is None:
            self._history = history
            self._pool = WorkerPool(
                self.make_env,
                workers=self.workers,
                slots=max(2 * self.batch, self.workers),
                history=history,
                horizon=self.horizon,
                stop_on_success=self.stop_on_success,
                timeout=self.timeout,
            )
        return self._pool


def summarise(
    episodes: Sequence[Episode], *, task: str, checkpoint: str, policy: str, wall_s: float, **details: Any
) -> RolloutResult:
    """The record of these episodes."""
    return RolloutResult(
        task=task,
        checkpoint=checkpoint,
        policy=policy,
        seeds=tuple(e.seed for e in episodes),
        success=tuple(e.success for e in episodes),
        success_any=tuple(e.success_any for e in episodes),
        steps=tuple(e.steps for e in episodes),
        wall_s=wall_s,
        details=details,
    )


def _episode(answer: Finished) -> Episode:
    return Episode(answer.seed, answer.success, answer.success_any, answer.steps, answer.busy_s, answer.frames)


def _device(policy: Policy) -> torch.device:
    if isinstance(policy, nn.Module):
        for parameter in policy.parameters():
            return parameter.device
    return torch.device("cpu")
