"""The sentences and tests of a comparison say what the outcomes say, also when they disappoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import result, study

from equidiff.report.study import Entrant, Run, format_p, headline, read_metrics, series, versus
from equidiff.results import ResultError
from equidiff.statistics import Paired, Proportion


def test_headline_names_better_level_and_goal() -> None:
    lead, *rest = headline(study({"equivariant": 49, "plain": 16, "augmented": 50}))
    assert lead == (
        "From 5 demonstrations, the equivariant policy solves 49 of 50 new episodes of lift: 98 %, "
        "95 % interval 89 to 100 %."
    )
    assert rest == [
        "It is clearly better than plain (16 of 50, p < 0.0001).",
        "These episodes do not tell it from augmented (50 of 50, p = 1).",
        "The goal of 95 % is met.",
    ]


def test_headline_admits_defeat() -> None:
    _, *rest = headline(study({"equivariant": 30, "plain": 30, "augmented": 50}))
    assert rest == [
        "These episodes do not tell it from plain (30 of 50, p = 1).",
        "It is clearly worse than augmented (50 of 50, p < 0.0001).",
        "The goal of 95 % is missed by 35 points.",
    ]


def test_headline_without_rivals_or_goal_is_one_sentence() -> None:
    assert len(headline(study({"equivariant": 47}, goal=None))) == 1


def test_goal_is_met_exactly_at_the_goal() -> None:
    assert headline(study({"equivariant": 45}, goal=0.9))[-1] == "The goal of 90 % is met."
    assert headline(study({"equivariant": 44}, goal=0.9))[-1] == "The goal of 90 % is missed by 2 points."
    pooled = headline(study({"equivariant": [49, 45, 48]}))
    assert "94.7 %, 95 %" in pooled[0]  # not rounded up to the goal
    assert pooled[-1] == "The goal of 95 % is missed by 0.3 points."


def test_several_trainings_are_pooled_and_matched_by_seed() -> None:
    made = study({"equivariant": [50, 40], "plain": [10, 40]})
    first, second = made.entrants
    assert first.pooled == Proportion(90, 100)
    assert first.rates == (1.0, 0.8)
    # the synthetic outcomes of one training seed are nested, so the table is known
    assert versus(first, second) == Paired(both=50, only_first=40, only_second=0, neither=10)
    turned = Entrant(second.key, second.label, second.runs[::-1])
    assert versus(first, turned) == versus(first, second)
    assert "pooled over 2 trainings" in headline(made)[0]


def test_versus_refuses_other_training_seeds() -> None:
    first = Entrant("a", "A", (Run(0, result(3)),))
    with pytest.raises(ResultError, match=r"seeds \[0\], 'B' with \[1\]"):
        versus(first, Entrant("b", "B", (Run(1, result(3)),)))


def test_an_entrant_needs_different_runs() -> None:
    with pytest.raises(ResultError, match="different training seeds"):
        Entrant("a", "A", ())
    with pytest.raises(ResultError, match="different training seeds"):
        Entrant("a", "A", (Run(0, result(3)), Run(0, result(4))))


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "p = 1"), (0.99999, "p = 1"), (0.0123, "p = 0.012"), (1e-4, "p = 0.0001"), (9e-5, "p < 0.0001")],
)
def test_format_p(p: float, text: str) -> None:
    assert format_p(p) == text


def test_metrics_of_a_running_training_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == ()
    file.write_text('{"step": 1, "train/loss": 0.5}\n{"step": 2, "train/loss": NaN}\n{"step": 3, "tra')
    rows = read_metrics(file)
    assert [row["step"] for row in rows] == [1, 2]
    assert series(rows, "train/loss") == ((1.0, 0.5),)
    assert series(rows, "valid/loss") == ()


@pytest.mark.parametrize("text", ['{"step": 1\n{"step": 2}\n', '[1]\n{"step": 2}\n'])
def test_damaged_metrics_name_the_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(text)
    with pytest.raises(ResultError, match="line 1"):
        read_metrics(file)
