"""A policy of a picture and a cloud of points, its calibrated cameras, and a RealSense made of software."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from deploy_toys import RISE, ROOT
from planner_toys import TREE

from equidiff.checkpoint import save_checkpoint
from equidiff.compose import make_policy
from equidiff.fields import Image, PointCloud
from equidiff.fields.presets import proprioception, relative_trajectory_action
from equidiff.perception import CameraSettings, PerceptionSettings, PointCloudSettings
from equidiff.spec import Horizon, Space, Spec
from real_robot.calibration import BaseInWorld, CameraCalibration, Lens, check_symmetry_axis, save_calibration
from real_robot.calibration.symmetry import up_from_level
from real_robot.contract import Camera
from real_robot.drivers.realsense import RealSenseCamera, RealSenseSettings
from real_robot.poses import Pose, exp_map

WIDTH, HEIGHT, HZ = 64, 48, 20.0
POINTS = 32
BASE = BaseInWorld(0.7, (-0.5, 0.1, 0.9))
HAND = Pose.from_rotvec([0.05, 0, -0.05], [0, 0, 0.2])
SETTINGS = PerceptionSettings(
    {"top": CameraSettings(HEIGHT, HEIGHT), "wrist": CameraSettings(WIDTH, HEIGHT)},
    image=("top",),
    point_cloud=PointCloudSettings(("wrist",), ((-3.0, 3.0), (-3.0, 3.0), (-3.0, 3.0)), POINTS),
)


def software_realsense(settings: RealSenseSettings) -> Camera:
    """In the camera's process: picture n is filled with n, its depth is 1000 + n mm."""
    from test_realsense import FakeRealSense

    fake = FakeRealSense()
    fake.stream()
    return RealSenseCamera(settings, fake.device)


def video(path: Path, seconds: float) -> Path:
    """Picture i, 20 a second, is i % 200 grey on its left half and black on its right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), HZ, (WIDTH, HEIGHT))
    for i in range(int(seconds * HZ)):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[:, : WIDTH // 2] = i % 200
        writer.write(picture)
    writer.release()
    return path


def calibrations(folder: Path, level: tuple[float, float] | None = (0.2, -0.1)) -> dict[str, Path]:
    """Files of both cameras, as the calibration tool writes them; level: in degrees, None: the axis was not checked."""
    axis = None
    if level is not None:
        up = up_from_level(*(math.radians(reading) for reading in level))
        axis = check_symmetry_axis(up, "a level", base=BASE, tilt_error=math.radians(0.1)).to_json()
    matrix = np.array([[50.0, 0, 30.5], [0, 50.0, 24.5], [0, 0, 1]])
    places = {"top": ("base", Pose([0.5, 0.0, 0.8], exp_map([np.pi, 0, 0]))), "wrist": ("hand", HAND)}
    files = {}
    for name, (mount, pose) in places.items():
        files[name] = folder / f"{name}.json"
        found = CameraCalibration(name, mount, pose, Lens(matrix, WIDTH, HEIGHT), BASE, {}, axis)
        save_calibration(found, files[name])
    return files


def checkpoint(folder: Path) -> Path:
    """It asks for a place a little above the gripper: a new denoiser predicts the mean of the data."""
    observation = (
        Image("top_image", height=HEIGHT, width=HEIGHT, view="body"),
        PointCloud("point_cloud", points=POINTS, colour=True, origin="robot0_eef_pos"),
        *proprioception(absolute=False),
    )
    action = relative_trajectory_action("gripper")
    spec = Spec(Space(observation), Space(action), Horizon(obs=2, predict=17, execute=8), control_hz=20)
    tree: dict[str, Any] = copy.deepcopy(TREE)
    tree["diffusion"]["scheduler"]["prediction_type"] = "sample"
    part = {"_partial_": True, "channels": 4}
    tree["encoder"]["encoders"] |= {
        "top": {"_target_": "equidiff.encoders.KeypointEncoder", "key": "top_image", "widths": [4], **part},
        "cloud": {"_target_": "equidiff.encoders.PointCloudEncoder", "key": "point_cloud", "widths": [4], **part},
    }
    policy = make_policy(tree, spec)
    obs = {key: torch.zeros(4, 2, *source.shape) for key, source in spec.observation.sources.items()}
    obs["top_image"] = torch.randint(0, 255, obs["top_image"].shape, dtype=torch.uint8)
    obs["point_cloud"] = torch.rand(obs["point_cloud"].shape)
    obs["robot0_eef_quat_site"] = torch.tensor([1.0, 0, 0, 0]).expand(4, 2, 4).clone()  # points down
    actions = torch.tensor([0, 0, RISE, np.pi, 0, 0, -1.0]).expand(4, 17, 7).clone()
    policy.fit([{"obs": obs, "action": actions}])
    task = yaml.safe_load((ROOT / "configs/task/lift.yaml").read_text())
    about = {"settings": SETTINGS.to_json(), "renderer": {"kind": "default"}, "versions": {}}
    extra = {"task": task, "control": "absolute", "perception": about}
    return save_checkpoint(folder / "checkpoint", policy, tree, extra=extra)
