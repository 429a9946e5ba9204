"""From the config's node `data` to demonstrations."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest
from demo_files import TASK, toy_spec, write_demos
from image_files import SIZE, image_spec, write_images

from equidiff.data import DataError, Episode, WindowDataset
from equidiff.data.source import DataSource, load_training_data
from equidiff.fields import Image, Rotation, Voxels
from equidiff.spec import Space, Spec


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


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is prepared, by a simulator that is not one: the names of the tasks, in their order."""
    calls: list[str] = []

    def prepare(path: Path, task: Mapping[str, Any], out: Path, progress: bool) -> Path:
        calls.append(task["name"])
        return write_demos(out, n=3)

    module = types.ModuleType("equidiff.sim.prepare")
    module.prepare_states = prepare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "equidiff.sim.prepare", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    return calls


def test_missing_arrays_are_prepared_once(
    foreign: Path, tmp_path: Path, prepared: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = foreign.read_bytes()
    for _ in range(2):
        source = load_training_data({"path": str(foreign)}, toy_spec(), "absolute", TASK, tmp_path / "prepared")
        assert len(source.train) == 3
    assert prepared == ["lift"]
    assert source.about["path"] == str(foreign)
    assert foreign.read_bytes() == before
    assert "deriving them from its states" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == [
        f"foreign_lift_{source.about['fingerprint'][:12]}.hdf5"
    ]


def test_what_was_derived_of_a_large_file_is_made_again_when_it_changes(
    foreign: Path, tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fingerprint reads samples only; an edit may lie between them."""
    monkeypatch.setattr("equidiff.data.robomimic._WHOLE", 10)
    monkeypatch.setattr("equidiff.data.robomimic._BLOCK", 4)
    marks = []
    for _ in range(2):
        content = bytearray(foreign.read_bytes())
        source = load_training_data({"path": str(foreign)}, toy_spec(), "absolute", TASK, tmp_path / "prepared")
        marks.append(source.about["fingerprint"])
        with foreign.open("r+b") as file:
            file.seek(len(content) // 512)  # between the first two samples
            file.write(content[len(content) // 512 :][:1])  # the same: HDF5 must still read it
        os.utime(foreign, ns=(1, 1))
    assert prepared == ["lift", "lift"]
    assert marks[0] == marks[1]  # a run may go on with a copy, whose time of change is another


def test_actions_of_the_other_control_are_refused(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "a.hdf5", n=2)
    node = {"path": str(path)}

    def say(delta: bool) -> None:
        with h5py.File(path, "a") as file:
            about = {"env_name": "Lift", "env_kwargs": {"controller_configs": {"control_delta": delta}}}
            file["data"].attrs["env_args"] = json.dumps(about)

    say(True)
    for control in ("relative", "absolute"):
        assert load_training_data(node, toy_spec(control), control, TASK, tmp_path).train
    say(False)
    assert load_training_data(node, toy_spec(), "absolute", TASK, tmp_path).train
    with pytest.raises(
        DataError,
        match=r"a\.hdf5: its 'actions' are absolute .*control_delta is false.*action=absolute.*"
        r"scripts/convert_actions\.py data=.*a\.hdf5 control=relative",
    ):
        load_training_data(node, toy_spec("relative"), "relative", TASK, tmp_path)


def load(path: Path, **node: Any) -> DataSource:
    """From a file with pictures."""
    return load_training_data({"path": str(path), **node}, image_spec(), "absolute", TASK, path.parent / "prepared")


def test_the_cache_is_chosen_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_images(tmp_path / "images.hdf5", valid_fraction=0.25)
    folder = tmp_path / ".images.hdf5.cache"
    source = load(path, valid_mask="valid")
    assert not folder.exists()
    assert all(isinstance(e, Episode) for e in source.train)
    monkeypatch.setattr("equidiff.data.source._IN_MEMORY", 1000)
    assert not any(isinstance(e, Episode) for e in load(path).train)
    assert folder.exists()
    on_disk = load(path, cache="disk", valid_mask="valid", cache_dir=str(tmp_path / "caches"))
    assert list((tmp_path / "caches").glob("images.hdf5-*/*/header.json"))
    assert on_disk.about == source.about  # a run may go on with the other one
    assert [e.name for e in on_disk.valid] == ["demo_3"]
    assert all(isinstance(e, Episode) for e in load(path, cache="memory").train)
    train, valid = (WindowDataset.of(part, image_spec()) for part in (on_disk.train, on_disk.valid))
    assert (train.lengths, valid.lengths) == ((9, 10, 11), (12,))
    split = load(path, cache="disk", mask="train", val_ratio=0.4)
    assert (len(split.train), len(split.valid)) == (2, 1)
    with pytest.raises(
        DataError, match=r"data.cache: expected one of auto, memory, disk, got 'dsk'; did you mean 'disk'"
    ):
        load(path, cache="dsk")


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_mixed_files_name_the_demonstration_and_the_fix(tmp_path: Path, cache: str) -> None:
    def changed(change: Any) -> Path:
        path = write_images(tmp_path / "mixed.hdf5")
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def smaller(file: h5py.File) -> None:
        for name in ("demo_2", "demo_3"):
            picture = file[f"data/{name}/obs/front_image"][:, ::2, ::2]
            del file[f"data/{name}/obs/front_image"]
            file[f"data/{name}/obs/front_image"] = picture

    with pytest.raises(DataError, match=r"demo_2: 'obs/front_image' has shape \(11, 10, 10, 3\), expected \(T, 20, 20"):
        load(changed(smaller), cache=cache)
    (tmp_path / "mixed.hdf5").unlink()
    with pytest.raises(DataError, match=r"demo_1: has no 'obs/voxels'.*the file mixes demonstrations.*data\.mask="):
        load(changed(lambda file: file.__delitem__("data/demo_1/obs/voxels")), cache=cache)
    (tmp_path / "mixed.hdf5").unlink()

    def without_camera(file: h5py.File) -> None:
        for name in file["data"]:
            file.move(f"data/{name}/obs/front_image", f"data/{name}/obs/side_image")

    with pytest.raises(DataError, match=r"demo_0: has no 'obs/front_image'.*python scripts/prepare_data\.py data=FILE"):
        load(changed(without_camera), cache=cache)
    (tmp_path / "mixed.hdf5").unlink()

    def in_floats(file: h5py.File) -> None:
        picture = file["data/demo_0/obs/front_image"][()] / 255.0
        del file["data/demo_0/obs/front_image"]
        file["data/demo_0/obs/front_image"] = picture

    with pytest.raises(DataError, match=r"demo_0: 'obs/front_image' is stored as float64, expected uint8"):
        load(changed(in_floats), cache=cache)
    assert not list(tmp_path.glob(".mixed.hdf5.cache/*/header.json"))


def test_pictures_are_not_made_in_passing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the script; the simulator is not started for the poses first."""
    path = write_demos(tmp_path / "states.hdf5")
    monkeypatch.setattr("equidiff.data.source._prepare", None)
    with pytest.raises(DataError, match=r"demo_0: has no 'obs/front_image'.*scripts/prepare_data\.py"):
        load(path)


def test_pictures_beside_missing_poses_are_refused_with_the_command(tmp_path: Path, prepared: list[str]) -> None:
    """As in published files: what would be derived from the states has no pictures."""
    path = write_images(tmp_path / "published.hdf5", n=2)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["actions_abs"], demo["obs/robot0_eef_quat_site"]
            demo.move("obs/front_image", "obs/agentview_image")
    action = image_spec().action
    seen = (Image("agentview_image", height=SIZE, width=SIZE), Rotation("robot0_eef_quat_site"))
    message = (
        r"published\.hdf5: has no actions_abs, obs/robot0_eef_quat_site\. .* not the obs/agentview_image that .*: "
        r"python scripts/prepare_data\.py data=.*published\.hdf5 task=lift obs=\[image\] size=20 cameras=\[agentview\]$"
    )
    task = {**TASK, "cameras": {"image": ["agentview", "robot0_eye_in_hand"]}}
    with pytest.raises(DataError, match=message):
        load_training_data({"path": str(path)}, Spec(Space(seen), action), "absolute", task, tmp_path)
    grid = (Voxels("voxels", size=8), Rotation("robot0_eef_quat_site"))
    with pytest.raises(DataError, match=r"prepare_data\.py .* task=lift like=NAME, where obs=NAME is what you train"):
        load_training_data({"path": str(path)}, Spec(Space(grid), action), "absolute", TASK, tmp_path)
    assert prepared == []
    assert [p.name for p in tmp_path.iterdir()] == ["published.hdf5"]
