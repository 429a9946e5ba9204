"""Settings are checked before anything is read, and say what was meant."""

from __future__ import annotations

import pytest

from equidiff.train.settings import EmaConfig, OptimConfig, TrainerConfig, TrainError, from_node


def test_steps_epochs_and_the_papers_count() -> None:
    assert TrainerConfig(max_steps=7).total_steps(1000, 5) == 7
    assert TrainerConfig(max_steps=None, epochs=3, batch_size=128).total_steps(300, 5) == 3 * 3
    # the paper: 50000 / n_demo epochs
    assert TrainerConfig(max_steps=None, demo_epochs=50000, batch_size=64).total_steps(640, 100) == 500 * 10


@pytest.mark.parametrize(
    "given", [{"max_steps": None}, {"epochs": 2}, {"max_steps": None, "epochs": 1, "demo_epochs": 1}]
)
def test_exactly_one_length(given: dict[str, int | None]) -> None:
    with pytest.raises(TrainError, match="exactly one of max_steps, epochs and demo_epochs"):
        TrainerConfig(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "node", "message"),
    [
        (TrainerConfig, {"max_stepz": 3}, r"x: no setting 'max_stepz'; did you mean 'max_steps'\?; it has: max_steps"),
        (TrainerConfig, {"batch_size": 0}, "trainer.batch_size: expected a number >= 1, got 0"),
        (TrainerConfig, {"log_every": 0}, "trainer.log_every: expected a number >= 1, got 0"),
        (TrainerConfig, {"clip_norm": -1.0}, "trainer.clip_norm"),
        (
            TrainerConfig,
            {"mixed_precision": "bf61"},
            r"one of auto, no, fp16, bf16, got 'bf61'; did you mean 'bf16'\?",
        ),
        (
            TrainerConfig,
            {"ema": {"deccay": 0.9}},
            r"trainer.ema: no setting 'deccay'; did you mean 'decay'\?",
        ),
        (TrainerConfig, {"ema": {"decay": 1.5}}, "trainer.ema.decay"),
        (TrainerConfig, {"batch_size": "many"}, "trainer.batch_size: expected a whole number, got 'many'"),
        (TrainerConfig, {"max_steps": 2.5}, "trainer.max_steps: expected a whole number, got 2.5"),
        (TrainerConfig, {"seed": True}, "trainer.seed: expected a whole number, got True"),
        (OptimConfig, {"lr": "1e-4x"}, "optim.lr: expected a number >= 0, got '1e-4x'"),
        (OptimConfig, {"schedule": "cosin"}, r"optim.schedule: .*did you mean 'cosine'\?"),
        (OptimConfig, {"betas": [0.9, 1.0]}, "optim.betas"),
        (OptimConfig, {"lr": -1}, "optim.lr: expected a number >= 0, got -1"),
    ],
)
def test_mistakes(kind: type, node: dict[str, object], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        from_node(kind, node, "x")


def test_round_numbers_in_scientific_notation() -> None:
    config = TrainerConfig(max_steps=3e3)  # type: ignore[arg-type]
    assert config.max_steps == 3000
    assert isinstance(config.max_steps, int)


def test_ema_from_a_config_node() -> None:
    assert from_node(TrainerConfig, {"ema": {"decay": 0.9999, "warmup": True}}, "trainer").ema == EmaConfig(
        0.9999, True
    )
