"""Writing demonstrations: resumable, and whole whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from demo_files import arrays, toy_spec, write_demos

from equidiff.data import DataError, DemoFile, DemoWriter, load_episodes


def test_layout(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "deep" / "demos.hdf5", n=4, valid_fraction=0.25)
    with h5py.File(path) as file:
        assert list(file["mask/valid"][()]) == [b"demo_3"]
        assert len(file["mask/train"]) == 3
        assert file["data"].attrs["total"] == 20 + 21 + 22 + 23
        assert file["data"].attrs["task"] == "lift"
        assert file["data/demo_1"].attrs["num_samples"] == 21
        assert file["data/demo_1"].attrs["model_file"] == "<x/>"
        assert file["data/demo_1/states"].shape == (21, 9)
    assert [p.name for p in path.parent.iterdir()] == ["demos.hdf5"]


def test_order_of_seeds_not_of_adding(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    with DemoWriter(path, {}, {}) as writer:
        for seed in (7, 3, 5):
            writer.add(seed, **arrays(seed, 20))
        writer.finish()
    with h5py.File(path) as file:
        assert [int(file[f"data/demo_{i}"].attrs["seed"]) for i in range(3)] == [3, 5, 7]
        assert "valid" not in file["mask"]


def test_goes_on_after_a_kill_and_extends_a_finished_file(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    DemoWriter(path, {"env": 1}, {"task": "lift"}).add(0, **arrays(0, 20))
    (tmp_path / ".demos.hdf5.parts" / ".9.part").write_bytes(b"half an episode")
    second = DemoWriter(path, {"env": 1}, {"task": "lift"})
    assert second.seeds_done == {0}
    second.add(1, **arrays(1, 21))
    second.finish()
    third = DemoWriter(path, {"env": 1}, {"task": "lift"})
    assert third.seeds_done == {0, 1}
    third.add(2, **arrays(2, 22))
    third.finish()
    episodes = load_episodes(path, toy_spec(), "absolute")
    for i, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.action, arrays(i, 20 + i)["actions_abs"].astype(np.float32))
    assert len(episodes) == 3


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused(tmp_path: Path, finished: bool) -> None:
    path = tmp_path / "demos.hdf5"
    writer = DemoWriter(path, {"env": 1}, {"task": "lift"})
    writer.add(0, **arrays(0, 20))
    if finished:
        writer.finish()
    writer.close()
    with pytest.raises(DataError, match=r"attrs\.task: 'lift' there, 'stack' now"):
        DemoWriter(path, {"env": 1}, {"task": "stack"})


def test_a_file_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    path.write_text("not HDF5")
    with pytest.raises(DataError, match="not written by this program"):
        DemoWriter(path, {}, {})
    assert path.read_text() == "not HDF5"


def test_bad_episodes_are_refused(tmp_path: Path) -> None:
    writer = DemoWriter(tmp_path / "demos.hdf5", {}, {})
    with pytest.raises(DataError, match="nothing to write"):
        writer.finish()
    bad = arrays(0, 20)
    bad["actions"] = bad["actions"][:-1]
    with pytest.raises(DataError, match=r"seed 0: expected arrays of one length > 0.*'actions': 19"):
        writer.add(0, **bad)
    bad = arrays(0, 20)
    bad["obs"]["cube_pos"][3, 1] = np.nan
    with pytest.raises(DataError, match=r"'obs/cube_pos' is nan at index \(3, 1\)"):
        writer.add(0, **bad)
    assert writer.seeds_done == set()
    with pytest.raises(DataError, match="0 <= valid_fraction < 1"):
        writer.finish(1.0)


def test_a_failure_while_joining_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_demos(tmp_path / "demos.hdf5", n=2)
    before = path.read_bytes()
    writer = DemoWriter(path, {"env_name": "Lift"}, {"task": "lift"})
    writer.add(2, **arrays(2, 22))

    nothing = SimpleNamespace(free=0)
    monkeypatch.setattr("equidiff.data.whole_file.shutil.disk_usage", lambda folder: nothing)
    with pytest.raises(OSError, match="0 MB are free; make room"):
        writer.finish()
    monkeypatch.undo()
    assert path.read_bytes() == before
    writer.close()
    again = DemoWriter(path, {"env_name": "Lift"}, {"task": "lift"})
    assert again.seeds_done == {0, 1, 2}
    with DemoFile(again.finish()) as file:
        assert len(file.names) == 3


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The later one would join only what is still in the folder that the first removes."""
    path = tmp_path / "demos.hdf5"
    first = DemoWriter(path, {}, {})
    first.add(0, **arrays(0, 20))
    with pytest.raises(DataError, match=r"\.demos\.hdf5\.parts: another process is at work there; wait"):
        DemoWriter(path, {}, {})
    first.finish()
    for call in (lambda: first.add(1, **arrays(1, 20)), first.finish, lambda: first.drop(0)):
        with pytest.raises(DataError, match="this writer is finished or closed"):
            call()
    with DemoWriter(path, {}, {}) as second:
        assert second.seeds_done == {0}
        with pytest.raises(DataError, match="another process is at work"):
            DemoWriter(path, {}, {})
        second.add(3, **arrays(3, 20))
    assert {p.name for p in tmp_path.iterdir()} == {"demos.hdf5", ".demos.hdf5.parts"}
    with DemoWriter(path, {}, {}) as third:
        assert third.seeds_done == {0, 3}
    with DemoFile(path) as file:
        assert len(file.names) == 1
    with DemoWriter(path, {}, {}) as fourth, DemoFile(fourth.finish()) as file:
        assert len(file.names) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["demos.hdf5"]


_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from demo_files import arrays
from equidiff.data import DemoWriter
writer = DemoWriter(sys.argv[1], {}, {})
for seed in range(10_000):
    writer.add(seed, **arrays(seed, 200))
    print(seed, flush=True)
"""


def test_a_kill_loses_at_most_the_episode_under_way(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    arguments = [sys.executable, "-c", _KILLED, str(path), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline()
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    told = 5 + len(process.stdout.read().split())
    process.wait()
    process.stdout.close()
    writer = DemoWriter(path, {}, {})
    assert len(writer.seeds_done) in (told, told + 1)
    writer.finish()
    assert len(load_episodes(path, toy_spec(), "absolute")) in (told, told + 1)


def test_foreign_demonstrations_may_lack_states_and_one_kind_of_actions(tmp_path: Path) -> None:
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    with DemoWriter(tmp_path / "d.hdf5", {}) as writer:
        with pytest.raises(DataError, match="expected actions, actions_abs or both"):
            writer.add(0, obs={"x": np.zeros((3, 1))})
        writer.add(0, actions_abs=np.zeros((3, 7)), obs={"a_image": pictures})
        writer.finish()
    with h5py.File(tmp_path / "d.hdf5") as file:
        demo = file["data/demo_0"]
        assert set(demo) == {"actions_abs", "obs"}
        assert (demo["obs/a_image"].compression, demo["obs/a_image"].chunks) == ("gzip", (1, 8, 8, 3))
        assert demo.attrs["num_samples"] == 3
