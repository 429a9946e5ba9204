"""The page is one file, well-formed, complete and safe against what is written into it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from page_reader import read
from synthetic import clip, study

from equidiff.report.page import render, write_page
from equidiff.report.pictures import contact_sheet, write_video


@pytest.mark.parametrize("counts", [{"equivariant": 49}, {"equivariant": 49, "plain": 16, "augmented": 50}])
def test_page_is_complete_and_self_contained(tmp_path: Path, counts: dict[str, int]) -> None:
    sheet = tmp_path / "sheet.png"
    contact_sheet([clip()]).save(sheet)
    video = write_video(tmp_path / "video.mp4", [[clip()]])
    page = read(render(study(counts), sheet=sheet, video=video))
    assert [a[:15] for a in page.addresses] == ["data:,", "data:image/png;", "data:video/mp4;"]
    text = " ".join(page.text)
    for part in (
        "98 %, 95 % interval 89 to 100 %",
        "Training loss",
        "Validation loss",
        "make demo TASK=lift",
        "110,000",
    ):
        assert part in text
    assert ("side by side" in text) == (len(counts) > 1)


def test_page_names_no_external_resource() -> None:
    page = render(study({"equivariant": 49, "plain": 16}))
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert "@import" not in page


def test_labels_cannot_inject_markup() -> None:
    evil = study({"equivariant": 49, "plain": 1}, label={"plain": "<script>alert(1)</script>"})
    page = render(dataclasses.replace(evil, title="<b>title", notes=("<i>note",)))
    read(page)
    assert "<script>alert" not in page
    assert "<b>title" not in page
    assert "<i>note" not in page


def test_a_large_video_stays_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "video.mp4", [[clip()]])
    monkeypatch.setattr("equidiff.report.page._EMBED_LIMIT", 10)
    page = read(render(study({"equivariant": 49}), video=video))
    assert page.addresses == ["data:,", "video.mp4"]


def test_dots_and_strips_of_several_trainings() -> None:
    page = render(study({"equivariant": [50, 40], "plain": [10, 20]}))
    assert "Dots: each training" in page
    assert "Plain, 2" in page


def test_write_page_replaces_in_one_step(tmp_path: Path) -> None:
    path = write_page(tmp_path / "deep" / "report.html", study({"equivariant": 49}))
    before = path.read_text()
    with pytest.raises(FileNotFoundError):
        write_page(path, study({"equivariant": 10}), sheet=tmp_path / "none.png")
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
