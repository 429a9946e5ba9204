"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from disk_toys import small_disk

from equidiff.data.whole_file import edited_copy, need_room, put_whole, whole_file
from equidiff.data.writer import DemoWriter


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(256, size=(9, 8, 8, 3), dtype=np.uint8)
    with whole_file(tmp_path / "a.hdf5") as file:
        file.create_dataset("obs/image", data=pictures, chunks=(2, 8, 8, 3), compression="gzip")
        file.attrs["n"] = 9
        assert not list(tmp_path.iterdir())
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(file["obs/image"], pictures)
        assert file.attrs["n"] == 9
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


def test_a_full_disk_is_an_ordinary_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"before")
    noise = np.random.default_rng(0).integers(256, size=(50, 84, 84, 3), dtype=np.uint8)
    # HDF5 itself crashes here: the compressed pieces that it still holds cannot be written
    with small_disk(200_000), pytest.raises(OSError, match="File too large"), whole_file(path) as file:
        file.create_dataset("image", data=noise, chunks=(10, 84, 84, 3), compression="gzip")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


def test_a_copy_is_edited_and_takes_no_more_room_than_it_needs(tmp_path: Path) -> None:
    source, path = tmp_path / "a.hdf5", tmp_path / "deep" / "b.hdf5"
    with h5py.File(source, "w") as file:
        file["data/old/x"], file["data/kept"] = np.arange(5), np.arange(3)
    before = source.read_bytes()
    arrays = {"data/old": None, "data/new": np.arange(7.0), "data/kept": np.arange(4)}
    with edited_copy(source, path, arrays) as file:
        file["data"].attrs["n"] = 1
    with h5py.File(path) as file:
        assert sorted(file["data"]) == ["kept", "new"]
        assert file["data/kept"][()].tolist() == [0, 1, 2, 3]
        assert file["data"].attrs["n"] == 1
    assert path.stat().st_size < source.stat().st_size + 10_000
    assert source.read_bytes() == before
    with edited_copy(path, path, {"data/new": np.zeros(2)}):
        pass
    with h5py.File(path) as file:
        assert file["data/new"].shape == (2,)
    assert [p.name for p in path.parent.iterdir()] == ["b.hdf5"]


def test_a_disk_that_takes_the_copy_but_not_the_changes(tmp_path: Path) -> None:
    source, path = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    with h5py.File(source, "w") as file:
        file["x"] = np.zeros(1000)
    with small_disk(source.stat().st_size + 1000), pytest.raises(OSError, match="File too large"):
        edited_copy(source, path, {"y": np.zeros(1000)}).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with put_whole(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_room_is_asked_for_before_writing(tmp_path: Path) -> None:
    need_room(tmp_path, 1)
    with pytest.raises(OSError, match=r"1000000000000000 MB are needed in .* MB are free; make room"):
        need_room(tmp_path, 10**21)


def test_an_episode_that_does_not_fit_is_told_and_those_before_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, actions = tmp_path / "demos.hdf5", np.zeros((50, 7))
    writer = DemoWriter(path, {"env_name": "x"})
    writer.add(0, actions=actions)
    noise = rng.integers(256, size=(50, 84, 84, 3), dtype=np.uint8)
    with small_disk(200_000), pytest.raises(OSError, match="File too large"):
        writer.add(1, actions=actions, obs={"image": noise})
    assert not list(tmp_path.rglob("*.part"))
    writer.close()
    again = DemoWriter(path, {"env_name": "x"})
    assert again.seeds_done == {0}
    again.add(1, actions=actions, obs={"image": noise})
    with h5py.File(again.finish()) as file:
        np.testing.assert_array_equal(file["data/demo_1/obs/image"], noise)
