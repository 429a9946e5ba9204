"""Rollouts of trained policies on the same episodes, films of the first ones, and what a policy costs."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from equidiff.demo.progress import heartbeat
from equidiff.results import write_json

__all__ = ["Evaluate", "SimulatedEvaluation", "read_cost", "read_film", "write_film"]

RESULT, FILM, COST = "result.json", "film", "cost.json"
_WIDTH, _HEIGHT, _EVERY = 256, 256, 4  # a picture every 4 control steps
_FRAMES = "frames"  # key in a picture's information
_BATCH = 128  # weights are prepared once for the batch, as in training


class Evaluate(Protocol):
    """Judges the checkpoint of a run and writes result.json, cost.json and, if asked, film/ to `folder`."""

    def __call__(
        self, checkpoint: Path, folder: Path, *, label: str, seeds: Sequence[int], film: Sequence[int]
    ) -> None:
        """Run the episodes `seeds`, film those in `film`."""


class SimulatedEvaluation:
    """`Evaluate` in the simulator, in worker processes that live until `close`. Loading takes some seconds."""

    def __init__(self, workers: int, camera: str, batch: int = 4) -> None:
        self.workers, self.camera, self.batch = workers, camera, batch
        self._rollouts: Any = None
        self._for: Any = None

    def close(self) -> None:
        """End the worker processes."""
        if self._rollouts is not None:
            self._rollouts.close()
        self._rollouts = None

    def __call__(
        self, checkpoint: Path, folder: Path, *, label: str, seeds: Sequence[int], film: Sequence[int]
    ) -> None:
        """Run the episodes `seeds`, film those in `film`; see `Evaluate`."""
        with heartbeat("loading PyTorch and the simulator" if self._rollouts is None else None):
            import torch

            from equidiff.checkpoint import inspect_checkpoint, load_policy
            from equidiff.sim.rollouts import Footage, summarise

            torch.set_num_threads(1)  # the workers need the other cores
            manifest = inspect_checkpoint(checkpoint)
            policy = load_policy(checkpoint)
            rollouts = self._prepare(manifest, policy)
        timed = _Observed(policy)
        footage = Footage(camera=self.camera, width=_WIDTH, height=_HEIGHT, every=_EVERY)
        started = time.monotonic()
        with heartbeat():  # starting the workers takes a while, too
            episodes = rollouts.run(timed, seeds, footage=footage if film else None, film=film, label=label)
        result = summarise(
            episodes,
            task=manifest["task"]["name"],
            checkpoint=str(checkpoint),
            policy=label,
            wall_s=time.monotonic() - started,
            horizon=rollouts.horizon,
            control=manifest["control"],
            step=manifest.get("step"),
        )
        write_film(folder, {e.seed: e.frames for e in episodes if e.frames is not None})
        write_json(folder / COST, timed.cost())
        result.write(folder / RESULT)

    def _prepare(self, manifest: Mapping[str, Any], policy: Any) -> Any:
        from equidiff.sim.env import make_env
        from equidiff.sim.rollouts import Rollouts
        from equidiff.sim.seeing import sight_of

        task, control = manifest["task"], manifest["control"]
        seen = sight_of(manifest.get("perception"), policy.spec)
        if self._rollouts is not None and self._for != (task, control, seen):
            self.close()
        if self._rollouts is None:
            self._for = (task, control, seen)
            make = functools.partial(make_env, task, control, perception=seen[0], renderer=seen[1])
            self._rollouts = Rollouts(make, horizon=task["horizon"], workers=self.workers, batch=self.batch)
        return self._rollouts


class _Observed:
    """A policy that remembers an observation, so that its cost can be measured afterwards."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.spec = policy, policy.spec
        self._obs: dict[str, Any] | None = None

    def fit(self, batches: Any) -> None:
        """As the policy does."""
        self.policy.fit(batches)

    def loss(self, batch: Any) -> Any:
        """As the policy does."""
        return self.policy.loss(batch)

    def act(self, obs: Mapping[str, Any], noise: Any = None, generator: Any = None) -> Any:
        """As the policy does."""
        if self._obs is None:
            self._obs = {key: value[:1].clone() for key, value in obs.items()}
        return self.policy.act(obs, noise=noise, generator=generator)

    def cost(self) -> dict[str, float]:
        """Parameters; milliseconds for one chunk (median of 9, one thread); million FLOP a chunk in a batch of 128."""
        from torch.utils.flop_counter import FlopCounterMode

        assert self._obs is not None
        counter = FlopCounterMode(display=False)
        with counter:
            self.policy.act({key: value.expand(_BATCH, *value.shape[1:]) for key, value in self._obs.items()})
        times = []
        for _ in range(9):
            start = time.perf_counter()
            self.policy.act(self._obs)
            times.append(time.perf_counter() - start)
        parameters = sum(p.numel() for p in self.policy.parameters())
        mflop = counter.get_total_flops() / 1e6 / _BATCH
        return {"parameters": parameters, "mflop": mflop, "ms": 1e3 * sorted(times)[4]}


def write_film(folder: Path, frames: Mapping[int, np.ndarray[Any, Any]]) -> None:
    """Frames (F, H, W, 3) uint8 by seed, as film/<seed>.png: one lossless picture per episode, frame below frame."""
    for seed, pictures in frames.items():
        (folder / FILM).mkdir(exist_ok=True)
        info = PngInfo()
        info.add_text(_FRAMES, str(len(pictures)))
        Image.fromarray(np.concatenate(pictures)).save(folder / FILM / f"{seed}.png", pnginfo=info)


def read_film(folder: Path) -> dict[int, np.ndarray[Any, Any]]:
    """What `write_film` stored; empty if the run was not filmed."""
    found = {}
    for file in sorted((folder / FILM).glob("*.png")):
        with Image.open(file) as picture:
            strip = np.asarray(picture)
            found[int(file.stem)] = strip.reshape(int(picture.info[_FRAMES]), -1, *strip.shape[1:])
    return found


def read_cost(folder: Path) -> dict[str, float]:
    """What `_Observed.cost` measured."""
    tree: dict[str, float] = json.loads((folder / COST).read_text())
    return tree
