"""Every odd thing in a file becomes a finding that names it; a good file has none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from inspect_files import camera_pose, disc, write

from equidiff.data import DataError
from equidiff.data.inspect_checks import Limits, longest_idle
from equidiff.data.inspect_file import inspect_file
from equidiff.data.inspect_symmetry import symmetry_report
from equidiff.data.inspect_views import Views, cameras

Arrays = dict[str, Any]


def test_a_good_file_has_no_problems_and_the_right_numbers(tmp_path: Path) -> None:
    names = [f"demo_{i}" for i in range(10)]
    path = write(tmp_path / "good.hdf5", n=10, pictures=True, masks={"train": names[:8], "valid": names[8:]})
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    found = inspect_file(path)
    assert found.problems == []
    assert list(found.lengths.values()) == [16, 17, 18, 16, 17, 18, 16, 17, 18, 16]
    assert (found.env, found.control_hz, found.hz_from) == ("Lift", 20.0, "file")
    assert set(found.success.values()) == {True}
    assert {m: len(v) for m, v in found.masks.items()} == {"train": 8, "valid": 2}
    assert found.attributes["perception"]["renderer"] == {"msaa": 0}
    cube = found.keys["obs/cube_pos"]
    assert (cube.kind, list(cube.shapes), cube.dtypes["float64"], len(cube.constant)) == ("position", [(3,)], 10, 10)
    with h5py.File(path) as file:
        values = np.concatenate([file[f"data/{n}/obs/robot0_eef_pos"][()] for n in names])
    stats = found.keys["obs/robot0_eef_pos"]
    for mine, truth in ((stats.low, values.min(0)), (stats.high, values.max(0)), (stats.mean, values.mean(0))):
        np.testing.assert_allclose(mine, truth)
    assert found.keys["obs/voxels"].sampled is False  # 2048 values a step
    assert found.keys["obs/agentview_image"].kind == "image"
    assert found.keys["obs/point_cloud"].kind == "cloud"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def at(demo: int, change: Callable[[Arrays], None]) -> Callable[[int, Arrays], None]:
    return lambda i, arrays: change(arrays) if i == demo else None


def put(key: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays[key].__setitem__(index, value)


def give(key: str, make: Callable[[Any], Any]) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({key: make(arrays[key])})


ODD = {
    "not finite": (put("obs/cube_pos", (3, 1), np.nan), "problem", "obs/cube_pos has 1 values"),
    "jump": (put("obs/robot0_eef_pos", (8, 0), 5.0), "problem", "obs/robot0_eef_pos jumps"),
    "quaternion": (put("obs/cube_quat", 2, [0, 0, 0, 0.9]), "problem", "has length 0.9 at step 2"),
    "gripper": (put("actions", (slice(None), 6), -1.0), "problem", "never changes in demo_2"),
    "saturated": (put("actions", (slice(None), slice(0, 6)), 1.0), "note", "100 %"),
    "range": (put("actions", (0, 0), 1.5), "note", "actions reach 1.5"),
    "missing key": (lambda arrays: arrays.pop("obs/cube_quat"), "problem", "in 5 of 6 demonstrations; demo_2 lacks it"),
    "length": (give("obs/cube_pos", lambda v: v[:-1]), "problem", "expected 18"),
    "shape": (give("obs/cube_pos", lambda v: v[:, :2]), "problem", "3 in 5"),
    "dtype": (give("obs/cube_pos", lambda v: v.astype(np.float32)), "note", "float32 and float64"),
    "idle": (give("obs/robot0_eef_pos", lambda v: np.tile(v[:1], (len(v), 1))), "note", "rests for"),
    "picture size": (give("obs/agentview_image", lambda v: v[:, :20]), "problem", "24×24×3 in 5"),
    "picture": (put("obs/agentview_image", 0, 7), "problem", "one colour"),
    "empty": (lambda arrays: arrays.update({k: v[:0] for k, v in arrays.items()}), "problem", "no steps"),
}


@pytest.mark.parametrize("topic", ODD)
def test_each_odd_thing_is_found_and_named(tmp_path: Path, topic: str) -> None:
    change, severity, words = ODD[topic]
    path = write(tmp_path / "odd.hdf5", n=6, pictures=topic.startswith("picture"), change=at(2, change))  # type: ignore[arg-type]
    found = inspect_file(path, limits=Limits(idle=0.2))
    hits = [f for f in found.findings if f.topic == topic]
    assert hits, found.findings
    assert any(words in f.message for f in hits), hits
    assert {f.severity for f in hits} == {severity}
    assert all(f.demo == "demo_2" or "demo_2" in f.message or "in 5" in f.message or not f.demo for f in hits)
    report = symmetry_report(found.poses, (0.0, 0.0))  # whatever was found, the rest goes on
    assert report.words


def test_duplicates_frozen_pictures_and_outliers(tmp_path: Path) -> None:
    first: Arrays = {}

    def change(i: int, arrays: Arrays) -> None:
        if i == 0:
            first.update({k: v.copy() for k, v in arrays.items()})
        if i == 3:
            arrays.clear()
            arrays.update(first)
        if i == 4:
            arrays["obs/agentview_image"][:] = arrays["obs/agentview_image"][:1]
        if i == 5:
            arrays["obs/robot0_gripper_qpos"][4, 0] = 3.0

    found = inspect_file(write(tmp_path / "x.hdf5", n=12, pictures=True, change=change))
    messages = {(f.topic, f.demo): f.message for f in found.findings}
    assert "equal to demo_0" in messages["duplicate", "demo_3"]
    assert "same picture" in messages["picture", "demo_4"]
    assert "[0] reaches 3" in messages["outlier", "demo_5"]


def test_masks_and_metadata_that_do_not_fit(tmp_path: Path) -> None:
    masks = {"train": ["demo_0", "demo_1", "demo_9"], "valid": ["demo_1"], "none": []}
    path = write(tmp_path / "m.hdf5", n=3, masks=masks, success=None)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = "{not json"
        file["data"].attrs["perception"] = "{neither"
        file["data"].attrs["total"] = 7
        file["data/demo_0"].attrs["num_samples"] = 99
    found = inspect_file(path, {"control_hz": 10})
    text = " | ".join(f.message for f in found.findings)
    for part in ("names 'demo_9'", "in both train and valid", "mask/none is empty", "env_args", "perception"):
        assert part in text
    assert "num_samples says 99" in text
    assert "says 7 steps" in text
    assert (found.control_hz, found.hz_from, found.env) == (10.0, "task", "unknown")
    assert set(found.success.values()) == {None}


def test_rates_of_file_and_task_differ(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path / "r.hdf5", n=2), {"control_hz": 10})
    assert [f.message for f in found.problems] == ["made at 20 Hz, but the task says 10 Hz"]


def test_files_that_are_none(tmp_path: Path) -> None:
    good = write(tmp_path / "good.hdf5", n=3)
    truncated = tmp_path / "truncated.hdf5"
    truncated.write_bytes(good.read_bytes()[:-4000])
    text = tmp_path / "text.hdf5"
    text.write_text("no")
    foreign = tmp_path / "foreign.hdf5"
    with h5py.File(foreign, "w") as file:
        file.create_group("episodes")
    lerobot = tmp_path / "lerobot"
    (lerobot / "meta").mkdir(parents=True)
    (lerobot / "meta" / "info.json").write_text("{}")
    empty = tmp_path / "empty.hdf5"
    with h5py.File(empty, "w") as file:
        file.create_group("data")
    expected = {
        tmp_path / "god.hdf5": "no such file.*did you mean 'good.hdf5'",
        truncated: "truncated",
        text: "not a readable HDF5 file",
        foreign: "no group 'data'.*episodes",
        lerobot: "is a LeRobot dataset",
        tmp_path: "is a directory",
        empty: "holds no demonstrations",
    }
    for path, words in expected.items():
        with pytest.raises(DataError, match=words):
            inspect_file(path)


def test_damaged_chunk_is_a_problem_of_its_key(tmp_path: Path) -> None:
    path = tmp_path / "damaged.hdf5"
    write(path, n=2)
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/actions"]
        data = file["data/demo_1"].create_dataset("actions", data=np.zeros((17, 7)), compression="gzip", chunks=(17, 7))
        place = data.id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(b"\xff" * place.size)
    found = inspect_file(path)
    assert any(f.topic == "unreadable" and f.demo == "demo_1" and "actions" in f.message for f in found.problems)


@pytest.mark.parametrize(
    ("place", "yaw", "verdict", "words"),
    [
        (disc(), np.pi, "holds", "cube starts evenly about the centre"),
        (disc(sector=1.2), np.pi, "does not hold", "cube starts on one side of the centre, mean direction"),
        (disc(centre=(0.07, 0.0)), np.pi, "partly", "more than chance explains"),
        (disc(), 0.3, "partly", "its yaw is not even"),
        (lambda rng: (0.15, 0.1), np.pi, "does not hold", "cube always starts near one place"),
    ],
)
def test_verdict(tmp_path: Path, place: Any, yaw: float, verdict: str, words: str) -> None:
    path = write(tmp_path / "v.hdf5", n=80, place=place, yaw=lambda rng: rng.uniform(-yaw, yaw), steps=6)
    report = symmetry_report(inspect_file(path).poses, (0.0, 0.0))
    text = " ".join(report.words)
    assert report.verdict == verdict, text
    assert words in text
    assert ("never shows" in text) == (verdict != "holds")
    cube = next(s for s in report.starts if s.name == "cube")
    assert cube.n == 80
    assert cube.slope is None or cube.slope[0] < 1e-6


def test_fold_of_an_object(tmp_path: Path) -> None:
    quarter = lambda rng: 0.1 * rng.normal() + np.pi / 2 * rng.integers(0, 4)
    poses = inspect_file(write(tmp_path / "f.hdf5", n=60, yaw=quarter, steps=6)).poses
    once = next(s for s in symmetry_report(poses, (0, 0), {"cube": 1}).starts if s.name == "cube")
    four = next(s for s in symmetry_report(poses, (0, 0), {"cube": 4}).starts if s.name == "cube")
    assert once.yaw is not None
    assert four.yaw is not None
    assert once.yaw.resultants[0] < 0.3
    assert four.yaw.resultants[0] > 0.85
    assert once.yaw.resultants[3] == pytest.approx(four.yaw.resultants[0])


def test_tilted_world_is_seen_in_the_start_positions(tmp_path: Path) -> None:
    def change(i: int, arrays: Arrays) -> None:
        arrays["obs/cube_pos"][:, 2] += np.tan(np.deg2rad(5)) * arrays["obs/cube_pos"][:, 0]

    report = symmetry_report(inspect_file(write(tmp_path / "t.hdf5", n=30, change=change)).poses, (0.0, 0.0))
    cube = next(s for s in report.starts if s.name == "cube")
    assert cube.slope is not None
    assert cube.slope[0] == pytest.approx(5, abs=0.01)
    assert "off the horizontal" in report.words[-1]


def test_too_few_demonstrations_say_nothing(tmp_path: Path) -> None:
    report = symmetry_report(inspect_file(write(tmp_path / "few.hdf5", n=4)).poses, (0.0, 0.0))
    assert report.verdict == "too few to say"
    assert symmetry_report([], (0.0, 0.0)).verdict == "too few to say"


def test_cameras() -> None:
    views = Views()
    poses = {"top": camera_pose(0), "beside": camera_pose(0, 0.1), "front": camera_pose(35)}
    for name, pose in poses.items():
        views.keep_pose(f"obs/{name}_pose", np.tile(pose, (4, 1, 1)))
    moving = np.tile(camera_pose(10), (4, 1, 1))
    moving[:, 0, 3] = np.arange(4) / 10
    views.keep_pose("obs/arm_pose", moving)
    keys = [f"obs/{n}_image" for n in (*poses, "arm", "robot0_eye_in_hand", "agentview")] + ["obs/front_depth"]
    found = {c.name: c for c in cameras(keys, views, (0.0, 0.0))}
    assert {n: c.exact for n, c in found.items()} == {
        "top": "yes",
        "beside": "approximate",
        "front": "approximate",
        "arm": "yes",
        "robot0_eye_in_hand": "yes",
        "agentview": "unknown",
    }
    assert found["front"].tilt == pytest.approx(35, abs=1e-3)
    assert "10 cm beside" in found["beside"].why


def test_longest_rest() -> None:
    x = np.array([0, 1, 1, 1, 2, 2, 3], float)[:, None] * np.ones((1, 3))
    assert longest_idle(x, None, 1e-3) == (1, 3)
    command = np.array([0, 0, 1, 1, 1, 1, 1], float)[:, None]
    assert longest_idle(x, command, 1e-3) == (2, 2)
    with pytest.raises(DataError, match=r"limits\.jump: expected a number > 0"):
        Limits(jump=0)


@pytest.mark.parametrize(
    ("stored", "kwargs", "expected"),
    [
        ({"rewards": [0, 1, 1]}, {}, True),
        ({"rewards": [0, 1, 0]}, {"reward_shaping": False}, False),  # solved, and undone again
        ({"rewards": [0, 0, 0.25]}, {"reward_scale": 1.0}, False),  # one of four things in its bin
        ({"rewards": [0, 0, 0.5]}, {"reward_scale": 0.5}, True),
        ({"rewards": [0.2, 0.4, 0.9]}, {"reward_shaping": True}, None),
        ({"rewards": [0.2, 0.4, 0.9], "dones": [0, 0, 0]}, {"reward_shaping": True}, False),
        ({"dones": [0, 0, 1]}, {}, None),  # the end of the demonstration, or of the task
        ({"dones": [0, 0, 0]}, {}, False),
        ({"rewards": [[0], [1]], "dones": []}, {}, None),
        ({}, {}, None),
    ],
)
@pytest.mark.parametrize("told", [None, True, False])
def test_success_is_told_or_follows_from_rewards_and_dones(
    tmp_path: Path, stored: dict[str, Any], kwargs: dict[str, Any], expected: bool | None, told: bool | None
) -> None:
    path = write(tmp_path / "s.hdf5", n=1, success=told)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": kwargs})
        for key, values in stored.items():
            file[f"data/demo_0/{key}"] = np.array(values, dtype=float)
    assert inspect_file(path).success == {"demo_0": expected if told is None else told}
