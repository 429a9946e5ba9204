"""`Scene`: pictures of the calibrated cameras as observations, by the same code as in data preparation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.perception import CameraSettings, Frame, Perception, PerceptionSettings
from real_robot.calibration.board import CalibrationError, _opencv
from real_robot.calibration.lens import Lens
from real_robot.calibration.result import BaseInWorld, CameraCalibration, load_calibration
from real_robot.contract import RobotFeatures
from real_robot.poses import Pose
from real_robot.types import CameraFrame

__all__ = ["Scene", "check_base", "load_calibrations", "load_scene"]


class Scene:
    """What the cameras see, in the world frame of the training data.

    Pictures are undistorted, cut to the middle part that has the shape the policy was trained on, and resized to it;
    intrinsics change along. A camera that has all of that already is passed on as it is.
    """

    def __init__(self, settings: PerceptionSettings, cameras: Mapping[str, CameraCalibration]) -> None:
        """cameras: {name in settings: its calibration}. CalibrationError when one is missing, or when they disagree
        about where the base stands."""
        missing = [name for name in settings.used if name not in cameras]
        if missing:
            raise CalibrationError(
                f"camera {missing[0]!r}: the policy looks through it, but it is not calibrated; calibrated: "
                f"{', '.join(cameras) or 'none'}"
            )
        self._cameras = {name: cameras[name] for name in settings.used}
        bases = {calibration.base for calibration in self._cameras.values()}
        if len(bases) > 1:
            raise CalibrationError(
                f"the cameras' calibrations disagree about the base in the world: {sorted(map(str, bases))}; make them "
                "again with the same base.yaw and base.position"
            )
        self._base = bases.pop().pose
        self._fits = {name: _Fit(c.lens, settings.cameras[name]) for name, c in self._cameras.items()}
        self._perception = Perception(settings)

    @property
    def needs_tool(self) -> tuple[str, ...]:
        """Cameras on the gripper: the pose of the tool at the time of their picture is needed."""
        return tuple(name for name, camera in self._cameras.items() if camera.mount == "hand")

    def pose(self, name: str, tool: Pose | None = None) -> Pose:
        """Of a camera in the world. tool: in the base's frame, when the picture was taken; for cameras on it."""
        camera = self._cameras[name]
        if camera.mount == "base":
            return self._base @ camera.pose
        if tool is None:
            raise CalibrationError(f"camera {name!r} is on the gripper: the tool's pose at its picture is needed")
        return self._base @ tool @ camera.pose

    def observe(
        self, pictures: Mapping[str, CameraFrame], tools: Mapping[str, Pose] | None = None
    ) -> dict[str, NDArray[Any]]:
        """{camera: picture} and {camera on the gripper: pose of the tool at its time} -> observations.

        Keys, shapes and dtypes are those of `PerceptionSettings.shapes`. CalibrationError for a missing picture or
        pose; PerceptionError for a missing depth.
        """
        frames = {}
        for name in self._cameras:
            if name not in pictures:
                raise CalibrationError(f"camera {name!r}: no picture; got: {', '.join(pictures) or 'none'}")
            pose = self.pose(name, (tools or {}).get(name))
            frames[name] = self._fits[name](name, pictures[name], pose)
        return self._perception.observe(frames)


def load_scene(settings: PerceptionSettings, files: Mapping[str, Path], robot: RobotFeatures) -> Scene:
    """The scene of `load_calibrations`; prints which cameras were calibrated without a check of the symmetry axis."""
    found = load_calibrations(files, robot)
    for name, calibration in found.items():
        if calibration.axis is None:
            print(f"warning: the symmetry axis was not checked with camera {name!r} (docs/calibration.md)")
    return Scene(settings, found)


def load_calibrations(files: Mapping[str, Path], robot: RobotFeatures) -> dict[str, CameraCalibration]:
    """Calibration files {camera: path}, read. CalibrationError for one that cannot be read, or that was made with the
    base at another place than the robot says."""
    found = {name: load_calibration(path) for name, path in files.items()}
    for name, calibration in found.items():
        check_base(f"camera {name!r}", calibration.base, robot)
    return found


def check_base(what: str, base: BaseInWorld, robot: RobotFeatures) -> None:
    """CalibrationError when `what` was calibrated with the base at another place than the robot says."""
    metres, radians = base.pose.distance(Pose.from_rotvec(robot.base_position, [0, 0, robot.base_yaw]))
    if metres > 1e-3 or radians > 1e-3:
        raise CalibrationError(
            f"{what} was calibrated with the base at {base}, the robot says yaw {robot.base_yaw} and position "
            f"{robot.base_position}; set robot.base_yaw and robot.base_position to what was calibrated"
        )


class _Fit:
    """A camera's picture as the policy wants it: size, shape, no distortion."""

    def __init__(self, lens: Lens, wanted: CameraSettings) -> None:
        self._lens = lens
        self._same = lens.straight and (lens.width, lens.height) == (wanted.width, wanted.height)
        self._size = wanted.width, wanted.height
        # the largest middle part of the wanted shape
        scale = min(lens.width / wanted.width, lens.height / wanted.height)
        width, height = round(wanted.width * scale), round(wanted.height * scale)
        left, top = (lens.width - width) // 2, (lens.height - height) // 2
        self._part = slice(top, top + height), slice(left, left + width)
        matrix = lens.matrix.copy()
        matrix[:2, 2] -= left, top
        matrix[0] *= wanted.width / width
        matrix[1] *= wanted.height / height
        self._matrix = matrix.astype(np.float32)
        self._maps: Any = None
        if not lens.straight:
            cv2 = _opencv()
            opencv, distortion = lens.opencv
            self._maps = cv2.initUndistortRectifyMap(
                opencv, distortion, None, opencv, (lens.width, lens.height), cv2.CV_32FC1
            )

    def __call__(self, name: str, picture: CameraFrame, pose: Pose) -> Frame:
        image, depth = picture.image, picture.depth
        size = self._lens.height, self._lens.width
        if image.shape != (*size, 3) or (depth is not None and depth.shape != size):
            got = f"{image.shape}" + ("" if depth is None else f" and depth {depth.shape}")
            raise CalibrationError(
                f"camera {name!r}: it was calibrated with pictures of {size}, got {got}; calibrate it at that size"
            )
        if not self._same:
            cv2 = _opencv()
            if self._maps is not None:
                image = cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
                depth = None if depth is None else cv2.remap(depth, *self._maps, cv2.INTER_NEAREST)
            image = cv2.resize(image[self._part], self._size, interpolation=cv2.INTER_AREA)
            # a mean of two surfaces' depths is a point in the air between them
            depth = None if depth is None else _nearest(depth[self._part], self._size)
        return Frame(image, depth, self._matrix, pose.matrix.astype(np.float32))


def _nearest(depth: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Each pixel of the new picture: the depth of the old one under its middle."""
    width, height = size
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(int)
    picked: NDArray[np.uint16] = depth[np.ix_(rows, columns)]
    return picked
