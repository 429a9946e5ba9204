"""A kill in the middle of an episode, and a full disk: what was stored before is safe, and the loss is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from disk_toys import small_disk
from teleop_toys import Rig, ended, episode, released

from equidiff.data.robomimic import DemoFile
from real_robot.teleop.errors import RecordingError
from real_robot.teleop.store import list_episodes, open_store

pytestmark = pytest.mark.realtime

PROGRAM = """
import sys
from pathlib import Path
from teleop_toys import Rig, episode, released

script = [released(0), *episode(0.2, "success"), *episode(2.0, "failure"), *episode(4.0, None, seconds=1e6)]
rig = Rig(Path(sys.argv[1]), script, longest=3600.0)
rig.said = type("Said", (), {"append": lambda self, text: print(text, flush=True)})()
rig.run()
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_episode_loses_that_one_alone(tmp_path: Path) -> None:
    path, whole = tmp_path / "demos.hdf5", tmp_path / "whole.hdf5"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert process.stdout is not None
    begun = stored = 0
    for line in process.stdout:
        begun += line.startswith("episode: recording")
        stored += "stored" in line
        if begun == 3 and stored == 2:
            break
    process.kill()
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not path.exists()
    assert [(e.number, e.success, e.joined) for e in list_episodes(path)] == [(0, True, False), (1, False, False)]

    assert open_store(path).finish() == path
    Rig(whole, [released(0), *episode(0.2, "success"), *episode(2.0, "failure"), ended(4.0)]).run()
    with h5py.File(path) as killed, h5py.File(whole) as calm:
        for name in ("demo_0", "demo_1"):
            for key in ("actions_abs", "actions", *(f"obs/{k}" for k in calm[f"data/{name}/obs"])):
                np.testing.assert_array_equal(killed[f"data/{name}/{key}"], calm[f"data/{name}/{key}"], err_msg=key)
    with DemoFile(path) as file:
        assert file.masks["train"] == ("demo_0",)


def test_a_session_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    first = Rig(path, [released(0), *episode(0.2, "success"), ended(2.0)], cameras=0)
    first.run()
    # as a kill leaves it: an episode beside the file, and another half written
    second = Rig(path, [released(0), *episode(0.2, "failure"), ended(2.0)], cameras=0)
    parts = path.parent / f".{path.name}.parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("real_robot.teleop.store.EpisodeStore.finish", lambda self: None)
        second.run()
    (parts / ".2.hdf5.part").write_bytes(b"half")
    assert [(e.number, e.joined) for e in list_episodes(path)] == [(0, True), (1, False)]
    third = Rig(path, [released(0), *episode(0.2, "success"), ended(2.0)], cameras=0)
    third.run()
    assert [(e.number, e.success, e.joined) for e in list_episodes(path)] == [
        (0, True, True),
        (1, False, True),
        (2, True, True),
    ]
    assert not parts.exists()


def test_a_full_disk_stops_the_arm_and_tells_what_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    Rig(path, [released(0), *episode(0.2, "success"), ended(2.0)]).run()
    before = path.read_bytes()
    # one episode: the beginning of another, kept when the loop stops, might be small enough to be stored
    rig = Rig(path, [released(0), *episode(0.2, "success"), ended(60)])
    with (
        small_disk(10_000),
        pytest.raises(RecordingError, match=r"the episode under way \(\d+ steps.* is lost; 1 episodes are safe"),
    ):
        rig.run()
    assert rig.arm.stops
    assert rig.clock.now() < 160  # it did not go on for long
    assert path.read_bytes() == before
    assert [(e.number, e.joined) for e in list_episodes(path)] == [(0, True)]


def test_a_disk_that_is_full_at_the_end_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "demos.hdf5"

    def full(folder: Path, size: int) -> None:
        raise OSError(28, "No space left on device")

    rig = Rig(path, [released(0), *episode(0.2, "success"), ended(2.0)], cameras=0)
    monkeypatch.setattr("equidiff.data.writer.need_room", full)
    with pytest.raises(RecordingError, match=r"could not be joined .* all are safe in .*mode=finish"):
        rig.run()
    monkeypatch.undo()
    assert [e.joined for e in list_episodes(path)] == [False]
    open_store(path).finish()
    assert [e.joined for e in list_episodes(path)] == [True]


def test_a_relabel_on_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    Rig(path, [released(0), *episode(0.2, "success"), *episode(2.0, "success"), ended(4.0)]).run()
    before = path.read_bytes()
    with small_disk(20_000), pytest.raises(RecordingError, match="could not be joined"):
        open_store(path).relabel_last(False)
    assert path.read_bytes() == before
