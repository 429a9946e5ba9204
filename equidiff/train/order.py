"""Randomness as a function of (seed, step), so that a resumed run needs no stored generator state.

Every optimiser step seeds the generators anew from (seed, step, process). What validation or an
evaluation in between draws therefore changes nothing, and a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["SampleOrder", "seed_everything"]


class SampleOrder:
    """Which samples each step sees: one permutation after another, each from (seed, epoch), cut into batches.

    Batches cross the border between epochs, so no sample is dropped and a batch may exceed the data set.

    >>> order = SampleOrder(size=3, batch=2, seed=0)
    >>> sorted(torch.cat([order(1), order(2), order(3)]).tolist())
    [0, 0, 1, 1, 2, 2]
    """

    def __init__(self, size: int, batch: int, seed: int) -> None:
        self.size, self.batch, self.seed = size, batch, seed
        self._cache: dict[int, Tensor] = {}

    def __call__(self, step: int) -> Tensor:
        """Indices (batch,) of step 1, 2, ..."""
        first, last = (step - 1) * self.batch, step * self.batch
        parts = []
        while first < last:
            epoch, at = divmod(first, self.size)
            part = self._epoch(epoch)[at : at + last - first]
            parts.append(part)
            first += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._cache:
            for old in [e for e in self._cache if e < epoch - 1]:
                del self._cache[old]
            self._cache[epoch] = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(self.size))
        return self._cache[epoch]


def seed_everything(*about: int | str, device: torch.device | None = None) -> None:
    """Seed python, numpy, torch and, if given, the CUDA device from `about`, e.g. (seed, step, process)."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "little") >> 1
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002  (third-party augmentations draw from it)
    # not torch.manual_seed: without CUDA it formats a stack trace on every call
    torch.default_generator.manual_seed(value)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
