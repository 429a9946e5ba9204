"""Terminal tables: every number in its place."""

from __future__ import annotations

import pytest
from synthetic import study

from equidiff.report.table import format_table, paired_table, report_text, success_table


def test_success_table_shows_counts_intervals_and_parameters() -> None:
    lines = success_table(study({"equivariant": 49, "plain": 16})).splitlines()
    assert lines[2].split() == ["Equivariant", "49/50", "98", "%", "89", "to", "100", "%", "49/50", "110,000"]
    assert lines[3].split() == ["Plain", "16/50", "32", "%", "20", "to", "47", "%", "16/50", "220,000"]
    assert "each training" not in lines[0]


def test_success_table_of_several_trainings_shows_each() -> None:
    lines = success_table(study({"equivariant": [50, 40]})).splitlines()
    assert lines[0].endswith("each training, %")
    assert lines[2].endswith("100 80")


def test_paired_table() -> None:
    lines = paired_table(study({"equivariant": 49, "plain": 16, "augmented": 50})).splitlines()
    assert lines[2].split() == ["Plain", "33", "0", "<", "0.0001", "better"]
    assert lines[3].split() == ["Augmented", "0", "1", "1", "not", "told", "apart"]


def test_report_text_has_no_line_wider_than_asked_in_its_sentences() -> None:
    text = report_text(study({"equivariant": 49, "plain": 16}), width=60)
    sentences = text.split("\n\n")[0].splitlines()
    assert len(sentences) > 1
    assert max(map(len, sentences)) <= 60


def test_format_table_refuses_ragged_rows() -> None:
    with pytest.raises(ValueError, match="rows of 2 cells, got 1"):
        format_table(["a", "b"], [["x"]])
