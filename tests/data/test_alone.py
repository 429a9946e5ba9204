"""One process at a time in a folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from equidiff.data import DataError
from equidiff.data.alone import alone, clear_folder, lock_folder


def test_the_second_is_refused_or_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, began = tmp_path / "deep" / "parts", threading.Event()

    def wait() -> None:
        began.set()
        with alone(folder, waiting="waiting for the other one"):
            order.append("second")

    order: list[str] = []
    lock = lock_folder(folder)
    with pytest.raises(DataError, match="parts: another process is at work there"):
        lock_folder(folder)
    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(5)
    thread.join(0.7)
    assert thread.is_alive()
    order.append("first")
    (folder / "piece.hdf5").write_bytes(b"x")
    clear_folder(folder)
    lock.release()
    thread.join(10)
    assert order == ["first", "second"]
    assert capsys.readouterr().out == "waiting for the other one\n"
    assert folder.is_dir()  # made again by the one that waited


def test_a_folder_that_another_process_begins_in_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parts"
    lock, rmdir = lock_folder(folder), Path.rmdir

    def begun_meanwhile(self: Path) -> None:
        (self / "settings.json").write_text("{}")
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", begun_meanwhile)
    clear_folder(folder)
    lock.release()
    assert [p.name for p in folder.iterdir()] == ["settings.json"]
