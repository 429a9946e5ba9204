"""Live observations are those of data preparation: the same pictures give the same."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import yaml

cv2 = pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")

from equidiff.hydra_app import CONFIGS  # noqa: E402
from equidiff.perception import (  # noqa: E402
    CameraSettings,
    Frame,
    Perception,
    PerceptionSettings,
    PointCloudSettings,
    VoxelSettings,
    world_points,
)
from real_robot.calibration import BaseInWorld, CalibrationError, CameraCalibration, Lens  # noqa: E402
from real_robot.calibration.live import Scene  # noqa: E402
from real_robot.poses import Pose, exp_map  # noqa: E402
from real_robot.types import CameraFrame  # noqa: E402

BASE = BaseInWorld(0.7, (-0.5, 0.1, 0.9))
TOP = Pose([0.5, 0.0, 0.8], exp_map([np.pi, 0, 0]))  # in the base's frame, looks down
TOOL = Pose.from_rotvec([0.45, 0.1, 0.4], [np.pi, 0.1, 0])
HAND = Pose.from_rotvec([0.05, 0, -0.05], [0, 0, 0.2])
BOUNDS = ((-0.3, 0.3), (-0.3, 0.3), (0.85, 1.45))


def lens(width: int = 40, height: int = 30, focal: float = 45.0, distortion: tuple = ()) -> Lens:
    return Lens(
        np.array([[focal, 0, width / 2 + 0.3], [0, focal, height / 2], [0, 0, 1]]), width, height, np.array(distortion)
    )


def pictures(of: Lens, seed: int = 0, near: int = 5000) -> CameraFrame:
    random = np.random.default_rng(seed)
    size = of.height, of.width
    image = random.integers(0, 255, (*size, 3), np.uint8)
    return CameraFrame(1.0, 0, image, random.integers(near, near + 3000, size, np.uint16))


def perception(width: int = 40, height: int = 30, **more) -> PerceptionSettings:
    cameras = {"top": CameraSettings(width, height), "wrist": CameraSettings(width, height)}
    bounds = tuple((low + d, high + d) for (low, high), d in zip(BOUNDS, (-0.1, 0.4, 0), strict=True))
    parts = {
        "image": ("top",),
        "voxels": VoxelSettings(("top", "wrist"), bounds, 16),
        "point_cloud": PointCloudSettings(("wrist",), bounds, 64),
        **more,
    }
    return PerceptionSettings(cameras, **parts)


def calibrations(top: Lens, wrist: Lens) -> dict[str, CameraCalibration]:
    return {
        "top": CameraCalibration("top", "base", TOP, top, BASE),
        "wrist": CameraCalibration("wrist", "hand", HAND, wrist, BASE),
    }


def test_frames_of_the_right_size_pass_through_unchanged() -> None:
    a, settings = lens(), perception()
    scene = Scene(settings, calibrations(a, a))
    assert scene.needs_tool == ("wrist",)
    seen = {"top": pictures(a, 1), "wrist": pictures(a, 2, 1500)}
    found = scene.observe(seen, {"wrist": TOOL})
    poses = {"top": BASE.pose @ TOP, "wrist": BASE.pose @ TOOL @ HAND}
    expected = Perception(settings).observe(
        {
            name: Frame(f.image, f.depth, a.matrix.astype(np.float32), poses[name].matrix.astype(np.float32))
            for name, f in seen.items()
        }
    )
    assert set(found) == set(expected) == set(settings.shapes)
    for key, value in expected.items():
        assert (found[key] == value).all()
        assert found[key].dtype == value.dtype
    assert found["voxels"][0].any()
    assert found["point_cloud"].any()


def test_the_base_in_the_world_turns_and_moves_what_is_seen() -> None:
    a, settings = lens(), perception()
    plain = {n: dataclasses.replace(c, base=BaseInWorld()) for n, c in calibrations(a, a).items()}
    at_base, at_world = Scene(settings, plain), Scene(settings, calibrations(a, a))
    for name in ("top", "wrist"):
        assert at_world.pose(name, TOOL).distance(BASE.pose @ at_base.pose(name, TOOL)) == pytest.approx(
            (0, 0), abs=1e-7
        )


def test_larger_pictures_are_cut_and_resized_with_their_intrinsics() -> None:
    """A plane seen by a camera of 4 times the size gives the same points, and its picture the same colours."""
    big = lens(200, 120, 180.0)  # wider: the middle 160 x 120 is used
    rows, columns = np.mgrid[:120, :200]
    ramp = np.stack([columns, 2 * rows, np.full_like(rows, 80)], -1).astype(np.uint8)
    frame = CameraFrame(1.0, 0, ramp, np.full((120, 200), 7000, np.uint16))
    settings = perception(image=("top",), depth=("top",))
    scene = Scene(settings, calibrations(big, big))
    found = scene.observe({"top": frame, "wrist": frame}, {"wrist": TOOL})
    assert found["top_image"].shape == (30, 40, 3)
    assert (found["top_depth"] == 7000).all()
    # middle of pixel (0, 0) of the small picture is that of pixels 0 to 3 of the part that begins at column 20
    assert np.abs(found["top_image"][0, 0] - [21.5, 3.0, 80]).max() <= 0.5
    small = Frame(found["top_image"], found["top_depth"], scene._fits["top"]._matrix, np.eye(4, dtype=np.float32))
    points, _ = world_points(small)
    assert points[0, 0] == pytest.approx((22 - 100.3) / 180 * 0.7, abs=1e-5)
    assert points[0, 1] == pytest.approx((2 - 60) / 180 * 0.7, abs=1e-5)


def test_distortion_is_taken_out() -> None:
    bent = lens(160, 120, 140.0, (-0.25, 0.05, 0.0, 0.0))
    point = np.array([0.25, 0.2, 1.0])
    u, v = bent.project(point)[0]
    rows, columns = np.mgrid[:120, :160]
    dot = (255 * np.exp(-((rows - v) ** 2 + (columns - u) ** 2) / 6)).round()
    image = np.repeat(dot[..., None], 3, -1).astype(np.uint8)
    frame = CameraFrame(1.0, 0, image, np.full((120, 160), 7000, np.uint16))
    settings = perception(160, 120)
    found = Scene(settings, calibrations(bent, bent)).observe({"top": frame, "wrist": frame}, {"wrist": TOOL})
    weight = found["top_image"][..., 0].astype(float)
    at = np.array([(weight * (columns + 0.5)).sum(), (weight * (rows + 0.5)).sum()]) / weight.sum()
    assert np.abs(at - (bent.matrix @ point)[:2]).max() < 0.3
    assert np.abs([u + 0.5, v + 0.5] - at).max() > 0.7


def test_what_is_missing_is_named() -> None:
    a, settings = lens(), perception()
    made = calibrations(a, a)
    with pytest.raises(CalibrationError, match="camera 'wrist': the policy looks through it, but it is not calibrated"):
        Scene(settings, {"top": made["top"]})
    with pytest.raises(CalibrationError, match="disagree about the base"):
        Scene(settings, {**made, "top": dataclasses.replace(made["top"], base=BaseInWorld())})
    scene = Scene(settings, made)
    seen = {"top": pictures(a), "wrist": pictures(a)}
    with pytest.raises(CalibrationError, match="camera 'wrist' is on the gripper"):
        scene.observe(seen)
    with pytest.raises(CalibrationError, match="camera 'wrist': no picture; got: top"):
        scene.observe({"top": seen["top"]}, {"wrist": TOOL})
    with pytest.raises(CalibrationError, match=r"calibrated with pictures of \(30, 40\), got \(60, 80, 3\)"):
        scene.observe({**seen, "top": pictures(lens(80, 60))}, {"wrist": TOOL})


@pytest.mark.sim
def test_simulated_cameras_give_what_the_simulation_observes() -> None:
    """Calibrated in one state of Lift, the camera on the gripper and the others see in later ones what it observes."""
    if importlib.util.find_spec("robosuite") is None:
        pytest.skip("the simulator is not installed (extra sim)")
    from equidiff.sim.env import make_env

    task = yaml.safe_load((CONFIGS / "task" / "lift.yaml").read_text())
    node = {
        "cameras": {name: {"width": 48, "height": 40} for name in ("agentview", "robot0_eye_in_hand")},
        "image": ["agentview", "robot0_eye_in_hand"],
        "depth": ["robot0_eye_in_hand"],
        "voxels": {"size": 16, "cameras": ["agentview", "robot0_eye_in_hand"]},
        "point_cloud": {"points": 128, "cameras": ["agentview", "robot0_eye_in_hand"], "clearance": 0.006},
    }
    settings = PerceptionSettings.from_config(node, task["bounds"])
    env = make_env(task, "relative", perception=settings)
    try:
        seen, _ = env.reset(seed=5)
        at = env.model.body("robot0_base").id
        base_pose = Pose(env.data.xpos[at], env.data.xmat[at].reshape(3, 3))
        yaw = float(np.arctan2(base_pose.rotation[1, 0], base_pose.rotation[0, 0]))
        base = BaseInWorld(yaw, tuple(base_pose.position.tolist()))

        def frames() -> dict[str, Frame]:
            return {name: env._sight._of(env.model).frame(env.data, name, True) for name in settings.used}

        def tool(observed: dict[str, np.ndarray]) -> Pose:  # in the base's frame, as a robot tells it
            in_world = Pose.from_quat(observed["robot0_eef_pos"], observed["robot0_eef_quat_site"])
            return base.pose.inverse() @ in_world

        made = {}
        for name, frame in frames().items():
            in_base = base.pose.inverse() @ Pose.from_matrix(frame.pose)
            mount = "hand" if name == "robot0_eye_in_hand" else "base"
            pose = tool(seen).inverse() @ in_base if mount == "hand" else in_base
            made[name] = CameraCalibration(name, mount, pose, Lens(frame.intrinsics, 48, 40), base)
        scene = Scene(settings, made)
        for action in np.random.default_rng(0).uniform(-1, 1, (6, 7)):
            seen = env.step(action)[0]
        pictures = {name: CameraFrame(0.0, 0, frame.image, frame.depth) for name, frame in frames().items()}
        found = scene.observe(pictures, {"robot0_eye_in_hand": tool(seen)})
        for name in settings.used:
            assert (found[f"{name}_image"] == seen[f"{name}_image"]).all()
            assert np.abs(found[f"{name}_pose"] - seen[f"{name}_pose"]).max() < 2e-6
        assert (found["robot0_eye_in_hand_depth"] == seen["robot0_eye_in_hand_depth"]).all()
        # a point within a micrometre of a cell's wall may fall on its other side
        assert (found["voxels"] != seen["voxels"]).any(0).mean() < 2e-3
        assert seen["voxels"][0].any()
        apart = np.linalg.norm(found["point_cloud"][:, None, :3] - seen["point_cloud"][None, :, :3], axis=-1)
        assert np.median(apart.min(1)) < 1e-5
        assert np.quantile(apart.min(1), 0.9) < 0.01
    finally:
        env.close()
