"""On a GPU: the same actions as on the CPU, and a run that stops and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_toys import SPEC, settings, trainer, weights

from equidiff.checkpoint import load_policy
from equidiff.testing import random_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_actions_are_those_of_the_cpu(tmp_path: Path) -> None:
    trained = trainer(tmp_path / "run", settings(device="cpu")).run()
    here = load_policy(trained.checkpoint)
    there = load_policy(trained.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    obs = random_batch(SPEC, 5, torch.Generator().manual_seed(0))["obs"]
    noise = torch.randn(5, *here.noise_shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        there.act(obs, noise).predicted.cpu(), here.act(obs, noise).predicted, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("precision", ["no", "auto"])
def test_a_run_that_stops_goes_on(tmp_path: Path, precision: str) -> None:
    whole = trainer(tmp_path / "whole", settings(mixed_precision=precision)).run()
    trainer(tmp_path / "parts", settings(mixed_precision=precision, stop_after=2)).run()
    again = trainer(tmp_path / "parts", settings(mixed_precision=precision)).run(resume=True)
    first, second = weights(whole.checkpoint), weights(again.checkpoint)
    assert first.keys() == second.keys()
    for name, value in first.items():  # sums on a GPU are not in one order
        torch.testing.assert_close(second[name], value, atol=1e-3, rtol=1e-2, msg=name)
