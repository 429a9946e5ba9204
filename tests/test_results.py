"""Recorded results: JSON round trip, atomic writing, comparison on the same episodes only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from equidiff.results import ResultError, RolloutResult, compare, write_json
from equidiff.statistics import Paired

RESULT = RolloutResult(
    task="lift",
    checkpoint="runs/a",
    policy="equivariant",
    seeds=(3, 1, 2),
    success=(True, False, True),
    success_any=(True, True, True),
    steps=(100, 100, 100),
    wall_s=1.25,
    details={"horizon": 100, "physics": "fast", "batch": 4},
)


def test_round_trip(tmp_path: Path) -> None:
    path = RESULT.write(tmp_path / "deep" / "result.json")
    assert RolloutResult.read(path) == RESULT
    tree = json.loads(path.read_text())
    assert (tree["successes"], tree["rollouts"], tree["successes_any"]) == (2, 3, 3)
    assert tree["interval"] == pytest.approx(RESULT.at_end.interval())


def test_compare_matches_episodes_by_seed() -> None:
    other = dataclasses.replace(RESULT, seeds=(1, 2, 3), success=(False, False, True))
    assert compare(RESULT, other) == Paired(both=1, only_first=1, only_second=0, neither=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (3, 1, 4)}, "only in the first: 2; only in the second: 4"),
        ({"task": "stack"}, "'lift' and 'stack'"),
        ({"details": {"horizon": 50}}, "horizon differs"),
        ({"details": {"physics": "robosuite"}}, r"physics differs \(fast and robosuite\)"),
    ],
)
def test_compare_refuses_other_episodes(change: dict[str, object], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        compare(RESULT, dataclasses.replace(RESULT, **change))  # type: ignore[arg-type]


def test_another_batch_is_told() -> None:
    other = dataclasses.replace(RESULT, details={**RESULT.details, "batch": 2})
    with pytest.warns(UserWarning, match=r"batch differs \(4 and 2\); .* Evaluate both with the same batch"):
        assert compare(RESULT, other) == compare(RESULT, RESULT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("success", None),
        ("success", "true"),
        ("success", [None, True, True]),
        ("success_any", [1, 0, 1]),
        ("seeds", [1, 2, True]),
        ("seeds", 3),
        ("steps", [1.5, 2, 3]),
        ("wall_s", None),
    ],
)
def test_values_of_another_kind_are_named(name: str, value: object) -> None:
    with pytest.raises(ResultError, match=rf"^mine: {name}: expected .*, got "):
        RolloutResult.from_json({**RESULT.to_json(), name: value}, where="mine")


def test_lists_of_different_length_and_repeated_seeds_are_refused() -> None:
    with pytest.raises(ResultError, match="one length"):
        dataclasses.replace(RESULT, success=(True,))
    with pytest.raises(ResultError, match="twice"):
        dataclasses.replace(RESULT, seeds=(1, 1, 2))


def test_files_that_are_no_results_say_so(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no such result"):
        RolloutResult.read(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"task": "li')
    with pytest.raises(ResultError, match="not a result"):
        RolloutResult.read(broken)
    broken.write_text('{"task": "lift"}')
    with pytest.raises(ResultError, match="has no 'checkpoint'"):
        RolloutResult.read(broken)


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]
