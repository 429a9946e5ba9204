"""The cache on disk: equal to memory, built once, never half, never of another file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from image_files import SIZE, image_spec, write_images

from equidiff.data import DataError, DemoFile, WindowDataset, load_episodes
from equidiff.data import cache as caching
from equidiff.data.cache import cache_folders, open_cache
from equidiff.data.needed import Needed, needed_arrays
from equidiff.data.steps import CachedEpisode
from equidiff.spec import Spec

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _own_user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIDIFF_CACHE", str(tmp_path / "user"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_images(tmp_path / "demos.hdf5")


def opened(path: Path, spec: Spec | None = None, n: int | None = None, **more: Any) -> list[CachedEpisode]:
    with DemoFile(path) as file:
        return open_cache(file, needed_arrays(spec or image_spec(), "absolute"), file.select(n), progress=False, **more)


def built(path: Path) -> list[Path]:
    """Complete caches beside the file."""
    return sorted(p.parent for p in cache_folders(path)[0].glob("*/header.json"))


@pytest.mark.parametrize("pad", ["full", "published"])
@pytest.mark.parametrize("obs", [1, 2])
def test_windows_from_disk_equal_those_from_memory(path: Path, pad: Any, obs: int) -> None:
    spec = image_spec(obs=obs)
    memory = WindowDataset.of(load_episodes(path, spec, "absolute"), spec, pad)
    disk = WindowDataset.of(opened(path, spec), spec, pad)
    assert len(memory) == len(disk)
    assert (memory.on_disk, disk.on_disk) == (False, True)
    assert set(disk.disk_keys) == {"front_image", "front_depth", "voxels"}
    order = torch.randperm(len(disk), generator=torch.Generator().manual_seed(0))
    want, got = memory.batch(order), disk.batch(order)
    spec.check(got)
    assert {k: v.dtype for k, v in got["obs"].items()}["front_depth"] == torch.uint16
    for key, value in {**want["obs"], "action": want["action"]}.items():
        found = got["action"] if key == "action" else got["obs"][key]
        assert found.dtype == value.dtype
        assert torch.equal(found, value), key
    assert torch.equal(disk[3]["obs"]["voxels"], memory[3]["obs"]["voxels"])
    got["obs"]["voxels"].zero_()
    assert disk.batch(order)["obs"]["voxels"].any()  # batches are copies
    assert disk.nbytes < memory.nbytes / 10
    assert memory.window_bytes() == disk.window_bytes() == sum(v[0].nbytes for v in want["obs"].values()) + 6 * 7 * 4
    assert disk.window_bytes(disk.disk_keys) == obs * (3 + 4) * 4 + 6 * 7 * 4


def test_keys_that_are_left_blank_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = image_spec()
    disk = WindowDataset.of(opened(path, spec), spec)
    monkeypatch.setattr("equidiff.data.flat.FlatFile.take", None)
    batch = disk.batch(range(len(disk)), blank=disk.disk_keys)
    spec.check(batch)
    assert not batch["obs"]["front_image"].any()
    assert batch["obs"]["front_image"].untyped_storage().nbytes() == 1
    with pytest.raises(DataError, match="cannot be moved to meta"):
        disk.to("meta")


def test_it_is_built_once_and_serves_less_than_it_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    assert [e.name for e in opened(path)] == [f"demo_{i}" for i in range(4)]
    assert [len(e) for e in opened(path)] == [9, 10, 11, 12]
    monkeypatch.setattr(caching, "_build", None)
    few = opened(path, n=2)
    windows = WindowDataset.of(few, image_spec())
    assert windows.lengths == (9, 10)
    shuffled = WindowDataset.of([few[1]], image_spec())
    assert torch.equal(shuffled.batch([0])["obs"]["voxels"], windows.batch([9])["obs"]["voxels"])
    (folder,) = built(path)
    header = json.loads((folder / "header.json").read_text())
    assert header["demonstrations"] == {"demo_0": 9, "demo_1": 10, "demo_2": 11, "demo_3": 12}
    assert header["arrays"]["obs/front_depth"] == {"shape": [SIZE, SIZE], "dtype": "uint16"}
    assert {p.name for p in folder.iterdir()} >= {"header.json", "00_obs_front_image.npy", "05_actions_abs.npy"}
    stored = np.load(folder / "00_obs_front_image.npy", allow_pickle=False)
    assert stored.shape == (42, SIZE, SIZE, 3)
    assert path.read_bytes() == before


def test_more_demonstrations_are_another_cache(path: Path) -> None:
    opened(path, n=2)
    assert len(WindowDataset.of(opened(path), image_spec())) == 42
    assert len(built(path)) == 2


def test_a_changed_file_is_never_served_from_its_old_cache(path: Path) -> None:
    old = WindowDataset.of(opened(path), image_spec())
    before = old.batch([0])["obs"]["front_image"]
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/front_image"][0] = 7
    (stale,) = built(path)
    new = WindowDataset.of(opened(path), image_spec())
    assert (new.batch([0])["obs"]["front_image"] == 7).all()
    assert built(path) != [stale]
    assert not stale.exists()
    assert torch.equal(old.batch([0])["obs"]["front_image"], before)  # who still uses it, may


def test_large_files_are_told_apart_by_their_time_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equidiff.data.robomimic._WHOLE", 10)
    monkeypatch.setattr("equidiff.data.robomimic._BLOCK", 4)
    opened(path)
    (first,) = built(path)
    os.utime(path, ns=(1, 1))
    opened(path)
    assert built(path) != [first]


@pytest.mark.parametrize("damage", ["cut", "missing", "header", "foreign"])
def test_a_damaged_cache_is_built_again(path: Path, damage: str) -> None:
    opened(path)
    (folder,) = built(path)
    picture = folder / "00_obs_front_image.npy"
    if damage == "cut":
        os.truncate(picture, picture.stat().st_size - 1)
    elif damage == "missing":
        picture.unlink()
    elif damage == "header":
        (folder / "header.json").write_text("{")
    else:
        tree = json.loads((folder / "header.json").read_text())
        tree["arrays"]["obs/front_image"]["dtype"] = "object"
        (folder / "header.json").write_text(json.dumps(tree))
    windows = WindowDataset.of(opened(path), image_spec())
    memory = WindowDataset.of(load_episodes(path, image_spec(), "absolute"), image_spec())
    assert torch.equal(windows.batch([5])["obs"]["front_image"], memory.batch([5])["obs"]["front_image"])


def test_a_file_that_is_cut_while_in_use_is_told(path: Path) -> None:
    windows = WindowDataset.of(opened(path), image_spec())
    (folder,) = built(path)
    os.truncate(folder / "00_obs_front_image.npy", 1000)
    with pytest.raises(OSError, match=r"00_obs_front_image\.npy: ends at byte .* it was cut while in use"):
        windows.batch([20])


PROGRAM = """
import os, signal, sys
from pathlib import Path
from test_cache import image_spec, opened
from equidiff.data import WindowDataset, cache
if sys.argv[2] == "kill":
    write = cache._put
    def put(handle, values, count=[0]):
        write(handle, values)
        count[0] += 1
        if count[0] == 9:
            os.kill(os.getpid(), signal.SIGKILL)
    cache._put = put
if sys.argv[2] == "slow":
    import time
    build = cache._build
    cache._build = lambda *given: (print("built", flush=True), time.sleep(1), build(*given))
windows = WindowDataset.of(opened(Path(sys.argv[1])), image_spec())
print(int(windows.batch(range(len(windows)))["obs"]["front_image"].sum()))
"""


def start(path: Path, how: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    arguments = [sys.executable, "-c", PROGRAM, str(path), how]
    return subprocess.Popen(arguments, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_processes_that_start_together_build_one_and_a_kill_leaves_nothing_behind(path: Path) -> None:
    killed = start(path, "kill")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert built(path) == []
    assert list(cache_folders(path)[0].glob(".*.part"))
    processes = [start(path, "slow") for _ in range(2)]
    answers = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    memory = WindowDataset.of(load_episodes(path, image_spec(), "absolute"), image_spec())
    total = int(memory.batch(range(len(memory)))["obs"]["front_image"].sum())
    assert [out.split()[-1] for out, _ in answers] == [str(total)] * 2
    assert sum("built" in out.split() for out, _ in answers) == 1
    assert len(built(path)) == 1
    assert not list(cache_folders(path)[0].glob(".*.part"))


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(path.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
        with pytest.raises(DataError, match=r"needs 0.00 GB, but only 0.00 GB are free; .*data.cache_dir="):
            opened(path)

    def full(handle: Any, values: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(caching, "_put", full)
        with pytest.raises(DataError, match=r"cannot be written \(the disk is full\); free some space"):
            opened(path)
    assert {p.name for p in cache_folders(path)[0].iterdir()} <= {".lock"}
    opened(path)
    assert len(built(path)) == 1


def test_where_it_is_kept(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def refuse(self: Path, *given: Any, **more: Any) -> None:
        if self.name == ".demos.hdf5.cache":
            raise PermissionError(errno.EACCES, "read-only", str(self))
        make(self, *given, **more)

    monkeypatch.setattr(Path, "mkdir", refuse)
    opened(path)
    assert not built(path)
    (user,) = (tmp_path / "user" / "data").iterdir()
    assert len(list(user.glob("*/header.json"))) == 1
    opened(path, folder=tmp_path / "given")
    assert len(list((tmp_path / "given").glob("*/*/header.json"))) == 1
    monkeypatch.setattr(os, "access", lambda *given: False)
    opened(path)  # what is there may be used without writing
    shutil.rmtree(user)
    with pytest.raises(DataError, match=r"may not be written.*data\.cache_dir="):
        opened(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be made .*data\.cache_dir="):
        opened(path, folder=tmp_path / "file" / "inside")


def test_values_are_checked_when_it_is_built(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["data/demo_1/obs/robot0_eef_pos"][4, 1] = np.nan
    with pytest.raises(DataError, match=r"demo_1: 'obs/robot0_eef_pos' is nan at index \(4, 1\); repair or drop"):
        opened(path)
    assert {p.name for p in cache_folders(path)[0].iterdir()} <= {".lock"}
    with DemoFile(path) as file, pytest.raises(DataError, match=r"is nan at index \(4, 1\)"):
        file.read("demo_1", "obs/robot0_eef_pos", Needed((3,), np.dtype("float32")), slice(3, 6))


def test_a_file_that_changes_under_the_build(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter(["a", "b"])
    monkeypatch.setattr(caching, "content_mark", lambda path: next(marks))
    with pytest.raises(DataError, match="was changed while its cache was built"):
        opened(path)
    assert built(path) == []


def test_memory_and_disk_are_not_mixed(path: Path) -> None:
    spec = image_spec()
    loaded, cached = load_episodes(path, spec, "absolute"), opened(path, spec)
    with pytest.raises(DataError, match="some demonstrations are in memory, others in a cache"):
        WindowDataset.of([*loaded[:1], *cached[1:]], spec)  # type: ignore[list-item]
    with pytest.raises(DataError, match="from different caches"):
        WindowDataset.of([cached[0], opened(path, spec)[1]], spec)
