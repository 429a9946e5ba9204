"""The local file is always complete up to the step a run goes on from; wandb needs no key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from equidiff.train.loggers import JsonLines, Wandb, read_lines, wandb_mode


def test_lines_after_the_resumed_step_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    log = JsonLines(path)
    for step in (1, 2, 3):
        log.log(step, {"train/loss": step / 2})
        assert len(read_lines(path)) == step  # at once, for those who watch
    log.close()
    with path.open("a") as file:
        file.write('{"step": 4, "tra')  # a kill while writing
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3]
    again = JsonLines(path, after=2)
    again.log(3, {"train/loss": 9.0})
    again.close()
    assert read_lines(path) == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 1.0},
        {"step": 3, "train/loss": 9.0},
    ]


def test_a_damaged_line_in_the_middle_is_not_ignored(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(json.JSONDecodeError):
        read_lines(path)
    assert read_lines(tmp_path / "none") == []


def test_wandb_mode(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert wandb_mode(home) == "offline"
    assert wandb_mode({**home, "WANDB_API_KEY": "k"}) == "online"
    assert wandb_mode({**home, "WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}) == "disabled"
    (tmp_path / ".netrc").write_text("machine wandb.example login user password k\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode(home) == "offline"
    assert wandb_mode({**home, "WANDB_BASE_URL": "https://wandb.example"}) == "online"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_runs_offline_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (1, 2):
        run = Wandb(tmp_path / "run", {"seed": 0})
        run.log(step, {"train/loss": 0.5})
        run.close()
    folders = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    identity = (tmp_path / "run" / "wandb_id").read_text()
    assert folders
    # resumed, not a second run; within one second wandb numbers the folders of a run
    assert all(re.fullmatch(rf"offline-run-\d+_\d+-{identity}(-\d+)?", folder.name) for folder in folders)
