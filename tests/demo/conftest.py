"""A checkout whose scripts are quick stand-ins, so that the stages can be tested without simulator and training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from equidiff.demo.evaluation import COST, RESULT, write_film
from equidiff.results import RolloutResult, write_json

GENERATE = """
import sys
from pathlib import Path
options = dict(a.split("=", 1) for a in sys.argv[1:])
out = Path(options["out"])
out.write_text(options["n"])
print("recorded", options["n"])
"""

TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
options = dict(a.split("=", 1) for a in sys.argv[1:])
folder, steps = Path(options["run_dir"]), int(options["trainer.max_steps"])
if options.get("fail") == "true":
    sys.exit("no gradient today")
time.sleep(float(options.get("late", 0)))
with open(folder / "calls", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
def stop(*_):
    (folder / "checkpoints" / "last").mkdir(parents=True, exist_ok=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
with open(folder / "metrics.jsonl", "a") as file:
    for step in range(1, steps + 1):
        file.write(json.dumps({"step": step, "train/loss": 1 / step}) + "\\n")
        file.flush()
        if options.get("slow") == "true" and "resume" not in options:
            (folder / "running").touch()
            time.sleep(60)
(folder / "checkpoints" / "final").mkdir(parents=True)
"""

CONFIG = """
task: lift
n_demo: 2
n_valid: 1
steps: 3
rollouts: 4
film: 2
goal: 0.5
policies:
  equivariant: {label: Equivariant, overrides: [symmetry=c8]}
  plain: {label: Plain, overrides: [symmetry=trivial]}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The checkout."""
    folder = tmp_path / "checkout"
    for name in (
        "scripts",
        "configs/demo",
        "configs/task",
        "configs/optim",
        "equidiff/train",
        "equidiff/sim",
        "equidiff/demo",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "scripts" / "generate_demos.py").write_text(GENERATE)
    (folder / "scripts" / "train.py").write_text(TRAIN)
    (folder / "configs" / "demo" / "lift.yaml").write_text(CONFIG)
    for name in ("lift", "stack"):
        (folder / "configs" / "task" / f"{name}.yaml").write_text(f"name: {name}\n")
    (folder / "configs" / "optim" / "adamw.yaml").write_text("lr: 1\n")
    for name in ("policy.py", "train/trainer.py", "sim/env.py", "demo/run.py"):
        (folder / "equidiff" / name).write_text("x = 1\n")
    return folder


class FakeEvaluation:
    """Solves every episode if the run's command named c8, else every second."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(
        self, checkpoint: Path, folder: Path, *, label: str, seeds: Sequence[int], film: Sequence[int]
    ) -> None:
        assert checkpoint.is_dir()
        self.calls.append(label)
        clever = "symmetry=c8" in (checkpoint.parent.parent / "calls").read_text()
        success = tuple(clever or seed % 2 == 0 for seed in seeds)
        steps = (100,) * len(seeds)
        RolloutResult("lift", str(checkpoint), label, tuple(seeds), success, success, steps, 1.0).write(folder / RESULT)
        pictures = {seed: np.arange(3 * 32 * 48 * 3, dtype=np.uint8).reshape(3, 32, 48, 3) for seed in film}
        write_film(folder, pictures)
        write_json(folder / COST, {"parameters": 1000, "mflop": 2.5, "ms": 20.125})


@pytest.fixture
def evaluation() -> FakeEvaluation:
    """Stands in for the simulator."""
    return FakeEvaluation()


@pytest.fixture
def calls(root: Path) -> Callable[[Path], list[str]]:
    """Command lines that the training in a folder got."""
    return lambda folder: (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def read(path: Path) -> dict[str, object]:
    """JSON of a file."""
    tree: dict[str, object] = json.loads(path.read_text())
    return tree
