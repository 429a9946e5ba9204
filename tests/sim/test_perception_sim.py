"""What is prepared from states is what a live environment sees; the fast renderer; resuming; refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from disk_toys import small_disk

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)
import h5py
from filelock import FileLock

from equidiff.data.episode import DataError
from equidiff.data.writer import DemoWriter
from equidiff.fields import Displacement, Image, Scalars
from equidiff.perception import CameraSettings, PerceptionError, PerceptionSettings, world_points
from equidiff.sim import prepare as preparation
from equidiff.sim import workers
from equidiff.sim.demos import generate
from equidiff.sim.env import env_arguments, make_env
from equidiff.sim.meshes import with_fewer_faces
from equidiff.sim.prepare import prepare, prepare_states
from equidiff.sim.prepare_settings import find_task, like_observation, perception_of
from equidiff.sim.render import Renderer, RendererSettings
from equidiff.sim.seeing import sight_of
from equidiff.sim.task import Task
from equidiff.spec import Space, Spec

pytestmark = pytest.mark.sim
CONFIGS = Path(__file__).parents[2] / "configs"
TASK: dict[str, Any] = yaml.safe_load((CONFIGS / "task" / "lift.yaml").read_text())
TOP = {"position": [0.0, 0.0, 1.9], "target": [0.0, 0.0, 0.8]}
NODE: dict[str, Any] = {
    "cameras": {
        "agentview": {"width": 48, "height": 48},
        "robot0_eye_in_hand": {"width": 48, "height": 48},
        "top": {"width": 64, "height": 48, **TOP},
    },
    "image": ["agentview", "robot0_eye_in_hand"],
    "depth": ["top"],
    "voxels": {"size": 16, "cameras": ["agentview", "top"]},
    "point_cloud": {"points": 128, "cameras": ["agentview", "top"], "clearance": 0.006},
}
SETTINGS = PerceptionSettings.from_config(NODE, TASK["bounds"], tuple(TASK["centre"]))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQUIDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    generate(TASK, 3, path, workers=1, valid_fraction=0.3, progress=False)
    return path


@pytest.fixture(scope="module")
def prepared(demos: Path) -> Path:
    return prepare(demos, TASK, demos.with_name("seen.hdf5"), perception=SETTINGS, workers=1, progress=False)


TINY = {"agentview": {"width": 24, "height": 20}}
SEEN = {
    "lift, all kinds": ("lift", NODE, RendererSettings(), 10),
    "stack, robosuite's quality": ("stack", {"cameras": TINY, "image": ["agentview"]}, RendererSettings("default"), 3),
}


@pytest.mark.parametrize("case", SEEN)
def test_prepared_is_what_a_live_environment_saw(case: str, tmp_path: Path) -> None:
    name, node, renderer, steps = SEEN[case]
    task: dict[str, Any] = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text())
    perception = PerceptionSettings.from_config(node, task["bounds"])
    env = make_env(task, "relative", perception=perception, renderer=renderer)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 7))
    states, seen = [], []
    try:
        observation, _ = env.reset(seed=5)
        assert env.observation_space.contains(observation)
        for action in actions:
            states.append(env.state)
            seen.append(observation)
            observation, *_ = env.step(action)
        model_file = env.model_xml
        env.blind = True
        assert not set(env.observe()) & set(perception.shapes)
    finally:
        env.close()
    with DemoWriter(tmp_path / "live.hdf5", env_arguments(Task.from_config(task), "relative")) as writer:
        writer.add(5, states, actions, actions, {"robot0_eef_pos": [s["robot0_eef_pos"] for s in seen]}, model_file)
        path = writer.finish()
    out = tmp_path / "seen.hdf5"
    prepare(path, task, out, perception=perception, renderer=renderer, workers=1, progress=False)
    with h5py.File(out) as made:
        assert json.loads(made["data"].attrs["perception"])["renderer"]["kind"] == renderer.kind
        stored = made["data/demo_0/obs"]
        assert set(stored) == set(seen[0])
        for key in stored:
            np.testing.assert_array_equal(stored[key][()], np.stack([step[key] for step in seen]), err_msg=key)


def test_the_prepared_file_is_whole(demos: Path, prepared: Path) -> None:
    with h5py.File(prepared) as made, h5py.File(demos) as given:
        assert sorted(made["data"]) == sorted(given["data"])
        assert made["mask/train"][()].tolist() == given["mask/train"][()].tolist()
        demo = made["data/demo_0"]
        assert "next_obs" not in demo
        for key in ("states", "actions", "actions_abs"):
            np.testing.assert_array_equal(demo[key], given[f"data/demo_0/{key}"])
        assert {
            k: (v.shape[1:], v.dtype.name) for k, v in demo["obs"].items() if k in SETTINGS.shapes
        } == SETTINGS.shapes
        assert demo["obs/agentview_image"].compression == "gzip"
        about = json.loads(made["data"].attrs["perception"])
        assert PerceptionSettings.from_config(about["settings"]) == SETTINGS
        assert about["renderer"]["kind"] == "fast"
        assert set(about["intrinsics"]) == set(SETTINGS.used)
        assert made["data"].attrs["prepared_from"] == demos.name
    assert not list(prepared.parent.glob(".seen*"))


def test_points_lie_on_the_cube_within_two_millimetres(prepared: Path) -> None:
    env = make_env(TASK, perception=SETTINGS)
    try:
        env.reset(seed=3)
        renderer = Renderer(env.model, {"top": CameraSettings(200, 200, (0, 0, 1.9), (0, 0, 0.8))}, RendererSettings())
        points, colours = world_points(renderer.frame(env.data, "top", depth=True))
        renderer.close()
        position, rotation = env.pose("cube")
        half = env.model.geom_size[env.model.geom("cube_g0").id]
    finally:
        env.close()
    # what is near the cube and above the table is the cube
    red = (np.linalg.norm((points - position)[:, :2], axis=1) < 0.05) & (points[:, 2] > 0.803) & (points[:, 2] < 0.87)
    assert red.sum() > 30
    assert np.median(colours[red, 0]) > np.median(colours[red, 1]) + 30
    local = np.abs((points[red] - position) @ rotation)
    outside = np.linalg.norm(np.maximum(local - half, 0), axis=1)
    inside = (half - local).min(1)
    assert np.maximum(outside, inside).max() < 0.002


def test_a_camera_of_ones_own_is_where_its_pose_says() -> None:
    """The same point of the table, seen by two cameras."""
    env = make_env(TASK)
    try:
        env.reset(seed=0)
        cameras = {
            "top": CameraSettings(100, 100, (0, 0, 1.9), (0, 0, 0.8)),
            "side": CameraSettings(100, 100, (0.9, -0.6, 1.5), (0, 0, 0.8)),
        }
        renderer = Renderer(env.model, cameras, RendererSettings())
        seen = {name: world_points(renderer.frame(env.data, name, depth=True)) for name in cameras}
        position, _ = env.pose("cube")
        renderer.close()
    finally:
        env.close()
    for points, _ in seen.values():
        near = np.linalg.norm(points - position, axis=1) < 0.04
        assert near.sum() > 10
        assert np.abs(points[near].mean(0) - position).max() < 0.02


def test_the_fast_renderer_changes_little_and_leaves_physics_alone() -> None:
    env = make_env(TASK)
    try:
        env.reset(seed=1)
        before = {
            k: np.array(getattr(env.model, k)) for k in ("mesh_vert", "mesh_face", "mesh_facenum", "mat_reflectance")
        }
        cameras = {"agentview": CameraSettings(), "robot0_eye_in_hand": CameraSettings()}
        pictures = {}
        kinds = {
            "default": RendererSettings("default"),
            "fast": RendererSettings(),
            "smooth": RendererSettings(samples=2),
        }
        for kind, settings in kinds.items():
            renderer = Renderer(env.model, cameras, settings)
            pictures[kind] = np.stack([renderer.frame(env.data, name, False).image for name in cameras]).astype(int)
            renderer.close()
        drawn = with_fewer_faces(env.model, 0.1, 200, 1500)
        assert drawn.mesh_facenum.sum() < 0.3 * env.model.mesh_facenum.sum()
        for key, value in before.items():
            np.testing.assert_array_equal(getattr(env.model, key), value)
    finally:
        env.close()
    off = {kind: float(np.abs(pictures["default"] - drawn).mean()) for kind, drawn in pictures.items()}
    assert 0 < off["smooth"] < 0.8 * off["fast"]
    assert off["fast"] < 3  # grey levels, the mean over the cameras, as scripts/bench_rendering.py computes it


def test_it_goes_on_after_a_kill_and_does_not_depend_on_the_workers(
    demos: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = preparation.Maker.__call__

    def dies_at_the_second(self: Any, name: str, parts: Path) -> str:
        if len(made) == 1:
            (parts / f".{name}.hdf5.part").write_bytes(b"half")
            raise KeyboardInterrupt
        made.append(name)
        return make(self, name, parts)

    out = tmp_path / "seen.hdf5"
    with monkeypatch.context() as patch:
        patch.setattr(preparation.Maker, "__call__", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare(demos, TASK, out, perception=SETTINGS, workers=1, progress=False)
    assert not out.exists()
    assert [p.name for p in (tmp_path / ".seen.hdf5.parts").glob("*.hdf5")] == ["demo_0.hdf5"]
    other = PerceptionSettings.from_config({**NODE, "image": ["agentview"]}, TASK["bounds"])
    with pytest.raises(DataError, match="an interrupted preparation with another perception is there"):
        prepare(demos, TASK, out, perception=other, workers=1, progress=False)
    prepare(demos, TASK, out, perception=SETTINGS, workers=2, progress=False)
    with h5py.File(out) as a, h5py.File(prepared) as b:
        for name in b["data"]:
            for key in b[f"data/{name}/obs"]:
                np.testing.assert_array_equal(a[f"data/{name}/obs/{key}"], b[f"data/{name}/obs/{key}"])
    assert [p.name for p in tmp_path.iterdir()] == ["seen.hdf5"]


def test_a_full_disk_leaves_nothing_half_written_and_the_same_call_goes_on(demos: Path, tmp_path: Path) -> None:
    out, message = tmp_path / "out.hdf5", r"cannot be written \(.*File too large.*the same call goes on"
    with small_disk(50_000), pytest.raises(DataError, match=message):
        prepare(demos, TASK, out, workers=1, progress=False)
    assert not out.exists()
    assert not list((tmp_path / ".out.hdf5.parts").glob("*.part"))
    assert prepare(demos, TASK, out, workers=1, progress=False) == out
    assert [p.name for p in tmp_path.iterdir()] == ["out.hdf5"]


def test_two_preparations_of_one_file_do_not_meet(demos: Path, tmp_path: Path) -> None:
    parts = tmp_path / ".out.hdf5.parts"
    parts.mkdir()
    with FileLock(parts / ".lock"), pytest.raises(DataError, match="another process is at work there"):
        prepare(demos, TASK, tmp_path / "out.hdf5", workers=1, progress=False)
    assert not (tmp_path / "out.hdf5").exists()


def test_training_waits_for_the_one_that_prepares(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, parts = tmp_path / "out.hdf5", tmp_path / ".out.hdf5.parts"
    parts.mkdir()
    held, ends = threading.Event(), threading.Event()

    def finish() -> None:
        with FileLock(parts / ".lock"):
            held.set()
            ends.wait(60)
            out.write_bytes(b"made by the other one")

    other = threading.Thread(target=finish)
    other.start()
    assert held.wait(60)
    monkeypatch.setattr("builtins.print", lambda *words, **more: (said.extend(words), ends.set()))
    said: list[str] = []
    assert prepare_states(demos, TASK, out, progress=False) == out
    other.join()
    assert said == [f"{out}: another process is making it; waiting for that one"]
    assert out.read_bytes() == b"made by the other one"
    assert [p.name for p in tmp_path.iterdir()] == ["out.hdf5"]


def test_parts_of_a_large_file_that_was_touched_are_made_again(
    demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy has another time of change and must not be refused; an edit may lie where no sample is taken."""
    source, out = tmp_path / "large.hdf5", tmp_path / "out.hdf5"
    source.write_bytes(demos.read_bytes())
    monkeypatch.setattr("equidiff.data.robomimic._WHOLE", 10)
    monkeypatch.setattr("equidiff.data.robomimic._BLOCK", 4)
    made: list[str] = []
    make = preparation.Maker.__call__

    def dies_at_the_second(self: Any, name: str, parts: Path) -> str:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(name)
        return make(self, name, parts)

    with monkeypatch.context() as patch:
        patch.setattr(preparation.Maker, "__call__", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, TASK, out, workers=1, progress=False)
    os.utime(source, ns=(1, 1))
    monkeypatch.setattr(
        preparation.Maker, "__call__", lambda self, name, parts: (made.append(name), make(self, name, parts))[1]
    )
    prepare(source, TASK, out, workers=1, progress=False)
    assert made == ["demo_0", "demo_0", "demo_1", "demo_2"]
    assert (
        "large.hdf5 was changed or copied since the interrupted preparation; it begins anew" in capsys.readouterr().out
    )


def test_bad_input_is_refused_before_any_work(demos: Path, tmp_path: Path) -> None:
    lost = PerceptionSettings.from_config({"cameras": {"agentveiw": {}}, "image": ["agentveiw"]})
    with pytest.raises(PerceptionError, match="camera 'agentveiw' does not exist; did you mean 'agentview'"):
        prepare(demos, TASK, tmp_path / "a.hdf5", perception=lost, workers=2, progress=False)
    with pytest.raises(DataError, match="would be overwritten"):
        prepare(demos, TASK, demos, progress=False)
    stack = yaml.safe_load((CONFIGS / "task" / "stack.yaml").read_text())
    with pytest.raises(DataError, match=r"was made in 'Lift', but task=stack is 'Stack'"):
        prepare(demos, stack, tmp_path / "a.hdf5", progress=False)
    broken = tmp_path / "broken.hdf5"
    broken.write_bytes(demos.read_bytes()[:3000])
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        prepare(broken, TASK, tmp_path / "a.hdf5", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.hdf5"]


def test_settings_come_from_the_command_line_or_from_what_a_policy_observes(demos: Path) -> None:
    config = yaml.safe_load((CONFIGS / "prepare.yaml").read_text())
    task = Task.from_config(TASK)
    assert find_task(demos, CONFIGS)["name"] == "lift"
    config["obs"]["make"] = ["image", "depth", "voxel", "point_cloud"]
    made = perception_of(config, task)
    assert made is not None
    assert made.image == made.depth == task.cameras.image
    assert made.voxels is not None
    assert made.voxels.cameras == task.cameras.volume
    assert {"voxels", "point_cloud", "agentview_image", "agentview_depth"} <= set(made.shapes)
    config["obs"]["make"] = []
    assert perception_of(config, task) is None
    like = like_observation("point_cloud", TASK, CONFIGS)
    assert like is not None
    assert like.shapes["point_cloud"] == ((128, 6), "float32")
    assert like_observation("state", TASK, CONFIGS) is None
    config["obs"]["make"] = ["pointcloud"]
    with pytest.raises(ValueError, match="got 'pointcloud'; did you mean 'point_cloud'"):
        perception_of(config, task)


def test_a_policy_must_see_what_it_was_trained_on(prepared: Path) -> None:
    with h5py.File(prepared) as made:
        about = json.loads(made["data"].attrs["perception"])
    action = Space((Displacement("a"),))
    spec = Spec(Space((Image("agentview_image", height=48, width=48), Scalars("g"))), action)
    settings, renderer = sight_of(about, spec)
    assert settings == SETTINGS
    assert renderer == RendererSettings()
    assert sight_of(None, Spec(Space((Scalars("g"),)), action)) == (None, None)
    with pytest.raises(PerceptionError, match=r"sees agentview_image, but its data did not say how they were made"):
        sight_of(None, spec)
    larger = Spec(Space((Image("agentview_image", height=50, width=50),)), action)
    with pytest.raises(PerceptionError, match=r"\(50, 50, 3\), the data's perception makes \(48, 48, 3\)"):
        sight_of(about, larger)
    for change, message in (
        ({"renderer": {**about["renderer"], "version": 0}}, "renderer version: the data was drawn with 0"),
        ({"versions": {**about["versions"], "mujoco": "1.0"}}, "mujoco: the data was drawn with 1.0"),
    ):
        with pytest.raises(PerceptionError, match=message + ".*ignore_mismatch=true"):
            sight_of({**about, **change}, spec)
        assert sight_of({**about, **change}, spec, ignore_mismatch=True)[0] == SETTINGS


def test_rollouts_look_only_when_the_policy_does() -> None:
    """With 4 executed actions and one observed step, three of four observations are made without cameras."""
    looks: list[bool] = []

    class Watched:
        blind = False

        def reset(self, *, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            return {"x": np.zeros(1, np.float32)}, {}

        def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
            looks.append(not self.blind)
            return {"x": np.zeros(1, np.float32)}, 0.0, False, False, {"success": False}

        def render_frame(self, camera: str, width: int, height: int) -> np.ndarray:
            return np.zeros((height, width, 3), np.uint8)

    env, limits = Watched(), workers._Limits(history=1, horizon=8, stop_on_success=False)
    episode = workers._begin(env, workers._Start(0, 0, None), limits)
    for _ in range(2):
        workers._execute(env, episode, np.zeros((4, 7)), limits)
    assert looks == [False, False, False, True] * 2
