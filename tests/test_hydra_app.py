"""What a script answers when something is wrong: a line that says which file and what to do, never a trace."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from equidiff.config import ConfigError
from equidiff.hydra_app import run_app
from equidiff.writing import naming, write_text


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[BaseException], str]:
    """What a script prints to stderr that fails with an error; its exit code is 2."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["script", "data=demos.hdf5"])

    def run(error: BaseException) -> str:
        def main(config: DictConfig) -> int:
            raise error

        with pytest.raises(SystemExit) as ended:
            run_app(main, "inspect", "doc")
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        return told.removeprefix("error: ").rstrip("\n")

    return run


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room on that disk, or write to another one, and give the command again"),
        (errno.EDQUOT, "make room on that disk"),
        (errno.EACCES, "choose a place that you may write to"),
        (errno.EROFS, "choose a place that you may write to"),
        (errno.ENOENT, "check the path"),
        (errno.EISDIR, "expected a file"),
        (errno.EIO, "HYDRA_FULL_ERROR=1 shows what was being done"),
    ],
)
def test_errors_of_files_name_the_file_and_the_remedy(
    answer: Callable[[BaseException], str], number: int, advice: str
) -> None:
    told = answer(OSError(number, os.strerror(number), "/some/file"))
    assert told.startswith(f"/some/file: {os.strerror(number)}; {advice}")


def test_notes_and_missing_names(answer: Callable[[BaseException], str]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "a", None, "b")
    error.add_note("last holds step 3: go on from there")
    assert answer(error).startswith("a and b: No space left on device; make room")
    assert answer(error).endswith("again. last holds step 3: go on from there")
    assert answer(OSError(errno.EIO, "Input/output error")).startswith("Input/output error; ")
    assert answer(ConfigError("n: expected more")) == "n: expected more"


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError("no number"), KeyError("x"), RuntimeError("a fault")])
def test_faults_of_the_program_show_where_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def main(config: DictConfig) -> int:
        raise error

    monkeypatch.setattr(sys, "argv", ["script", "data=demos.hdf5"])
    with pytest.raises(SystemExit) as ended:
        run_app(main, "inspect", "doc")
    assert ended.value.code == 1
    assert "HYDRA_FULL_ERROR=1 for a complete stack trace" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ConfigError("n"), OSError(errno.ENOSPC, "No space left on device")])
def test_the_trace_comes_back_when_asked_for(
    answer: Callable[[BaseException], str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(type(error)):
        answer(error)


def test_a_full_disk_keeps_the_earlier_file_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "deep" / "a.txt", "first")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "second")
    assert caught.value.filename == str(path)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_that_names_its_file_keeps_that_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming("outer"):
        (tmp_path / "none").read_text()
    assert caught.value.filename == str(tmp_path / "none")
