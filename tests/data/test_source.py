"""From the config's node `data` to demonstrations."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest
from demo_files import TASK, toy_spec, write_demos

from equidiff.data import DataError
from equidiff.data.source import load_training_data


def test_valid_mask_or_ratio(tmp_path: Path) -> None:
    spec, prepared = toy_spec(), tmp_path / "prepared"
    masked = write_demos(tmp_path / "a.hdf5", n=5, valid_fraction=0.4)
    source = load_training_data(
        {"path": str(masked), "n_demo": 2, "valid_mask": "valid"}, spec, "absolute", TASK, prepared
    )
    assert [e.name for e in source.train] == ["demo_0", "demo_1"]
    assert [e.name for e in source.valid] == ["demo_3", "demo_4"]
    assert source.about["n_demo"] == 2
    assert len(source.about["fingerprint"]) == 64
    plain = write_demos(tmp_path / "b.hdf5", n=5)
    source = load_training_data({"path": str(plain), "val_ratio": 0.2}, spec, "absolute", TASK, prepared)
    assert (len(source.train), len(source.valid)) == (4, 1)
    assert not prepared.exists()


def test_misspelt_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no setting 'n_demos'; did you mean 'n_demo'\?"):
        load_training_data({"path": "x", "n_demos": 3}, toy_spec(), "absolute", TASK, tmp_path)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A file without absolute actions, as MimicGen makes them."""
    path = write_demos(tmp_path / "foreign.hdf5", n=3)
    with h5py.File(path, "a") as file:
        for name in file["data"]:
            del file[f"data/{name}/actions_abs"]
    return path


def test_without_the_simulator_the_error_names_the_command(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"has no actions_abs.*pip install 'equidiff\[sim\]'"):
        load_training_data({"path": str(foreign)}, toy_spec(), "absolute", TASK, foreign.parent)


def test_missing_arrays_are_prepared_once(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def prepare(path: Path, task: Mapping[str, Any], out: Path, progress: bool) -> Path:
        calls.append(task["name"])
        return write_demos(out, n=3)

    module = types.ModuleType("equidiff.sim.prepare")
    module.prepare_states = prepare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "equidiff.sim.prepare", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    before = foreign.read_bytes()
    for _ in range(2):
        source = load_training_data({"path": str(foreign)}, toy_spec(), "absolute", TASK, tmp_path / "prepared")
        assert len(source.train) == 3
    assert calls == ["lift"]
    assert source.about["path"] == str(foreign)
    assert foreign.read_bytes() == before
    assert "deriving them from its states" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == [
        f"foreign_lift_{source.about['fingerprint'][:12]}.hdf5"
    ]
