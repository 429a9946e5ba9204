"""The scripts one after the other, as a user runs them, in the real simulator."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from equidiff.results import RolloutResult

ROOT = Path(__file__).parents[2]
simulator = pytest.mark.skipif(importlib.util.find_spec("robosuite") is None, reason="needs the extra sim")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"scripts/{script}.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.sim
@pytest.mark.slow
@simulator
def test_demonstrations_training_and_evaluation(tmp_path: Path) -> None:
    demos, run_dir, out = tmp_path / "lift.hdf5", tmp_path / "run", tmp_path / "eval"
    done = run("generate_demos", "task=lift", "n=2", f"out={demos}", "workers=1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 demonstrations; the expert solved 2 of" in done.stdout
    small = ("trainer.max_steps=20", "trainer.eval_every=20", "evaluation.n=2", "evaluation.workers=1")
    done = run("train", "task=lift", f"data.path={demos}", f"run_dir={run_dir}", *small)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rates = [line["eval/success"] for line in metrics if "eval/success" in line]
    assert len(rates) == 1
    assert 0 <= rates[0] <= 1
    checkpoint = run_dir / "checkpoints" / "final"
    done = run("eval", f"checkpoint={checkpoint}", "n=2", "film=1", "horizon=30", f"out={out}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "lift: solved in the final state" in done.stdout
    result = RolloutResult.read(out / "result.json")
    assert (result.task, result.seeds, result.steps) == ("lift", (100000, 100001), (30, 30))
    assert {p.name for p in out.iterdir()} == {"result.json", "contact_sheet.png", "video.mp4"}


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("eval", (), "checkpoint is not set"),
        ("eval", ("checkpoint=nowhere",), "nowhere: no such checkpoint directory"),
        ("eval", ("checkpoint=x", "worker=3"), "did you mean 'workers'"),
        ("generate_demos", ("task=lfit",), "task=lfit: no such choice; did you mean 'lift'"),
        ("generate_demos", ("nn=3",), "did you mean 'n'"),
    ],
)
@pytest.mark.sim
@simulator
def test_mistakes_are_told_in_a_line(script: str, arguments: tuple[str, ...], message: str) -> None:
    done = run(script, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
