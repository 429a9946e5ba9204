"""`make test`: which tests run side by side, and which alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/run_tests.py"
TIMED = "import pytest\n\n@pytest.mark.realtime\ndef test_timed():\n    assert {}\n"
PLAIN = "def test_plain():\n    assert {}\n"


def run(folder: Path, *arguments: str, plain: bool = True, timed: bool = True) -> tuple[int, str]:
    """Exit code and output over one test of each kind, each of which passes or fails as told."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = \n    realtime: it\n    other: it\n")
    (folder / "test_plain.py").write_text(PLAIN.format(plain))
    (folder / "test_timed.py").write_text(TIMED.format(timed))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "-p", "no:cacheprovider", "-v", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_each_test_runs_once_and_those_in_real_time_alone(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert code == 0, said
    side_by_side, alone = said.split("test session starts")[1:]
    assert "[gw" in side_by_side
    assert "test_plain.py::test_plain" in side_by_side
    assert "test_timed" not in side_by_side
    assert "[gw" not in alone
    assert "test_timed.py::test_timed PASSED" in alone
    assert "test_plain" not in alone


@pytest.mark.parametrize(("plain", "timed"), [(False, True), (True, False)])
def test_a_failure_in_either_part_fails_and_both_are_run(tmp_path: Path, plain: bool, timed: bool) -> None:
    code, said = run(tmp_path, "-n", "0", plain=plain, timed=timed)
    assert code == 1
    assert said.count("1 passed") == said.count("1 failed") == 1


def test_a_choice_of_ones_own_holds_for_both_parts(tmp_path: Path) -> None:
    assert run(tmp_path, "-n", "0", "test_plain.py")[0] == 0
    assert run(tmp_path, "-n", "0", "-m", "other")[0] == 5
    code, said = run(tmp_path, "-n", "0", "-m", "realtime or other", plain=False)
    assert code == 0, said
    assert "1 passed" in said
