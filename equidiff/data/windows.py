"""Windows of observations and actions cut from episodes, in memory or in a cache on disk."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from equidiff.data.episode import DataError, Episode
from equidiff.data.steps import ACTION, CachedEpisode, steps_of
from equidiff.fields import Displacement, RotationDelta
from equidiff.spec import Batch, Horizon, Spec

__all__ = ["Pad", "WindowDataset", "resting_action", "split_episodes"]

Pad = Literal["published", "full"]


class WindowDataset(Dataset[Batch]):
    """Windows {"obs": {key: (To, *shape)}, "action": (T, A)} of all episodes; `batch` gives many at once.

    A window starts at its first observation, T = horizon.predict, To = horizon.obs. Windows reach over
    the ends of an episode, where the first or last step is repeated:

    - pad="published": obs - 1 steps before the start, execute - 1 after the end, as in Diffusion Policy
      (Chi et al. 2023). The last steps of an episode are then never the current one.
    - pad="full": every step of the episode is the current (last observed) one of exactly one window.

    rest (A,): what a repeated action means. NaN repeats the neighbour (an absolute target is kept),
    a number replaces it (a relative motion becomes none, so that the robot rests). See `resting_action`.
    """

    def __init__(
        self,
        episodes: Sequence[Episode] | Sequence[CachedEpisode],
        horizon: Horizon,
        pad: Pad = "full",
        rest: Tensor | None = None,
    ) -> None:
        if pad not in ("published", "full"):
            raise DataError(f"data.pad: expected 'published' or 'full', got {pad!r}")
        self._source = steps_of(episodes)
        self.horizon, self.pad = horizon, pad
        self.lengths = self._source.lengths
        starts, lows, highs = [], [], []
        for base, length in zip(self._source.first, self.lengths, strict=True):
            after = horizon.execute - 1 if pad == "published" else horizon.predict - horizon.obs
            first = np.arange(1 - horizon.obs, length - horizon.predict + after + 1)
            starts.append(base + first)
            lows.append(np.full(len(first), base))
            highs.append(np.full(len(first), base + length - 1))
        self._start, self._low, self._high = (
            torch.from_numpy(np.concatenate(parts).astype(np.int64)) for parts in (starts, lows, highs)
        )
        if not len(self._start):
            raise DataError(
                f"data.pad='published': no window of {horizon.predict} steps fits episodes of at most "
                f"{max(self.lengths)} steps; use data.pad=full or a shorter horizon.predict"
            )
        size = self._source.shape(ACTION)
        if rest is not None and tuple(rest.shape) != size:
            raise DataError(f"rest: expected shape {size}, got {tuple(rest.shape)}")
        self._moves = None if rest is None or bool(rest.isnan().all()) else ~rest.isnan()
        self._rest = torch.zeros(size) if rest is None else rest.nan_to_num().float()
        self._steps = torch.arange(horizon.predict)

    @classmethod
    def of(cls, episodes: Sequence[Episode] | Sequence[CachedEpisode], spec: Spec, pad: Pad = "full") -> WindowDataset:
        """Windows as a spec needs them: its horizon, and relative motions that rest beyond the ends."""
        return cls(episodes, spec.horizon, pad, resting_action(spec))

    def __len__(self) -> int:
        return len(self._start)

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self._start.device

    @property
    def nbytes(self) -> int:
        """Memory of the arrays; what is read from disk does not count."""
        return self._source.nbytes + sum(t.nbytes for t in (self._start, self._low, self._high))

    @property
    def on_disk(self) -> bool:
        """Whether batches are read from disk, so that `to` is refused and reading ahead is worthwhile."""
        return bool(self.disk_keys)

    @property
    def disk_keys(self) -> tuple[str, ...]:
        """Observation keys that are read from disk."""
        return tuple(key for key in self._source.keys if self._source.on_disk(key))

    def window_bytes(self, blank: Collection[str] = ()) -> int:
        """Memory of one window in a batch."""
        shapes = [(key, self.horizon.obs) for key in self._source.keys if key not in blank]
        return sum(
            steps * math.prod(self._source.shape(key)) * self._source.dtype(key).itemsize
            for key, steps in [*shapes, (ACTION, self.horizon.predict)]
        )

    def to(self, device: torch.device | str) -> WindowDataset:
        """Move the arrays, so that batches are made on the device; returns itself. Not for arrays on disk."""
        self._source.to(device)
        for name in ("_start", "_low", "_high", "_rest", "_steps"):
            setattr(self, name, getattr(self, name).to(device))
        self._moves = None if self._moves is None else self._moves.to(device)
        return self

    def batch(self, indices: Tensor | Sequence[int], blank: Collection[str] = ()) -> Batch:
        """Windows number `indices` (B,) -> {"obs": {key: (B, To, *shape)}, "action": (B, T, A)}: new arrays as stored.

        blank: observation keys that are not read; zeros without memory stand for them. Threads may call it at once.
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.device)
        low, high = self._low[index, None], self._high[index, None]
        steps = self._start[index, None] + self._steps
        at = steps.clamp(low, high)
        action = self._source.take(ACTION, at)
        if self._moves is not None:
            beyond = (steps != at)[..., None] & self._moves
            action = torch.where(beyond, self._rest, action)
        seen = at[:, : self.horizon.obs]
        obs = {
            key: self._zeros(key, seen) if key in blank else self._source.take(key, seen) for key in self._source.keys
        }
        return {"obs": obs, "action": action}

    def _zeros(self, key: str, seen: Tensor) -> Tensor:
        zero = torch.zeros((), dtype=self._source.dtype(key), device=self.device)
        return zero.expand(*seen.shape, *self._source.shape(key))

    def __getitem__(self, index: int) -> Batch:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        many = self.batch([index % len(self)])
        return {"obs": {key: value[0] for key, value in many["obs"].items()}, "action": many["action"][0]}

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        many = self.batch(indices)
        return [
            {"obs": {key: value[i] for key, value in many["obs"].items()}, "action": many["action"][i]}
            for i in range(len(indices))
        ]


def resting_action(spec: Spec) -> Tensor:
    """(A,): the stored action that moves nothing; NaN where the previous value is kept.

    Displacements become 0 and relative rotations the identity; absolute targets and the gripper are kept.
    """
    rest = torch.full((spec.action_size,), float("nan"))
    for field, at in zip(spec.action.fields, spec.action_slices, strict=True):
        source = field.sources[0]
        if isinstance(source, Displacement):
            rest[at] = 0.0
        elif isinstance(source, RotationDelta):
            rest[at] = torch.eye(3).flatten() if source.storage == "matrix" else 0.0
    return rest


_Episode = TypeVar("_Episode")


def split_episodes(
    episodes: Sequence[_Episode], val_ratio: float, seed: int = 0
) -> tuple[list[_Episode], list[_Episode]]:
    """(train, valid): whole demonstrations, chosen at random but fixed by `seed`; at least one stays in each.

    val_ratio=0 keeps everything for training.
    """
    if not 0 <= val_ratio < 1:
        raise DataError(f"data.val_ratio: expected 0 <= ratio < 1, got {val_ratio}")
    if val_ratio == 0:
        return list(episodes), []
    if len(episodes) < 2:
        raise DataError(
            f"data.val_ratio={val_ratio} needs at least two demonstrations, got {len(episodes)}; set it to 0"
        )
    count = min(max(1, round(val_ratio * len(episodes))), len(episodes) - 1)
    held_out = set(np.random.default_rng(seed).permutation(len(episodes))[:count].tolist())
    train = [e for i, e in enumerate(episodes) if i not in held_out]
    return train, [e for i, e in enumerate(episodes) if i in held_out]
