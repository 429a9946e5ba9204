"""Attempts at demonstrations: run in parallel, kept in the order of their seeds, whoever makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from equidiff.sim.pool import Maker, in_order

__all__ = ["Demonstration", "GenerationError", "Recorder", "in_seed_order"]


class GenerationError(RuntimeError):
    """Demonstrations could not be made; the message says why. What was made so far is kept."""


@dataclass(frozen=True)
class Demonstration:
    """One episode, step t of every array before action t (robomimic's convention).

    states (T, S); actions (T, 7) relative in [-1, 1]; actions_abs (T, 7): target position in metres,
    rotation vector in radians, gripper; obs {key: (T, ...)} float32. success: solved in the final state;
    success_any: solved after some step.
    """

    seed: int
    success: bool
    states: np.ndarray
    actions: np.ndarray
    actions_abs: np.ndarray
    obs: dict[str, np.ndarray]
    model_file: str
    success_any: bool


class Recorder:
    """Collects the steps of an episode. `model_file`: its scene as XML."""

    def __init__(self, model_file: str) -> None:
        self.model_file = model_file
        self._states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._observations: list[dict[str, np.ndarray]] = []
        self._success_any = False

    def __len__(self) -> int:
        return len(self._actions)

    def add(
        self,
        state: np.ndarray,
        observation: dict[str, np.ndarray],
        action: np.ndarray,
        target: np.ndarray,
        success: bool,
    ) -> None:
        """One step: state and observation before the action, the absolute target (7,), success after it."""
        self._states.append(state)
        self._observations.append(observation)
        self._actions.append(action)
        self._targets.append(target)
        self._success_any |= success

    def finish(self, seed: int, success: bool) -> Demonstration:
        """The episode; `success` is that of its final state."""
        return Demonstration(
            seed,
            success,
            np.stack(self._states),
            np.stack(self._actions),
            np.stack(self._targets),
            {key: np.stack([step[key] for step in self._observations]) for key in self._observations[0]},
            self.model_file,
            self._success_any,
        )


def in_seed_order(
    make: Callable[[], Maker[Demonstration]], first: int, workers: int
) -> AbstractContextManager[Iterator[Demonstration]]:
    """The attempts of the seeds from `first` on, in their order; no end, or none at all with workers=0.

    make: picklable callable without arguments, called once in each worker process (in this one with workers=1).
    Leaving the context ends the worker processes. Raises GenerationError if one dies.
    """
    if workers == 0:
        return nullcontext(iter(()))
    seeds = ((seed,) for seed in itertools.count(first))
    return in_order(
        make,
        seeds,
        workers,
        lambda task: GenerationError(f"a worker died near seed {task[0]}; run with workers=1 to see why"),
    )
