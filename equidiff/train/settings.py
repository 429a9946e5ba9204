"""Settings of a training run, checked before any data is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from equidiff.config import did_you_mean

__all__ = ["EmaConfig", "OptimConfig", "TrainError", "TrainerConfig", "from_node"]

_SCHEDULES = ("cosine", "constant", "constant_with_warmup", "linear", "cosine_with_restarts", "polynomial")
_PRECISIONS = ("auto", "no", "fp16", "bf16")


class TrainError(ValueError):
    """A training run that cannot start or go on as asked; the message says which setting and the fix."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and the learning rate's schedule (names of diffusers.optimization.SchedulerType)."""

    lr: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    schedule: str = "cosine"
    warmup_steps: int = 200

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        _choice("optim.schedule", self.schedule, _SCHEDULES)
        _at_least("optim.lr", self.lr, 0)
        _at_least("optim.weight_decay", self.weight_decay, 0)
        _at_least("optim.eps", self.eps, 0)
        object.__setattr__(self, "warmup_steps", _whole("optim.warmup_steps", self.warmup_steps))
        _at_least("optim.warmup_steps", self.warmup_steps, 0)
        if len(self.betas) != 2 or not all(isinstance(b, int | float) and 0 <= b < 1 for b in self.betas):
            raise TrainError(f"optim.betas: expected two numbers in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class EmaConfig:
    """Moving average of the weights, as diffusers' EMAModel takes it.

    With warmup the decay is 1 - (1 + step)^-power, at most `decay`; without, (1 + step) / (10 + step), at most `decay`.
    """

    decay: float = 0.999
    warmup: bool = False
    power: float = 0.75

    def __post_init__(self) -> None:
        _at_least("trainer.ema.power", self.power, 0)
        _at_least("trainer.ema.decay", self.decay, 0)
        if self.decay >= 1:
            raise TrainError(f"trainer.ema.decay: expected 0 <= decay < 1, got {self.decay}")


@dataclass(frozen=True)
class TrainerConfig:
    """The loop. Steps are optimiser steps; `batch_size` counts the samples of one step over all processes.

    Exactly one of these says how long: max_steps; epochs (passes over the training windows);
    demo_epochs (epochs = demo_epochs / number of demonstrations, as the paper counts).
    stop_after: save and stop after this step; the schedule stays that of the whole run.
    mixed_precision: see `precision.choose_precision`.
    read_ahead: batches that threads read from disk meanwhile; it changes the time, not the result.
    """

    max_steps: int | None = 3000
    epochs: int | None = None
    demo_epochs: int | None = None
    stop_after: int | None = None
    batch_size: int = 128
    accumulate: int = 1
    mixed_precision: str = "no"
    clip_norm: float | None = None
    ema: EmaConfig | None = field(default_factory=EmaConfig)
    log_every: int = 50
    valid_every: int | None = 250
    eval_every: int | None = None
    save_every: int | None = 1000
    threads: int | None = 1
    read_ahead: int = 2
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.ema, Mapping):
            object.__setattr__(self, "ema", from_node(EmaConfig, self.ema, "trainer.ema"))
        given = [name for name in ("max_steps", "epochs", "demo_epochs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise TrainError(
                "trainer: exactly one of max_steps, epochs and demo_epochs says how long to train, got "
                f"{', '.join(given) or 'none'}; set the others to null"
            )
        counts = ("max_steps", "epochs", "demo_epochs", "stop_after", "batch_size", "accumulate", "threads")
        for name in (*counts, "log_every", "valid_every", "eval_every", "save_every"):
            count = _whole(f"trainer.{name}", getattr(self, name))
            _at_least(f"trainer.{name}", count, 1)
            object.__setattr__(self, name, count)
        for name in ("seed", "read_ahead"):
            object.__setattr__(self, name, _whole(f"trainer.{name}", getattr(self, name)))
            _at_least(f"trainer.{name}", getattr(self, name), 0)
        _at_least("trainer.clip_norm", self.clip_norm, 0)
        _choice("trainer.mixed_precision", self.mixed_precision, _PRECISIONS)
        _choice("trainer.device", self.device, ("auto", "cpu"))

    def total_steps(self, windows: int, demonstrations: int) -> int:
        """Optimiser steps of the whole run."""
        if self.max_steps is not None:
            return self.max_steps
        epochs = self.epochs
        if epochs is None:
            assert self.demo_epochs is not None
            epochs = max(1, round(self.demo_epochs / demonstrations))
        return epochs * math.ceil(windows / self.batch_size)


_Config = TypeVar("_Config", OptimConfig, EmaConfig, TrainerConfig)


def from_node(kind: type[_Config], node: Mapping[str, Any], at: str) -> _Config:
    """Settings from a config node; an unknown name says what was meant."""
    known = [f.name for f in dataclasses.fields(kind)]
    for key in node:
        if key not in known:
            raise TrainError(f"{at}: no setting {key!r}{did_you_mean(str(key), known)}; it has: {', '.join(known)}")
    try:
        return kind(**{str(k): v for k, v in node.items()})
    except TypeError as error:
        raise TrainError(f"{at}: {error}") from error


def _at_least(name: str, value: Any, least: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise TrainError(f"{name}: expected a number >= {least}, got {value!r}")


def _whole(name: str, value: Any) -> int | None:
    """An integer; also one that was written like 3e3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise TrainError(f"{name}: expected a whole number, got {value!r}")
    return value


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TrainError(f"{name}: expected one of {', '.join(known)}, got {value!r}{did_you_mean(str(value), known)}")
