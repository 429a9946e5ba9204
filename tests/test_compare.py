"""scripts/compare.py: two evaluations side by side, or why they cannot be compared."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from equidiff.results import RolloutResult

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare.py"


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """Two evaluations of the same eight episodes."""
    seeds = tuple(range(100000, 100008))
    first = RolloutResult("lift", "runs/a", "equivariant", seeds, (True,) * 8, (True,) * 8, (100,) * 8, 1.0)
    second = dataclasses.replace(first, checkpoint="runs/b", policy="plain", success=(True,) + (False,) * 7)
    return [r.write(tmp_path / r.policy / "result.json") for r in (first, second)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_table_test_and_page(results: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(results[0].parent, results[1], f"html={page}", "labels=mine,theirs")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].split()[:4] == ["mine", "8/8", "100", "%"]
    assert [line.split() for line in lines if line.startswith("theirs")][1] == ["theirs", "7", "0", "0.016", "better"]
    text = page.read_text()
    assert "mine and theirs on lift" in text
    assert "python scripts/compare.py" in text


def test_same_name_twice_is_told_apart_by_the_file(results: list[Path]) -> None:
    done = run(results[0], results[0])
    assert f"equivariant ({results[0]})" in done.stdout
    assert "not told apart" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}"], "Compare two or more"),
        (["{0}", "{1}", "htm=x"], "did you mean 'html'"),
        (["{0}", "{1}", "labels=one"], "expected 2 names"),
        (["{0}", "nowhere.json"], "no such result"),
        (["{0}", "labels=a,b"], "at least two results"),
    ],
)
def test_mistakes_are_explained(results: list[Path], arguments: list[str], message: str) -> None:
    done = run(*(a.format(*results) for a in arguments))
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_other_seeds_are_refused(results: list[Path], tmp_path: Path) -> None:
    other = dataclasses.replace(RolloutResult.read(results[1]), seeds=tuple(range(8)))
    done = run(results[0], other.write(tmp_path / "other.json"))
    assert done.returncode == 1
    assert "same seeds" in done.stderr
