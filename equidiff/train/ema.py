"""Moving average of the weights, by diffusers' EMAModel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from diffusers.training_utils import EMAModel
from torch import nn

from equidiff.train.settings import EmaConfig

__all__ = ["averaged", "make_ema"]

_Module = TypeVar("_Module", bound=nn.Module)


def make_ema(model: nn.Module, config: EmaConfig | None) -> EMAModel | None:
    """An average that starts at the model's weights; None if there is none to be kept."""
    if config is None:
        return None
    return EMAModel(
        model.parameters(), decay=config.decay, use_ema_warmup=config.warmup, power=config.power, foreach=True
    )


@contextlib.contextmanager
def averaged(model: _Module, ema: EMAModel | None) -> Iterator[_Module]:
    """The model with the averaged weights, in eval mode; afterwards it is bit for bit what it was."""
    parameters, training = list(model.parameters()), model.training
    if ema is not None:
        ema.store(parameters)
        ema.copy_to(parameters)
    model.eval()
    try:
        yield model
    finally:
        # leaving eval mode first drops whatever layers derived from the averaged weights
        model.train(training)
        if ema is not None:
            ema.restore(parameters)
