"""What the configured cameras and clouds see follows the task's workspace."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from image_files import image_spec, write_images
from omegaconf import OmegaConf

from equidiff.compose import make_spec
from equidiff.fields import Depth, Image
from equidiff.perception import (
    CameraSettings,
    Frame,
    Perception,
    PerceptionError,
    PerceptionSettings,
    PointCloudSettings,
    camera_pose,
    check_overhead,
    intrinsics,
)
from equidiff.spec import Space

CONFIGS = Path(__file__).parents[2] / "configs"
TASKS = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))


def _config(*words: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", ["data.path=none", *words])


def _resolved(obs: str, task: dict[str, Any]) -> tuple[dict[str, Any], PerceptionSettings]:
    """The node of an observation and its settings, for a task."""
    tree = OmegaConf.create({"obs": OmegaConf.load(CONFIGS / "obs" / f"{obs}.yaml"), "task": task})
    node: Any = OmegaConf.to_container(tree.obs, resolve=True)
    return node, PerceptionSettings.from_config(node["perception"], task["bounds"], tuple(task["centre"]))


@pytest.mark.parametrize("name", TASKS)
def test_cameras_and_clouds_stand_over_every_tasks_table(name: str) -> None:
    task = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text())
    table, centre = task.get("table_height", 0.8), task["centre"]
    node, settings = _resolved("point_cloud", task)
    cloud = settings.point_cloud
    assert cloud is not None
    np.testing.assert_allclose(cloud.kept[2], (table + 0.006, table + 0.1), atol=1e-9)
    np.testing.assert_allclose(cloud.empty, (*centre, table), atol=1e-9)
    assert node["fields"]["floor_z"] == pytest.approx(table)
    for obs in ("point_cloud", "overhead_image"):
        top = _resolved(obs, task)[1].cameras["top"]
        assert top.position is not None
        assert top.target is not None
        np.testing.assert_allclose(top.position, (*centre, table + 0.9), atol=1e-9)
        np.testing.assert_allclose(top.target, (*centre, table), atol=1e-9)


def test_a_task_at_the_origin_sees_what_it_always_saw() -> None:
    settings = _resolved("point_cloud", yaml.safe_load((CONFIGS / "task" / "lift.yaml").read_text()))[1]
    assert settings.cameras["top"] == CameraSettings(112, 112, (0.0, 0.0, 1.7), (0.0, 0.0, 0.8), 40.0)
    assert settings.cameras["left"] == CameraSettings(112, 112, (0.5, 0.5, 1.3), (-0.05, -0.05, 0.8), 40.0)
    assert settings.point_cloud is not None
    assert settings.point_cloud.kept[2] == (0.806, 0.9)


def test_an_empty_cloud_lies_on_the_axis() -> None:
    bounds = ((-0.6, 0.2), (-0.4, 0.4), (0.9, 1.4))
    cloud = PointCloudSettings(("top",), bounds, points=8)
    settings = PerceptionSettings({"top": CameraSettings(4, 4)}, point_cloud=cloud)
    nothing = Frame(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16), intrinsics(45, 4, 4), np.eye(4))
    seen = Perception(settings).observe({"top": nothing})["point_cloud"]
    np.testing.assert_allclose(seen, np.tile(np.float32([-0.2, 0, 0.9, 0, 0, 0]), (8, 1)))
    field = make_spec(_config("task=kitchen_d1", "obs=point_cloud")).observation.sources["point_cloud"]
    stored = torch.from_numpy(seen).double()
    torch.testing.assert_close(field.rotate(stored, 1.0), stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": "table"}, r"cameras.top.origin: expected world or workspace, got 'table'"),
        ({"origin": "workspace", "target": None}, r"cameras.top.target: with origin=workspace, expected \[x, y, z\]"),
    ],
)
def test_bad_places_are_refused(change: dict[str, Any], message: str) -> None:
    camera = {"position": [0, 0, 1], "target": [0, 0, 0], **change}
    bounds = ((-0.4, 0.4), (-0.4, 0.4), (0.8, 1.6))
    with pytest.raises(PerceptionError, match=message):
        PerceptionSettings.from_config({"cameras": {"top": camera}, "image": ["top"]}, bounds)
    if change["origin"] == "workspace":
        whole = {**camera, "target": [0, 0, 0]}
        with pytest.raises(PerceptionError, match="needs the task's bounds"):
            PerceptionSettings.from_config({"cameras": {"top": whole}, "image": ["top"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0.0}, "point_cloud.height: expected metres above the clearance"),
        ({"centre": (0.0,)}, r"point_cloud.centre: expected \(x, y\)"),
    ],
)
def test_bad_clouds_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PerceptionError, match=message):
        PointCloudSettings(("top",), ((-1, 1), (-1, 1), (0, 1)), **change)


def test_a_camera_declared_overhead_is_over_the_centre() -> None:
    arrays = {"top_image": Image("top_image", overhead=True), "side_depth": Depth("side_depth", overhead=True)}
    above, beside = camera_pose((-0.2, 0.0, 1.8), (-0.2, 0.0, 0.9)), camera_pose((0.3, 0.0, 1.5), (-0.2, 0.0, 0.9))
    check_overhead(arrays, {"top": above, "side": above}, (-0.2, 0.0))
    check_overhead(arrays, {}, (-0.2, 0.0))
    check_overhead({"top_image": Image("top_image")}, {"top": beside}, (-0.2, 0.0))
    with pytest.raises(PerceptionError, match=r"'side_depth': declared overhead, .*tilted by 39.8.*overhead=false"):
        check_overhead(arrays, {"side": beside}, (-0.2, 0.0))
    with pytest.raises(PerceptionError, match=r"'top_image': .* at \(-0.2, 0\), 0.200 m from .* \(0.0, 0.0\)"):
        check_overhead(arrays, {"top": above}, (0.0, 0.0))


def test_a_config_whose_overhead_camera_stands_elsewhere_is_refused() -> None:
    words = ["task=hammer_cleanup_d1", "experiment=image_equivariant"]
    make_spec(_config(*words))
    with pytest.raises(PerceptionError, match=r"0.200 m from the workspace centre \(-0.2, 0.0\)"):
        make_spec(_config(*words, "obs.perception.cameras.top.origin=world"))


@pytest.mark.parametrize("tilted", [True, False])
def test_data_of_a_camera_declared_overhead_must_be_from_above(tmp_path: Path, tilted: bool) -> None:
    from equidiff.data.source import load_training_data

    path, spec = write_images(tmp_path / "demos.hdf5", n=1, steps=9, size=8), image_spec(size=8)
    front = replace(spec.observation.fields[0], overhead=True)  # type: ignore[call-arg]
    overhead = replace(spec, observation=Space((front, *spec.observation.fields[1:])))
    pose = camera_pose((0.5, 0.0, 1.4) if tilted else (0.0, 0.0, 1.4), (0.0, 0.0, 0.8))
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/front_pose"] = np.tile(pose, (9, 1, 1))
    load = lambda spec: load_training_data({"path": str(path)}, spec, "absolute", {"name": "lift"}, tmp_path)
    load(spec)
    if tilted:
        with pytest.raises(PerceptionError, match=r"'front_image': declared overhead.*obs.fields.overhead=false"):
            load(overhead)
    else:
        load(overhead)
