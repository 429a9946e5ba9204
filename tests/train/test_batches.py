"""Reading ahead and from disk change the time and the memory, not the result."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from training_toys import SPEC, assert_same, metrics, settings, trainer, windows

from equidiff.data import DemoFile, DemoWriter, WindowDataset, load_episodes
from equidiff.data.cache import open_cache
from equidiff.data.needed import needed_arrays
from equidiff.train import TrainError
from equidiff.train.batches import ReadAhead, fitting_batches, rows_of_piece, validation_draws


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with DemoWriter(tmp_path / "demos.hdf5", {}) as writer:
        for seed in range(3):
            at, grip = rng.normal(size=(10, 3)), rng.uniform(size=(10, 1))
            writer.add(seed, actions_abs=np.concatenate([at * 0.5, grip], 1), obs={"at": at, "grip": grip})
        return writer.finish()


@pytest.fixture
def on_disk(demos: Path, monkeypatch: pytest.MonkeyPatch) -> WindowDataset:
    """Windows whose smallest arrays are read from disk."""
    monkeypatch.setattr("equidiff.data.steps._SMALL", 0)
    with DemoFile(demos) as file:
        episodes = open_cache(file, needed_arrays(SPEC, "absolute"), file.names, progress=False)
    return WindowDataset.of(episodes, SPEC)


def test_training_from_disk_equals_training_from_memory(demos: Path, on_disk: WindowDataset, tmp_path: Path) -> None:
    assert on_disk.disk_keys == ("at", "grip")
    memory = WindowDataset.of(load_episodes(demos, SPEC, "absolute"), SPEC)
    more = {"valid": windows(1, seed=9), "data": {"fingerprint": "x"}}
    trainer(tmp_path / "memory", settings(max_steps=6), train=memory, **more).run()
    trainer(tmp_path / "disk", settings(max_steps=6, read_ahead=0), train=on_disk, **more).run()
    ahead = settings(max_steps=6, read_ahead=3, accumulate=2)
    trainer(tmp_path / "accumulated", settings(max_steps=6, read_ahead=0, accumulate=2), train=memory, **more).run()
    trainer(tmp_path / "ahead", settings(max_steps=6, read_ahead=3, stop_after=4), train=on_disk, **more).run()
    # from disk and ahead to the middle, from memory to the end
    trainer(tmp_path / "ahead", settings(max_steps=6), train=memory, **more).run(resume=True)
    trainer(tmp_path / "both", ahead, train=on_disk, **more).run()
    for first, second in (("memory", "disk"), ("memory", "ahead"), ("accumulated", "both")):
        assert_same(tmp_path / first / "checkpoints/last", tmp_path / second / "checkpoints/last")
        assert metrics(tmp_path / first) == metrics(tmp_path / second)
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_the_coming_steps_are_read_meanwhile_and_no_others() -> None:
    read: list[int] = []
    third = threading.Event()

    def reading(step: Tensor) -> int:
        read.append(int(step))
        if int(step) == 3:
            third.set()
        return 10 * int(step)

    ahead = ReadAhead(lambda step: torch.tensor(step), reading, last=4, depth=2)
    assert ahead(1) == 10
    assert third.wait(10)  # without being asked for
    assert [ahead(step) for step in (2, 3, 4)] == [20, 30, 40]
    ahead.close()
    assert sorted(read) == [1, 2, 3, 4]
    plain = ReadAhead(lambda step: torch.tensor(step), reading, last=9, depth=0)
    assert [plain(7), plain(8)] == [70, 80]
    plain.close()
    assert sorted(read) == [1, 2, 3, 4, 7, 8]


def test_a_failed_read_is_raised_at_its_step() -> None:
    def reading(step: Tensor) -> int:
        if int(step) == 2:
            raise OSError("the disk is gone")
        return int(step)

    ahead = ReadAhead(lambda step: torch.tensor(step), reading, last=9, depth=3)
    assert ahead(1) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(2)
    ahead.close()


def test_pieces_fit_in_memory(on_disk: WindowDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(piece) for piece in validation_draws(on_disk, 8)] == [512] * 4
    monkeypatch.setattr("equidiff.train.batches._PIECE", 1000)
    assert {len(piece) for piece in validation_draws(on_disk, 8)} == {8}
    assert torch.equal(torch.cat(validation_draws(on_disk, 8)), torch.arange(2048) % 30)
    assert on_disk.window_bytes() == 80
    assert rows_of_piece(on_disk, 4096) == 12
    batches: Iterator = fitting_batches(on_disk, SPEC)
    assert torch.equal(torch.cat([b["action"] for b in batches]), on_disk.batch(range(30))["action"])


def test_read_ahead_is_checked() -> None:
    with pytest.raises(TrainError, match=r"trainer.read_ahead: expected a number >= 0, got -1"):
        settings(read_ahead=-1)
