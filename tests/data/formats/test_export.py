"""Export to LeRobotDataset v3 and back; what is written is also read with pyarrow and av directly."""

from __future__ import annotations

import errno
import importlib.util
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from demo_files import write_demos
from foreign_files import write_picture_demos

from equidiff.data import DataError, DemoWriter
from equidiff.data.formats import import_dataset, open_dataset, read_mapping
from equidiff.data.formats.lerobot_export import MAPPING_FILE, export_lerobot
from equidiff.data.formats.lerobot_stats import episode_stats, merge_stats
from equidiff.data.formats.lerobot_tables import Limits

ROOT = Path(__file__).parents[3]
CAMERA = "observation.images.agentview"


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_demos(tmp_path_factory.mktemp("data") / "demos.hdf5")


def export(data: Path, out: Path, **options: Any) -> Path:
    return export_lerobot(data, out, **({"codec": "h264", "progress": False} | options)).path


def back(root: Path, out: Path) -> h5py.File:
    source = open_dataset(root)
    try:
        import_dataset(source, read_mapping(root / MAPPING_FILE), out, progress=False)
    finally:
        source.close()
    return h5py.File(out)


@pytest.mark.parametrize(
    ("options", "mean"), [({"images": "png"}, 0.0), ({"codec": "h264"}, 2.5), ({"codec": "libsvtav1"}, 2.5)]
)
def test_round_trip(options: dict[str, str], mean: float, demos: Path, tmp_path: Path) -> None:
    root = export(demos, tmp_path / "set", **options)
    with h5py.File(demos) as one, back(root, tmp_path / "again.hdf5") as other:
        assert list(other["data"]) == list(one["data"])
        assert list(other["mask/valid"]) == list(one["mask/valid"]) == [b"demo_2"]
        for name in one["data"]:
            before, after = one[f"data/{name}"], other[f"data/{name}"]
            assert set(after["obs"]) == set(before["obs"])
            for key in ["actions_abs", *(f"obs/{k}" for k in before["obs"] if k != "agentview_image")]:
                np.testing.assert_array_equal(after[key], before[key][()].astype(np.float32))
            error = np.abs(after["obs/agentview_image"][()].astype(float) - before["obs/agentview_image"][()])
            assert error.mean() <= mean


def test_the_layout(demos: Path, tmp_path: Path) -> None:
    """Names, columns and numbers as LeRobot expects them, seen without our reader."""
    root = export(demos, tmp_path / "set", task="lift the cube")
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 20, 3, 63)
    assert info["splits"] == {"train": "0:2", "valid": "2:3"}
    assert info["features"][CAMERA]["dtype"] == "video"
    assert info["features"][CAMERA]["shape"] == [64, 64, 3]
    assert info["features"]["action"]["names"][0] == "position.x"
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == set(info["features"]) - {CAMERA}
    assert table["index"].to_pylist() == list(range(63))
    assert table["frame_index"].to_pylist() == [*range(20), *range(21), *range(22)]
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:20], np.arange(20) / 20, atol=1e-6)
    assert pq.ParquetFile(root / "data/chunk-000/file-000.parquet").num_row_groups == 3
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["length"]) for r in rows] == [
        (0, 20, 20),
        (20, 41, 21),
        (41, 63, 22),
    ]
    assert rows[1][f"videos/{CAMERA}/from_timestamp"] == 1.0
    assert rows[1]["tasks"] == ["lift the cube"]
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0], "task": ["lift the cube"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((root / "meta/stats.json").read_text())
    actions = np.stack(table["action"].to_numpy())
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), atol=1e-6)
    assert stats["action"]["count"] == [63]
    assert np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)
    assert 0 < np.min(stats[CAMERA]["mean"]) < np.max(stats[CAMERA]["max"]) <= 1
    with av.open(str(root / f"videos/{CAMERA}/chunk-000/file-000.mp4")) as container:
        stream = container.streams.video[0]
        times = [float(frame.pts * stream.time_base) for frame in container.decode(stream)]
    np.testing.assert_allclose(times, np.arange(63) / 20, atol=1e-6)


@pytest.mark.parametrize("images", ["video", "png"])
def test_full_files_are_followed_by_others(images: str, demos: Path, tmp_path: Path) -> None:
    root = export(demos, tmp_path / "set", images=images, limits=Limits(data_mb=0.001, video_mb=0.001, files=2))
    assert sorted(p.relative_to(root / "data").as_posix() for p in (root / "data").rglob("*.parquet")) == [
        "chunk-000/file-000.parquet",
        "chunk-000/file-001.parquet",
        "chunk-001/file-000.parquet",
    ]
    with back(root, tmp_path / "again.hdf5") as other, h5py.File(demos) as one:
        for name in one["data"]:
            error = np.abs(
                other[f"data/{name}/obs/agentview_image"][()].astype(float) - one[f"data/{name}/obs/agentview_image"]
            )
            assert error.mean() < 2.5


def test_relative_actions_and_chosen_keys(tmp_path: Path) -> None:
    data = write_demos(tmp_path / "demos.hdf5", n=2)
    report = export_lerobot(data, tmp_path / "set", control="relative", obs=["cube_pos"], control_hz=10, progress=False)
    assert report.left_out["obs/cube_quat"] == "not chosen"
    assert "actions_abs" in report.left_out
    with back(report.path, tmp_path / "again.hdf5") as other, h5py.File(data) as one:
        assert list(other["data/demo_1/obs"]) == ["cube_pos"]
        np.testing.assert_array_equal(other["data/demo_1/actions"], one["data/demo_1/actions"][()].astype(np.float32))
        assert "actions_abs" not in other["data/demo_1"]


def test_a_short_video_is_told(demos: Path, tmp_path: Path) -> None:
    root = export(demos, tmp_path / "set")
    (video,) = root.rglob("*.mp4")
    whole = video.read_bytes()
    contents = {"half": whole[: len(whole) // 2], "empty": b"", "none": None}
    for (name, content), message in zip(contents.items(), ("truncated", "truncated", "is missing"), strict=True):
        video.unlink()
        if content is not None:
            video.write_bytes(content)
        else:
            assert not video.exists()
        with pytest.raises(DataError, match=message):
            back(root, tmp_path / f"{name}.hdf5")
        assert not (tmp_path / f"{name}.hdf5").exists()
        video.touch()


def test_video_of_another_rate(demos: Path, tmp_path: Path) -> None:
    root = export(demos, tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"fps": 30}))
    with pytest.raises(DataError, match="fps=30"):
        back(root, tmp_path / "again.hdf5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": "absolut"}, "did you mean 'absolute'"),
        ({"images": "pngs"}, "did you mean 'png'"),
        ({"codec": "h246"}, "did you mean 'h264'"),
        ({"crf": 99}, "from 0 (best) to 51"),
        ({"obs": ["cube_ps"]}, "no observation 'cube_ps'; did you mean 'cube_pos'"),
        ({"control_hz": 10}, "was recorded at 20 Hz"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str, demos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        export(demos, tmp_path / "set", **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_bad_files_leave_nothing(demos: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="exists already"):
        export(demos, tmp_path / "taken")
    with pytest.raises(DataError, match="does not say its control rate"):
        export(write_demos(tmp_path / "no_rate.hdf5", n=1), tmp_path / "set")
    with pytest.raises(DataError, match="whole number"):
        export(write_demos(tmp_path / "no_rate2.hdf5", n=1), tmp_path / "set", control_hz=12.5)
    spoilt = write_picture_demos(tmp_path / "spoilt.hdf5")
    with h5py.File(spoilt, "r+") as file:
        file["data/demo_1/obs/cube_pos"][4, 2] = np.nan
    with pytest.raises(DataError, match=r"demo_1: 'obs/cube_pos' is nan at index \(4, 2\)"):
        export(spoilt, tmp_path / "set")
    with h5py.File(spoilt, "r+") as file:
        del file["data/demo_1/obs/cube_pos"]
    with pytest.raises(DataError, match="demo_1: has no 'obs/cube_pos'"):
        export(spoilt, tmp_path / "set")
    with DemoWriter(tmp_path / "odd.hdf5", {"env_kwargs": {"control_freq": 20}}) as writer:
        writer.add(0, actions_abs=np.zeros((4, 7)), obs={"a_image": np.zeros((4, 65, 64, 3), np.uint8)})
        odd = writer.finish()
    with pytest.raises(DataError, match=r"65 x 64 pixels cannot become a video.*images=png"):
        export(odd, tmp_path / "set")
    assert not [p for p in tmp_path.iterdir() if "set" in p.name]
    assert export(odd, tmp_path / "set", images="png").is_dir()


@pytest.mark.parametrize("images", ["video", "png"])
def test_export_to_a_full_disk(images: str, demos: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: both refuse the next block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
        with pytest.raises(DataError, match=r"set: cannot be written .*Free space"):
            export(demos, tmp_path / "set", images=images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_import_to_a_full_disk(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, add = export(demos, tmp_path / "set", images="png"), DemoWriter.add

    def full(self: DemoWriter, seed: int, *arrays: Any) -> None:
        if seed == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, seed, *arrays)

    with monkeypatch.context() as patch:
        patch.setattr(DemoWriter, "add", full)
        with pytest.raises(DataError, match=r"again\.hdf5: cannot be written .*No space left.*Free space"):
            back(root, tmp_path / "again.hdf5")
    assert not (tmp_path / "again.hdf5").exists()
    with back(root, tmp_path / "again.hdf5") as file:
        assert len(file["data"]) == 3


def test_merged_statistics() -> None:
    values = np.random.default_rng(0).normal(2, 3, (50, 4))
    merged = merge_stats(episode_stats(values[:13], False), episode_stats(values[13:], False))
    for name, expected in {"mean": values.mean(0), "std": values.std(0), "min": values.min(0)}.items():
        np.testing.assert_allclose(merged[name], expected)
    assert merged["count"] == [50]
    assert (merged["q99"] >= np.quantile(values, 0.99, axis=0) - 1.5).all()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A script's entry point, in this process; returns the exit code."""

    def call(name: str, *arguments: str) -> int:
        found = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"scripts/{name}.py")
        assert found is not None
        assert found.loader is not None
        script = importlib.util.module_from_spec(found)
        found.loader.exec_module(script)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            script.run_app(script.main, name, script.__doc__)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


def test_scripts(run: Callable[..., int], demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, again = tmp_path / "set", tmp_path / "again.hdf5"
    assert run("export_data", f"data={demos}", f"out={out}", "images=png", "instruction=lift") == 0
    said = capsys.readouterr()
    assert f"{out}: 3 episodes, 63 steps" in said.out
    assert "left out: states" in said.err
    assert run("import_data", f"data={out}", f"out={again}") == 0
    assert "3 demonstrations, 1 of them in mask/valid, 63 steps" in capsys.readouterr().out
    assert run("import_data", f"data={out}", "mapping=print") == 0
    draft = capsys.readouterr().out
    assert "cube_pos: {from: observation.state, slice: [0, 3], kind: position}" in draft
    (tmp_path / "draft.yaml").write_text(draft)
    only = tmp_path / "only.yaml"
    only.write_text(draft.replace("  cube_pos:", "  # cube_pos:"))
    assert run("import_data", f"data={out}", f"mapping={only}", f"out={tmp_path / 'only.hdf5'}") == 0
    assert "not read: observation.state[cube_pos.0], observation.state[cube_pos.1]" in capsys.readouterr().err
    assert run("import_data", f"data={out}", f"out={again}", "mapping=zarrr") == 2
    assert "no readable mapping file" in capsys.readouterr().err
    assert run("import_data", f"data={demos}", "mapping=zarr") == 2
    assert "needs no import" in capsys.readouterr().err
