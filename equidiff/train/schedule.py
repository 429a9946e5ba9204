"""The learning rate over a run, and whether a run of another length would have had the same."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.optimization import get_scheduler

from equidiff.train.settings import OptimConfig

__all__ = ["make_schedule", "same_rates"]


def make_schedule(optim: OptimConfig, optimizer: torch.optim.Optimizer, total: int) -> Any:
    """The schedule of a run of `total` steps; the warm-up ends before the run does."""
    warmup = min(optim.warmup_steps, max(total - 1, 0))
    return get_scheduler(optim.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=total)


def same_rates(optim: OptimConfig, first: int, second: int, steps: int) -> bool:
    """Whether the first `steps` steps of a run have the same rates if it is to last `first` or `second` steps."""
    if first == second:
        return True
    rates = [_rates(optim, total) for total in (first, second)]
    return all(rates[0](step) == rates[1](step) for step in range(steps))


def _rates(optim: OptimConfig, total: int) -> Any:
    """The rate of each step, as a share of optim.lr."""
    return make_schedule(optim, torch.optim.SGD([torch.zeros(1)], lr=optim.lr), total).lr_lambdas[0]
