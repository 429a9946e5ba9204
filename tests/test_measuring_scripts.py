"""What scripts/laws_table.py and scripts/bench_published.py measure, on the smallest cases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def laws(name: str, order: int) -> dict[str, dict[str, float | None]]:
    from laws_table import ROWS, errors_of

    row = next(row for row in ROWS if row.name == name)
    return errors_of(row, order, OmegaConf.create({"angles": [90, 45], "batch": 2}))


def test_the_laws_hold_where_they_should_and_only_there() -> None:
    exact = laws("state", 8)
    assert all(error is not None and error < 1e-10 for row in exact.values() for error in row.values())
    between = laws("state", 4)["45"]
    assert between["encoder"] is None
    assert between["denoiser"] is None
    assert between["sampler"] is not None
    assert between["sampler"] > 1e-3
    strict, free = laws("soft state, weight 0", 4)["90"], laws("soft state, weight 1", 4)["90"]
    assert strict["encoder"] is not None
    assert free["encoder"] is not None
    assert strict["encoder"] < 1e-10 < 1e-4 < free["encoder"]


def test_every_row_is_another_policy() -> None:
    from laws_table import ROWS

    assert len({(row.name, row.size) for row in ROWS}) == len({row.overrides for row in ROWS}) == len(ROWS)


def test_a_step_of_a_published_policy_is_measured() -> None:
    small = ["encoder.channels=16", "denoiser.widths=[16,32]", "denoiser.step_embedding=16"]
    config = {"task": "stack_d1", "batch": 2, "repeats": 1, "overrides": small}
    # in a process of its own, as the script does: the peak is that of everything the process ever did
    program = (
        "import json\nfrom omegaconf import OmegaConf\nfrom bench_published import measured\n"
        f"print(json.dumps(measured('equidiff_image_abs', OmegaConf.create({config}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "scripts", capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"parameters", "step_s", "peak_mb", "imports_mb", "build_s"}
    assert found["peak_mb"] > found["imports_mb"] > 50
    assert found["step_s"] > 0
    assert found["parameters"] > 11_199_744  # the wrist's network alone


def test_the_recorded_rendering_holds_and_the_verdict_can_fail() -> None:
    from bench_rendering import shortcomings

    tasks = json.loads((ROOT / "docs/measurements/rendering.json").read_text())["tasks"]
    assert len(tasks) >= 3
    assert shortcomings(tasks) == []
    slow = {"speedup": {"fast": 9.9}, "difference": {"fast": 3.0}}
    assert shortcomings({"lift": slow}) == [
        "lift: 9.9 times as many pictures, expected at least 10",
        "lift: 3.0 grey levels off, expected less than 3",
    ]
