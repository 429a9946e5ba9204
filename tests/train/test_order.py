"""Data order and random numbers depend on (seed, step) and on nothing else."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from equidiff.train.order import SampleOrder, seed_everything


@given(size=st.integers(1, 20), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_epoch_holds_every_sample_once(size: int, batch: int, seed: int) -> None:
    order = SampleOrder(size, batch, seed)
    seen = torch.cat([order(step) for step in range(1, 2 + 3 * size // batch)])
    for epoch in range(len(seen) // size):
        assert sorted(seen[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


def test_any_step_without_the_ones_before() -> None:
    straight = SampleOrder(100, 32, seed=1)
    steps = [straight(i) for i in range(1, 30)]
    assert torch.equal(SampleOrder(100, 32, seed=1)(17), steps[16])
    assert not torch.equal(SampleOrder(100, 32, seed=2)(17), steps[16])
    assert len(straight._cache) <= 3


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_all_generators_are_seeded() -> None:
    seed_everything(0, 1, 0)
    first = draws()
    assert first == (seed_everything(0, 1, 0), draws())[1]
    for other in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        seed_everything(*other)
        assert not set(first) & set(draws())
