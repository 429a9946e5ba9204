"""Recorded episodes: what is in the file, when it was, labels, and what survives."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from teleop_toys import PUSH, START, Rig, ended, episode, released

from equidiff.data.robomimic import DemoFile
from real_robot.calibration.lens import Lens
from real_robot.calibration.result import BaseInWorld, CameraCalibration, save_calibration
from real_robot.contract import CameraError
from real_robot.operator import Moment
from real_robot.poses import Pose, exp_map
from real_robot.teleop.errors import RecordingError, TeleopError
from real_robot.teleop.loop import End
from real_robot.teleop.store import list_episodes, open_store


def two_episodes(path: Path, **settings: object) -> Rig:
    script = [
        released(0),
        *episode(0.2, "success"),
        *episode(2.0, "failure", push=(1.0, 0, 0, 0, 0, 0.5)),
        ended(4.0),
    ]
    rig = Rig(path, script, **settings)  # type: ignore[arg-type]
    assert rig.run() is End.END
    return rig


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "demos.hdf5"
    two_episodes(path)
    return path


def test_the_file_is_in_the_layout_of_the_policies(recorded: Path) -> None:
    with DemoFile(recorded) as file:
        assert file.names == ("demo_0", "demo_1")
        assert file.masks == {"train": ("demo_0",), "success": ("demo_0",), "failure": ("demo_1",)}
        kwargs = file.env_args["env_kwargs"]
        assert file.env_args["type"] == "real_robot"
        assert (kwargs["control_freq"], kwargs["robots"]) == (20, ["toy"])
        # 24 x 32 cut to 24 x 24, then to 16 x 16: two thirds, and 4 columns less on the left
        np.testing.assert_allclose(kwargs["cameras"]["scene"]["intrinsics"], [[20, 0, 8], [0, 20, 8], [0, 0, 1]])
        assert file.perception is not None
        assert file.perception["settings"]["image"] == ["scene"]
    with h5py.File(recorded) as file:
        demo = file["data/demo_0"]
        steps = demo.attrs["num_samples"]
        assert demo.attrs["success"]
        shapes = {key: (value.shape[1:], value.dtype.name) for key, value in demo["obs"].items()}
        assert shapes == {
            "robot0_eef_pos": ((3,), "float32"),
            "robot0_eef_quat_site": ((4,), "float32"),
            "robot0_gripper_qpos": ((2,), "float32"),
            "robot0_joint_pos": ((6,), "float32"),
            "robot0_joint_vel": ((6,), "float32"),
            "robot0_stamp": ((), "float64"),
            "scene_image": ((16, 16, 3), "uint8"),
            "scene_depth": ((16, 16), "uint16"),
            "scene_stamp": ((), "float64"),
        }
        assert {len(value) for value in (demo["actions"], demo["actions_abs"], *demo["obs"].values())} == {steps}
        assert 20 <= steps <= 22  # a second of pushing and the way to rest, without the idle rest


def test_every_step_holds_what_was_there_at_its_time(tmp_path: Path) -> None:
    rig = two_episodes(tmp_path / "demos.hdf5")
    with h5py.File(rig.path) as file:
        demo = file["data/demo_0"]
        stamps = demo["obs/robot0_stamp"][:]
        np.testing.assert_allclose(stamps, np.arange(len(stamps)) / 20, atol=1e-9)
        # the nearest of 30 pictures a second
        seen = demo["obs/scene_stamp"][:]
        assert np.abs(seen - stamps).max() <= 1 / 60 + 1e-6
        number = demo["obs/scene_image"][:, 8, 8, 0].astype(int)
        np.testing.assert_allclose(np.diff(number) / 30, np.diff(seen), atol=1e-9)
        actions, position = demo["actions_abs"][:], demo["obs/robot0_eef_pos"][:]
        # 0.15 m/s sideways for half a second: each action is one step further than the last
        np.testing.assert_allclose(np.diff(actions[:9, 1]), 0.15 / 20, atol=1e-6)
        np.testing.assert_allclose(actions[0, 1] - START.position[1], 0.15 / 20 + 0.15 / 100, atol=1e-6)
        np.testing.assert_allclose(actions[:, 3:6], np.tile([np.pi, 0, 0], (len(actions), 1)), atol=1e-6)
        assert (actions[:9, 6] == -1).all()
        assert (actions[11:, 6] == 1).all()
        # the arm lags behind: where it is now is behind where it is told to go
        assert (actions[1:9, 1] > position[1:9, 1] + 0.15 / 20).all()
        relative = demo["actions"][:]
        np.testing.assert_allclose(relative[:, :3] * 0.05, actions[:, :3] - position, atol=1e-6)
        np.testing.assert_array_equal(relative[:, 6], actions[:, 6])
        fingers = demo["obs/robot0_gripper_qpos"][:]
        np.testing.assert_allclose(fingers[0], [0.04, -0.04], atol=1e-6)
        assert abs(fingers[-1, 0]) < 0.01


def test_the_world_is_the_base_turned_by_its_yaw(tmp_path: Path) -> None:
    yaw = 2.0
    straight = two_episodes(tmp_path / "a.hdf5", cameras=0)
    turned = two_episodes(tmp_path / "b.hdf5", cameras=0, base_yaw=yaw)
    with h5py.File(straight.path) as a, h5py.File(turned.path) as b:
        one, two = a["data/demo_1"], b["data/demo_1"]
        turn = exp_map([0, 0, yaw])
        np.testing.assert_allclose(two["actions_abs"][:, :3], one["actions_abs"][:, :3] @ turn.T, atol=1e-6)
        np.testing.assert_allclose(two["actions"][:, :3], one["actions"][:, :3] @ turn.T, atol=1e-5)
        np.testing.assert_allclose(two["obs/robot0_eef_pos"], one["obs/robot0_eef_pos"] @ turn.T, atol=1e-6)
        for k in (0, 15):
            want = Pose([0, 0, 0], turn) @ Pose.from_rotvec([0, 0, 0], one["actions_abs"][k, 3:6])
            got = Pose.from_rotvec([0, 0, 0], two["actions_abs"][k, 3:6])
            assert want.distance(got)[1] < 1e-6
        assert json.loads(b["data"].attrs["env_args"])["env_kwargs"]["base_yaw"] == yaw


def test_a_pause_is_left_out(tmp_path: Path) -> None:
    script = [
        released(0),
        *episode(0.2, None, seconds=0.5),
        Moment(3.0, PUSH),
        *[moment for moment in episode(3.5, "success", seconds=0.5) if moment.start > 3.5],
        ended(5.0),
    ]
    rig = Rig(tmp_path / "demos.hdf5", script, cameras=0)
    rig.run()
    with h5py.File(rig.path) as file:
        demo = file["data/demo_0"]
        stamps = demo["obs/robot0_stamp"][:]
        assert np.diff(stamps).max() > 2.0
        assert (np.diff(stamps) > 0.06).sum() == 1
        # it rested in between: where it goes on is where it stopped
        position = demo["obs/robot0_eef_pos"][:]
        at = int(np.diff(stamps).argmax())
        assert np.abs(position[at + 1] - position[at]).max() < 0.01


def test_labels_and_deletion_of_the_last_episode_while_recording(tmp_path: Path) -> None:
    script = [
        released(0),
        *episode(0.2, "success"),
        Moment(2.0, enabled=False, pressed=("failure",)),
        *episode(2.5, "success"),
        Moment(4.5, enabled=False, pressed=("discard",)),
        *episode(5.0, "discard"),
        *episode(7.0, "success"),
        ended(9.0),
    ]
    rig = Rig(tmp_path / "demos.hdf5", script, cameras=0)
    rig.run()
    assert [(e.number, e.success) for e in list_episodes(rig.path)] == [(0, False), (1, True)]
    assert "episode 0: now failure" in rig.said
    assert "episode 1: deleted" in rig.said
    assert "episode: discarded" in rig.said


def test_an_episode_that_gets_no_label_is_kept_but_not_trained_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "demos.hdf5", [released(0), *episode(0.2, None), ended(2.0)], cameras=0)
    rig.run()
    (info,) = list_episodes(rig.path)
    assert info.success is None
    with DemoFile(rig.path) as file, pytest.raises(ValueError, match="mask 'train' is empty"):
        file.select()


def test_an_episode_that_never_ends_is_ended(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "demos.hdf5", [released(0), *episode(0.2, None, seconds=4), ended(5)], cameras=0, longest=1.0)
    rig.run()
    assert [e.steps for e in list_episodes(rig.path)] == [20]
    assert list_episodes(rig.path)[0].success is None


def test_nothing_is_stored_of_an_arm_that_never_moved(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "demos.hdf5", [released(0), ended(1.0)])
    rig.run()
    assert not rig.path.exists()
    assert rig.said[-1] == "nothing was recorded"


def test_a_lost_camera_loses_the_episode_under_way_alone_and_stops_the_arm(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "demos.hdf5", [released(0), *episode(0.2, "success"), *episode(2.0, "success", seconds=9)])
    rig.eyes["scene"].lost_at = 103.0
    with pytest.raises(CameraError, match="unplugged"):
        rig.run()
    assert rig.arm.stops
    assert [(e.success, e.joined) for e in list_episodes(rig.path)] == [(True, True), (None, True)]


def test_pictures_too_far_from_their_step_are_not_recorded(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "demos.hdf5", [released(0), *episode(0.2, "success")])
    rig.eyes["scene"].fps = 3.0
    with pytest.raises(RecordingError, match="its picture nearest to a step is"):
        rig.run()


# -- calibrated cameras --------------------------------------------------------------------------------

HAND = Pose.from_rotvec([0.05, 0, -0.05], [0, 0, 0.2])


def calibrate(folder: Path, names: tuple[str, ...], yaw: float = 0.0) -> dict[str, dict[str, str]]:
    """Files of 24 x 32 cameras on the gripper, as the node `cameras` names them."""
    lens = Lens(np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]), 32, 24, np.zeros(5))
    for name in names:
        save_calibration(CameraCalibration(name, "hand", HAND, lens, BaseInWorld(yaw)), folder / f"{name}.json")
    return {name: {"calibration": str(folder / f"{name}.json")} for name in names}


def test_a_camera_on_the_gripper_is_where_the_tool_was_when_it_took_its_picture(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "a.hdf5", [released(0), *episode(0.2, "success"), ended(2.0)], base_yaw=0.3)
    rig.calibrations = calibrate(tmp_path, ("scene",), yaw=0.3)
    rig.run()
    with h5py.File(rig.path) as file:
        demo = file["data/demo_0"]
        assert demo["obs/scene_image"].shape[1:] == (16, 16, 3)
        poses, stamps = demo["obs/scene_pose"][:], demo["obs/robot0_stamp"][:]
        at = demo["obs/scene_stamp"][:]
        position, quat = demo["obs/robot0_eef_pos"][:], demo["obs/robot0_eef_quat_site"][:]
    for k in range(2, 9):  # between two steps the toy moves evenly, nearly
        after = k + 1 if at[k] > stamps[k] else k - 1
        share = (at[k] - stamps[k]) / (stamps[after] - stamps[k])
        here, there = (Pose.from_quat(position[i], quat[i]) for i in (k, after))
        metres, radians = (here.towards(there, share) @ HAND).distance(Pose.from_matrix(poses[k]))
        assert metres < 5e-4
        assert radians < 1e-3


@pytest.mark.parametrize(
    ("cameras", "yaw", "message"),
    [
        (1, 0.5, "was calibrated with the base at"),
        (2, 0.0, "cameras.wrist.calibration: is not set, but that of scene is"),
    ],
)
def test_calibrations_that_do_not_fit_are_refused(tmp_path: Path, cameras: int, yaw: float, message: str) -> None:
    rig = Rig(tmp_path / "a.hdf5", [released(0)], cameras=cameras)
    rig.calibrations = {**{name: {"calibration": ""} for name in rig.eyes}, **calibrate(tmp_path, ("scene",), yaw)}
    with pytest.raises(RecordingError, match=message):
        rig.run()


# -- the store -----------------------------------------------------------------------------------------


def test_relabel_and_delete_of_the_last_leave_the_others_as_they_were(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    path.write_bytes(recorded.read_bytes())
    store = open_store(path, valid_fraction=0.4)
    store.relabel_last(True)
    with DemoFile(path) as file:
        assert file.masks == {"success": ("demo_0", "demo_1"), "train": ("demo_0",), "valid": ("demo_1",)}
    assert store.delete_last().number == 1
    assert [(e.number, e.success) for e in list_episodes(path)] == [(0, True)]
    with h5py.File(path) as new, h5py.File(recorded) as old:
        assert new["data"].attrs["total"] == old["data/demo_0"].attrs["num_samples"]
        for key in ("actions_abs", "obs/scene_image", "obs/robot0_stamp"):
            np.testing.assert_array_equal(new["data/demo_0"][key], old["data/demo_0"][key])
    with pytest.raises(RecordingError, match="holds this episode alone; remove the file"):
        store.delete_last()


def test_a_later_session_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    two_episodes(path)
    two_episodes(path)
    assert [e.success for e in list_episodes(path)] == [True, False, True, False]
    with pytest.raises(ValueError, match=r"env_args.env_kwargs.*made with other settings|made with other settings"):
        two_episodes(path, sizes=(8, 8))
    assert len(list_episodes(path)) == 4


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording that this program made"):
        open_store(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("text")
    with pytest.raises(RecordingError, match="not a readable file of recorded episodes"):
        list_episodes(tmp_path / "text.hdf5")


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TeleopError, match=r"recorder.control_hz: expected 1 to 100, got 0"):
        Rig(tmp_path / "a.hdf5", [], control_hz=0).run()
