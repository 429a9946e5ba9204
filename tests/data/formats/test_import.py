"""Foreign datasets, written by hand, become files to train on; damaged ones are refused with their fault named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from demo_files import TASK
from foreign_files import IDENTITY, ORDER, pictures, vectors, write_lerobot, write_zarr

from equidiff.data import DataError, DemoFile
from equidiff.data.formats import import_dataset, open_dataset, read_mapping, suggest_mapping
from equidiff.data.formats.importer import ImportReport

WITH_PICTURE = IDENTITY.replace("obs:", "obs:\n  top_image: {from: %s, kind: image}")
CAMERA = {"lerobot": "observation.images.top", "zarr": "img"}


def write(kind: str, path: Path, **options: Any) -> Path:
    return write_lerobot(path, **options) if kind == "lerobot" else write_zarr(path, **options)


def load(path: Path, out: Path, text: str = IDENTITY, **options: Any) -> ImportReport:
    mapping = out.with_suffix(".yaml")
    mapping.write_text(text)
    source = open_dataset(path)
    try:
        return import_dataset(source, read_mapping(mapping), out, progress=False, **options)
    finally:
        source.close()


@pytest.mark.parametrize("kind", ["lerobot", "lerobot_groups", "zarr", "zarr_zip"])
def test_what_was_written_is_what_is_read(kind: str, tmp_path: Path) -> None:
    kind, _, variant = kind.partition("_")
    options: dict[str, Any] = {"groups": {"one_group": False}, "zip": {"pack": True}}.get(variant, {})
    path = write(kind, tmp_path / ("set.zarr.zip" if variant == "zip" else "set"), **options)
    before = {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}
    report = load(path, tmp_path / "out.hdf5", WITH_PICTURE % CAMERA[kind], valid_fraction=0.25)
    assert (report.episodes, report.valid, report.steps, report.unread) == (4, 1, 18 + 19 + 20 + 21, ())
    assert {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()} == before
    with h5py.File(report.path) as file:
        assert [m.decode() for m in file["mask/valid"]] == ["demo_3"]
        for i in range(4):
            demo, (state, action) = file[f"data/demo_{i}"], vectors(i, 18 + i)
            np.testing.assert_array_equal(np.concatenate([demo[f"obs/{key}"] for key in ORDER], 1), state)
            np.testing.assert_array_equal(demo["actions_abs"], action)
            np.testing.assert_array_equal(demo["obs/top_image"], pictures(i, 18 + i, 16))
            assert demo.attrs["num_samples"] == 18 + i
    with DemoFile(report.path) as demos:
        assert demos.env_args["env_kwargs"] == {"control_freq": 20.0}
        assert json.loads(demos.attributes["mapping"])["control_hz"] == 20


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write_zarr(tmp_path / "set"), tmp_path / "out.hdf5"
    source_type = type(open_dataset(path))
    read, seen = source_type.read, []

    def stop(self: Any, episode: int, keys: Any) -> Any:
        seen.append(episode)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(self, episode, keys)

    monkeypatch.setattr(source_type, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        load(path, out)
    assert not out.exists()
    assert load(path, out).episodes == 4
    assert seen == [0, 1, 2, 2, 3]
    assert load(path, out).episodes == 4  # nothing left to do
    assert len(seen) == 5
    with pytest.raises(DataError, match="made with other settings"):
        load(path, out, IDENTITY.replace("scalars", "scalars, scale: 2"))


@pytest.mark.parametrize("kind", ["lerobot", "zarr"])
def test_the_imported_file_trains(kind: str, tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.data import WindowDataset
    from equidiff.data.source import load_training_data
    from equidiff.train import OptimConfig, Trainer, TrainerConfig

    out = load(write(kind, tmp_path / "set"), tmp_path / "out.hdf5").path
    few = ["symmetry=c4", "encoder.channels=4", "diffusion.inference_steps=2"]
    with initialize_config_dir(str(Path(__file__).parents[3] / "configs"), version_base="1.3"):
        config = compose("train", overrides=[f"data.path={out}", "task=lift", *few])
    spec, tree = make_spec(config), policy_tree(config)
    node = {"path": str(out), "n_demo": None, "mask": None, "valid_mask": "valid", "val_ratio": 0.25}
    source = load_training_data(node, spec, "absolute", TASK, tmp_path)
    data = WindowDataset.of(source.train, spec)
    spec.check(data.batch([0, 5, 17]))
    settings = TrainerConfig(max_steps=3, batch_size=8, device="cpu", valid_every=3, log_every=1, save_every=100)
    valid = WindowDataset.of(source.valid, spec)
    trainer = Trainer(make_policy(tree, spec), tree, data, tmp_path / "run", settings, OptimConfig(), valid=valid)
    assert trainer.run().step == 3
    losses = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(v) for line in losses for v in line.values())


@pytest.mark.parametrize("kind", ["lerobot", "zarr"])
def test_a_draft_names_everything_and_is_a_mapping(kind: str, tmp_path: Path) -> None:
    source = open_dataset(write(kind, tmp_path / "set"))
    text = suggest_mapping(source)
    source.close()
    assert all(key in text for key in ("observation.state", "action", CAMERA[kind]))
    if kind == "zarr":
        assert "control_hz:  " in text
    (tmp_path / "m.yaml").write_text(text)
    mapping = read_mapping(tmp_path / "m.yaml")
    assert set(mapping.sources) == {"observation.state", "action", CAMERA[kind]}


# -- rates and names -------------------------------------------------------------------------------


def test_another_rate_is_refused(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "set")
    with pytest.raises(DataError, match="recorded at 20 Hz, the mapping's control_hz is 10"):
        load(path, tmp_path / "out.hdf5", IDENTITY.replace("control_hz: 20", "control_hz: 10"))
    with pytest.raises(DataError, match="does not say its rate"):
        load(write_zarr(tmp_path / "zarr"), tmp_path / "out.hdf5", IDENTITY.replace("control_hz: 20", ""))
    assert not (tmp_path / "out.hdf5").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 9}, "from 1 to 4"), ({"valid_fraction": 1.0}, "0 <= valid_fraction < 1")],
)
def test_numbers_out_of_range(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(write_zarr(tmp_path / "set"), tmp_path / "out.hdf5", **options)
    with pytest.raises(DataError, match=r"ends in \.hdf5"):
        load(write_zarr(tmp_path / "set2"), tmp_path / "out.zarr")


def test_which_format(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("data")
    (tmp_path / "a.zip").write_bytes(b"nothing")
    for name, kind, message in (
        ("foldr", "auto", "did you mean 'folder'"),
        ("folder", "auto", "neither a LeRobotDataset v3"),
        ("folder", "lerobott", "did you mean 'lerobot'"),
        ("folder", "lerobot", "no meta/info.json"),
        ("folder", "zarr", "is not a zarr group"),
        ("a.hdf5", "auto", "needs no import"),
        ("a.zip", "zarr", "not a zip archive"),
    ):
        with pytest.raises(DataError) as error:
            open_dataset(tmp_path / name, kind)
        assert message in str(error.value)


# -- damaged replay buffers ------------------------------------------------------------------------

STEPS = 18 + 19 + 20 + 21


def spoilt(values: Any) -> Any:
    changed = values.copy()
    changed[40, 1] = np.nan
    return changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta/episode_ends": np.array([18, 18, STEPS])}, "does not increase: entry 1 is 18 after 18"),
        ({"meta/episode_ends": np.array([18, 37, STEPS - 1])}, "the last episode ends at 77"),
        ({"meta/episode_ends": np.array([18.0, STEPS])}, "expected whole numbers"),
        ({"meta/episode_ends": None, "meta/ends": np.array([3])}, "no meta/episode_ends; it has ends"),
        ({"data/img": np.zeros((STEPS - 1, 16, 16, 3), np.uint8)}, "data/img has 77 steps"),
        ({"data/names": np.array(["a"] * STEPS)}, "expected numbers"),
        ({"data/action": np.full((STEPS, 7), np.nan, np.float32)}, "episode 0: 'action' is nan at index (0, 0)"),
    ],
)
def test_damaged_replay_buffers(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, out = write_zarr(tmp_path / "set", **changes), tmp_path / "out.hdf5"
    with pytest.raises(DataError) as error:
        load(path, out)
    assert message in str(error.value)
    assert not out.exists()


def test_replay_buffers_with_missing_or_damaged_chunks(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "set")
    whole = (path / "data/action/3.0").read_bytes()
    (path / "data/action/3.0").write_bytes(b"not a chunk")
    with pytest.raises(DataError, match=r"data/action/3\.0: a chunk of 11 bytes, expected 16"):
        open_dataset(path)
    header = bytes([*whole[:2], whole[2] & ~2, *whole[3:16]])  # compressed, not stored as it is
    (path / "data/action/3.0").write_bytes(header + b"\xff" * (len(whole) - 16))
    with pytest.raises(DataError, match="episode 1: 'action' cannot be decoded"):
        load(path, tmp_path / "out.hdf5")
    (path / "data/action/3.0").unlink()
    with pytest.raises(DataError, match="data/action: 1 of 8 chunks are missing"):
        open_dataset(path)


def test_replay_buffers_of_other_layouts(tmp_path: Path) -> None:
    root = zarr.group(zarr.DirectoryStore(str(tmp_path / "flat")))
    root.create_dataset("action", data=np.zeros((3, 7)))
    with pytest.raises(DataError, match="has no group 'data'; it has action"):
        open_dataset(tmp_path / "flat")
    (tmp_path / "three").mkdir()
    (tmp_path / "three/zarr.json").write_text("{}")
    with pytest.raises(DataError, match="zarr version 3"):
        open_dataset(tmp_path / "three")
    path = write_zarr(tmp_path / "set")
    about = json.loads((path / "data/action/.zarray").read_text())
    for change, message in (
        ({"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}, "pickled objects"),
        ({"compressor": {"id": "imagecodecs_lerc"}}, "'imagecodecs_lerc' is not supported"),
        ({"compressor": {"id": "nothing_known"}}, "cannot be opened"),
    ):
        (path / "data/action/.zarray").write_text(json.dumps(about | change))
        with pytest.raises(DataError, match=message):
            open_dataset(path)


def test_jpeg2000_as_diffusion_policy_stores_pictures(tmp_path: Path) -> None:
    codec = pytest.importorskip("imagecodecs.numcodecs")
    path = write_zarr(tmp_path / "set")
    shown = np.concatenate([pictures(i, 18 + i, 32) for i in range(4)])
    codec.register_codecs("imagecodecs_jpeg2k", verbose=False)
    zarr.open_group(str(path)).create_dataset(
        "data/camera_0", data=shown, chunks=(1, 32, 32, 3), compressor=codec.Jpeg2k(level=60)
    )
    source = open_dataset(path)
    seen = source.read(2, ["camera_0"])["camera_0"]
    assert np.abs(seen.astype(int) - pictures(2, 20, 32)).mean() < 2


# -- damaged LeRobot datasets ----------------------------------------------------------------------


def change_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_data(root: Path, name: str, step: int, value: Any) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    values = table[name].to_pylist()
    values[step] = value
    index = table.schema.get_field_index(name)
    pq.write_table(
        table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type)), path
    )


DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: change_info(r, codebase_version="v2.1"), "convert_dataset_v21_to_v30"),
        (lambda r: change_info(r, codebase_version="v4.0"), "codebase_version is v4.0, expected v3.0"),
        (lambda r: change_info(r, fps=0), "fps is 0"),
        (lambda r: change_info(r, features=None), "not the layout of v3.0"),
        (lambda r: change_info(r, total_episodes=5), "counts 5 episodes, meta/episodes lists 4"),
        (lambda r: change_info(r, total_frames=9), "counts 9 frames, the episodes have 78"),
        (lambda r: change_info(r, fps=30), "timestamp is 0.0500 s at step 1, expected 0.0333 s"),
        (lambda r: change_info(r, data_path="data/{nothing}"), "cannot be filled in"),
        (lambda r: change_info(r, data_path="../{chunk_index}-{file_index}"), "outside the dataset"),
        (lambda r: (r / "meta/info.json").write_text("{"), "damaged JSON"),
        (lambda r: (r / DATA).write_bytes((r / DATA).read_bytes()[:-200]), "perhaps truncated"),
        (lambda r: (r / EPISODES).write_bytes((r / EPISODES).read_bytes()[:-50]), "perhaps truncated"),
        (lambda r: (r / DATA).unlink(), "is missing; copy the dataset again"),
        (lambda r: shutil.rmtree(r / "meta/episodes"), "has no meta/episodes"),
        (lambda r: change_data(r, "action", 3, [0, 1, float("inf"), 0, 0, 0, 0]), "'action' is inf at index (3, 2)"),
        (lambda r: change_data(r, "action", 3, [0, 1, None, 0, 0, 0, 0]), "'action' has empty cells"),
        (lambda r: change_data(r, "observation.state", 3, None), "'observation.state' has empty cells"),
        (lambda r: change_data(r, "observation.state", 3, [1.0] * 15), "has 287 values in 18 steps"),
        (lambda r: change_data(r, "frame_index", 3, 7), "column 'frame_index' is 7 at step 3, expected 3"),
        (lambda r: change_data(r, "episode_index", 2, 1), "column 'episode_index' is 1 at step 2, expected 0"),
        (lambda r: change_data(r, "observation.images.top", 2, {"bytes": b"PNG?"}), "the picture of step 2 is damaged"),
        (lambda r: change_data(r, "observation.images.top", 2, None), "has no picture in step 2"),
    ],
)
def test_damaged_lerobot_datasets(damage: Any, message: str, tmp_path: Path) -> None:
    root, out = write_lerobot(tmp_path / "set"), tmp_path / "out.hdf5"
    damage(root)
    with pytest.raises(DataError) as error:
        load(root, out, (WITH_PICTURE % CAMERA["lerobot"]).replace("control_hz: 20", ""))
    assert message in str(error.value)
    assert not out.exists()


# -- imported again --------------------------------------------------------------------------------


def edit(kind: str, path: Path) -> None:
    """Other values of the same shape."""
    if kind == "zarr":
        root = zarr.open_group(str(path))
        root["data/action"][:] = root["data/action"][:][::-1]
    else:
        change_data(path, "action", 3, [0.5] * 7)


@pytest.mark.parametrize("kind", ["lerobot", "zarr", "zarr_zip"])
def test_another_content_is_not_taken_for_what_was_imported(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out.hdf5"
    if kind == "zarr_zip":
        for folder in "abc":
            (tmp_path / folder).mkdir()
        load(write_zarr(tmp_path / "a/set.zarr.zip", pack=True), out)
        load(write_zarr(tmp_path / "b/set.zarr.zip", pack=True), out)  # the same, packed at another time
        path = write_zarr(tmp_path / "c/set.zarr.zip", pack=True, **{"data/action": np.zeros((STEPS, 7), np.float32)})
    else:
        load(write(kind, tmp_path / "set"), out)
        path = tmp_path / "copy" / "set"
        shutil.copytree(tmp_path / "set", path)
        (path / ".cache").mkdir()
        (path / ".cache" / "notes").write_text("of a program that downloads")
        assert load(path, out).episodes == 4  # whenever its files were written
        edit(kind, path)
    before = out.read_bytes()
    with pytest.raises(
        DataError, match=r"made with other settings \(attrs\.source\.mark: '\w{16}' there, '\w{16}' now\)"
    ):
        load(path, out)
    assert out.read_bytes() == before


def test_the_report_says_what_is_in_the_file(tmp_path: Path) -> None:
    path, out = write_zarr(tmp_path / "set", n=10), tmp_path / "out.hdf5"
    stamp = 0
    for fraction, valid, written in ((0.04, 1, True), (0.5, 5, True), (0.5, 5, False), (0.0, 0, True)):
        report = load(path, out, valid_fraction=fraction)
        assert (report.episodes, report.valid, report.steps) == (10, valid, sum(range(18, 28)))
        with DemoFile(out) as file:
            assert len(file.masks.get("valid", ())) == valid
            assert len(file.masks["train"]) == 10 - valid
        assert (out.stat().st_mtime_ns != stamp) == written
        stamp = out.stat().st_mtime_ns


@pytest.mark.parametrize(
    "name", [".zgroup", "data/.zgroup", "meta/.zgroup", "data/action/.zarray", "meta/episode_ends/.zarray"]
)
@pytest.mark.parametrize("cut", [0, 5, -3])
def test_replay_buffers_whose_descriptions_are_cut(name: str, cut: int, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "set", n=1)
    (path / name).write_bytes((path / name).read_bytes()[:cut])
    with pytest.raises(DataError, match=rf"{name}: damaged JSON, perhaps truncated .*; copy it again"):
        open_dataset(path)
    (path / name).write_text("[1]")
    with pytest.raises(DataError, match="set"):
        open_dataset(path)


@pytest.mark.parametrize("name", ["data/action/1.0", "data/img/0.0.0.0", "meta/episode_ends/0"])
def test_a_chunk_that_is_cut_is_never_decoded(name: str, tmp_path: Path) -> None:
    """Blosc trusts the lengths in its header and reads on behind the end."""
    path = write_zarr(tmp_path / "set", n=1)
    whole = (path / name).read_bytes()
    for size in (0, 3, 15, 16, len(whole) // 2, len(whole) - 1):
        (path / name).write_bytes(whole[:size])
        with pytest.raises(DataError, match=f"{name}: a chunk of {size} bytes, .*perhaps truncated; copy it again"):
            open_dataset(path)
    (path / name).write_bytes(whole)
    (path / name).with_name("Thumbs.db").write_bytes(b"not of zarr")
    open_dataset(path).close()


def test_a_zip_that_is_cut(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "set.zarr.zip", n=1, pack=True)
    whole = path.read_bytes()
    for size in (4, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"is a damaged zip archive, perhaps truncated .*; copy it again"):
            open_dataset(path)
