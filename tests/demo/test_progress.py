"""Signs of life, and what a script says is shown and kept."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from equidiff.demo import progress
from equidiff.demo.machine import cores, cpu, versions
from equidiff.demo.progress import follow, heartbeat


def test_follow_shows_keeps_and_ticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUIET_S", 0.2)
    code = "import time; print('one', flush=True); time.sleep(2.5); print('two')"
    follow((sys.executable, "-c", code), tmp_path / "x" / "log", cwd=tmp_path, what="counting")
    assert (tmp_path / "x" / "log").read_text() == "one\ntwo\n"
    shown = capsys.readouterr().err
    assert shown.startswith(("one\n.", ".\none\n"))
    assert shown.endswith("\ntwo\n")


def test_heartbeat_draws_while_the_work_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with heartbeat("loading"):
        time.sleep(2.3)
    shown = capsys.readouterr().err
    assert "loading 00:01" in shown
    assert "loading 00:02" in shown


def test_heartbeat_ends_when_the_work_fails() -> None:
    import threading

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"), heartbeat("loading"):
        raise ValueError("broken")
    assert threading.active_count() <= before + 1  # tqdm's own monitor may have started


def test_machine_is_described(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast CPU 3000\n")
    assert cpu(str(file)) == "Fast CPU 3000"
    assert cpu(str(tmp_path / "none"))
    assert cores() >= 1
    assert {"python", "torch"} <= set(versions())
