"""The record of a run on a disk that takes no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from disk_toys import small_disk

from real_robot.loop.journal import Journal
from real_robot.records import RecordError, RecordWriter, read_records


def test_a_full_disk_is_a_record_error_and_what_was_written_is_readable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = RecordWriter(tmp_path)
    written = 0

    def fill() -> None:
        nonlocal written
        while True:
            writer.write("marker", float(written), {"text": "x" * 40})
            written += 1

    with small_disk(2000):
        with pytest.raises(RecordError, match=r"run.jsonl: File too large; free space, the run cannot be recorded"):
            fill()
        writer.close()  # what was buffered is lost; told, not raised
        writer.close()
    assert 10 < written < 40
    assert "the end of the record is lost" in capsys.readouterr().out
    assert [row["t"] for row in read_records(tmp_path / "run.jsonl")] == [float(i) for i in range(written)]


def test_a_run_goes_on_without_its_record_and_knows_it(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    journal = Journal(writer, lambda text: None)
    with small_disk(500):
        for i in range(50):
            journal.tell("marker", float(i), {"text": "x" * 40})
        assert journal.broken is not None
        assert "File too large" in journal.broken.detail
        writer.close()


def test_a_folder_that_cannot_be_made_is_a_record_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"Not a directory; the run cannot be recorded, give another run_dir"):
        RecordWriter(tmp_path / "file" / "run")
