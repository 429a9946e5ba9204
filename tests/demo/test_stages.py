"""A stage is reused only if it is complete and made with the same settings, and never deletes what is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from equidiff.demo.settings import DemoError
from equidiff.demo.stages import Stage, clear


def test_a_finished_stage_is_recognised_by_its_settings(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a", {"steps": 3, "what": ["x"]})
    assert not stage.begun
    stage.begin()
    assert stage.begun
    assert not stage.finished
    stage.finish(wall_s=1.5)
    assert Stage(tmp_path / "a", {"what": ["x"], "steps": 3}).finished  # order of keys does not matter
    assert stage.note["wall_s"] == 1.5
    other = Stage(tmp_path / "a", {"steps": 4, "what": ["x"]})
    assert not other.begun
    assert other.changes() == "steps was 3, now 4"
    assert stage.changes() == ""


def test_begin_goes_on_with_equal_settings_and_empties_otherwise(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a", {"steps": 3})
    stage.begin()
    kept = stage.folder / "checkpoint"
    kept.touch()
    stage.begin()
    assert kept.exists()
    Stage(tmp_path / "a", {"steps": 4}).begin()
    assert not kept.exists()


def test_clear_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a", {"steps": 3})
    clear(stage.folder)
    stage.begin()
    stage.finish()
    clear(stage.folder)
    assert not stage.finished
    assert not stage.folder.exists()


def test_begin_refuses_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for claim in (Stage(tmp_path, {"steps": 3}).begin, lambda: clear(tmp_path), lambda: clear(tmp_path / "thesis.tex")):
        with pytest.raises(DemoError, match="did not make"):
            claim()
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("text", ['{"fingerprint": ', "[]"])
def test_a_damaged_note_means_not_begun(tmp_path: Path, text: str) -> None:
    stage = Stage(tmp_path / "a", {"steps": 3})
    stage.begin()
    (stage.folder / "stage.json").write_text(text)
    assert not stage.begun
    stage.begin()
    assert stage.begun
