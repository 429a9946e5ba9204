"""Reading demonstrations: what is there comes back, what is wrong is named."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from demo_files import arrays, toy_spec, write_demos

from equidiff.data import DataError, DemoFile, load_episodes
from equidiff.data.robomimic import fingerprint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_demos(tmp_path / "demos.hdf5", n=12, valid_fraction=0.25)


def test_arrays_come_back_in_float32(path: Path) -> None:
    spec = toy_spec()
    episodes = load_episodes(path, spec, "absolute")
    assert [e.name for e in episodes] == [f"demo_{i}" for i in range(9)]  # the last quarter is mask/valid
    assert set(episodes[0].obs) == set(spec.observation.keys)
    stored = arrays(2, 22)
    assert episodes[2].action.dtype == np.float32
    np.testing.assert_array_equal(episodes[2].action, stored["actions_abs"].astype(np.float32))
    np.testing.assert_array_equal(episodes[2].obs["cube_pos"], stored["obs"]["cube_pos"].astype(np.float32))
    relative = load_episodes(path, toy_spec("relative"), "relative", n_demo=1)
    np.testing.assert_array_equal(relative[0].action, arrays(0, 20)["actions"].astype(np.float32))


def test_names_sort_as_numbers_and_masks_select(path: Path) -> None:
    with DemoFile(path) as file:
        assert file.names[-2:] == ("demo_10", "demo_11")
        assert file.select() == tuple(f"demo_{i}" for i in range(9))
        assert file.select(2, "valid") == ("demo_9", "demo_10")
        assert file.env_args == {"env_name": "Lift"}
        assert file.missing(toy_spec(), "absolute") == ()


def test_without_a_train_mask_valid_demonstrations_are_left_out(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["mask/train"]
    with DemoFile(path) as file:
        assert file.select() == tuple(f"demo_{i}" for i in range(9))


def test_reading_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    path.chmod(0o444)
    load_episodes(path, toy_spec(), "absolute")
    assert path.read_bytes() == before


def test_missing_file_names_the_nearest(path: Path) -> None:
    with pytest.raises(DataError, match=r"demo\.hdf5: no such file; did you mean 'demos\.hdf5'\?"):
        DemoFile(path.with_name("demo.hdf5"))
    with pytest.raises(DataError, match="is a directory"):
        DemoFile(path.parent)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_truncated_file(path: Path, size: int) -> None:
    os.truncate(path, size)
    with pytest.raises(DataError, match="not a readable HDF5 file, perhaps truncated"):
        DemoFile(path)


def test_other_layouts(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("episodes")
    with pytest.raises(DataError, match=r"no group 'data'.*it has episodes"):
        DemoFile(path)
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with DemoFile(path) as demos, pytest.raises(DataError, match="holds no demonstrations"):
        demos.select()


def test_missing_keys_name_what_is_there_and_the_fix(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for name in file["data"]:
            file.move(f"data/{name}/obs/cube_pos", f"data/{name}/obs/cubeA_pos")
            del file[f"data/{name}/actions_abs"]
    with DemoFile(path) as demos:
        assert demos.missing(toy_spec(), "absolute") == ("actions_abs", "obs/cube_pos")
    with pytest.raises(DataError, match=r"demo_0: has no 'obs/cube_pos'; did you mean 'obs/cubeA_pos'\?.*simulator"):
        load_episodes(path, toy_spec(), "absolute")


def test_wrong_shape(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/cube_pos"]
        file["data/demo_1/obs/cube_pos"] = np.zeros((21, 4))
    with pytest.raises(DataError, match=r"demo_1: 'obs/cube_pos' has shape \(21, 4\), expected \(T, 3\)"):
        load_episodes(path, toy_spec(), "absolute")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])  # the last one overflows float32
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_values_that_are_not_finite(path: Path, value: float) -> None:
    with h5py.File(path, "a") as file:
        file["data/demo_3/actions_abs"][4, 2] = value
    with pytest.raises(DataError, match=r"demo_3: 'actions_abs' is (nan|inf) at index \(4, 2\)"):
        load_episodes(path, toy_spec(), "absolute")


def test_inconsistent_lengths(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["data/demo_0/obs/cube_pos"][:-1]
        del file["data/demo_0/obs/cube_pos"]
        file["data/demo_0/obs/cube_pos"] = values
    with pytest.raises(DataError, match=r"demo_0: lengths differ: .*'action': 20.*'cube_pos': 19"):
        load_episodes(path, toy_spec(), "absolute")


def test_too_many_demonstrations_or_bad_masks(path: Path) -> None:
    with pytest.raises(DataError, match="n_demo=10, but only 9"):
        load_episodes(path, toy_spec(), "absolute", n_demo=10)
    with pytest.raises(DataError, match="expected a number >= 1"):
        load_episodes(path, toy_spec(), "absolute", n_demo=0)
    with pytest.raises(DataError, match=r"no mask 'vaild'; did you mean 'valid'\?; it has: train, valid"):
        load_episodes(path, toy_spec(), "absolute", mask="vaild")
    with h5py.File(path, "a") as file:
        file.create_dataset("mask/empty", data=np.array([], dtype="S8"))
        file.create_dataset("mask/wrong", data=np.array([b"demo_99"]))
    with pytest.raises(DataError, match="mask/wrong names 'demo_99', which is not in 'data'"):
        load_episodes(path, toy_spec(), "absolute")
    with h5py.File(path, "a") as file:
        del file["mask/wrong"]
    with pytest.raises(DataError, match="mask 'empty' is empty"):
        load_episodes(path, toy_spec(), "absolute", mask="empty")


def test_unknown_control(path: Path) -> None:
    with pytest.raises(DataError, match="expected 'absolute' or 'relative', got 'velocity'"):
        load_episodes(path, toy_spec(), "velocity")


def test_fingerprint_follows_the_content(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.hdf5"
    copy.write_bytes(path.read_bytes())
    assert fingerprint(copy) == fingerprint(path)
    with h5py.File(copy, "a") as file:
        file["data/demo_0/actions"][0, 0] += 1e-6
    assert fingerprint(copy) != fingerprint(path)


def test_fingerprint_of_a_large_file_samples_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equidiff.data.robomimic._WHOLE", 10)
    monkeypatch.setattr("equidiff.data.robomimic._BLOCK", 4)
    path = tmp_path / "large"
    path.write_bytes(b"a" * 100)
    first = fingerprint(path)
    path.write_bytes(b"a" * 99 + b"b")
    assert fingerprint(path) != first
