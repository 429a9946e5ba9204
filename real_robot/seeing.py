"""`Seeing`: the calibrated cameras of a deployment, and the planner that looks through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.perception import PerceptionSettings, check_overhead
from equidiff.spec import Spec
from real_robot.build import BuildError, build_cameras, calibration_files
from real_robot.calibration.live import Scene, load_calibrations
from real_robot.contract import RobotFeatures
from real_robot.loop.cameras import CameraSensor
from real_robot.loop.history import StateHistory
from real_robot.planner import Planner
from real_robot.planners.perceiving import PerceivingPlanner

__all__ = ["Seeing"]


class Seeing:
    """What a policy sees through the node `cameras`; nothing is opened yet.

    manifest, spec: of the policy's checkpoint. Raises BuildError, CalibrationError or PerceptionError for cameras that
    do not show what the policy was trained on.
    """

    def __init__(self, node: Any, manifest: Mapping[str, Any], spec: Spec, robot: RobotFeatures) -> None:
        about = manifest.get("perception")
        if not about:
            raise BuildError("the checkpoint does not say how its pictures are made; train it on a prepared file")
        self._node, self._settings = (
            node,
            PerceptionSettings.from_config(about["settings"], centre=spec.workspace.centre),
        )
        self.calibrations = load_calibrations(calibration_files(node), robot)
        scene = Scene(self._settings, self.calibrations)
        self._on_gripper = scene.needs_tool
        fixed = {name: scene.pose(name).matrix for name in self._settings.used if name not in self._on_gripper}
        check_overhead(spec.observation.arrays, fixed, spec.workspace.centre)

    def open(
        self, planner: Planner, history: StateHistory, stack: ExitStack, timeout: float
    ) -> tuple[CameraSensor, Planner, Callable[[], NDArray[np.uint8]]]:
        """Cameras and perception, each in a process of its own, closed by `stack`.

        Returns the sensor of the loop, `planner` with perception before it (requests are given up `timeout` seconds
        after they are sent to either), and what gives the newest picture of the first camera. Raises DeviceError or
        PlannerError.
        """
        cameras = build_cameras(self._node)
        for camera in cameras.values():
            stack.enter_context(camera)
        used = {name: cameras[name] for name in self._settings.used}
        rings = {name: camera.ring for name, camera in used.items()}
        seeing = PerceivingPlanner(planner, self._settings, self.calibrations, rings, timeout=timeout)
        stack.callback(seeing.close)
        first = next(iter(cameras.values()))
        sensor = CameraSensor(tuple(self._settings.shapes), used, history, self._on_gripper)
        return sensor, seeing, lambda: first.latest().image
