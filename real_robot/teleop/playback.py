"""`Playback`: a recorded episode as a source of targets."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from real_robot.operator.contract import OperatorState
from real_robot.poses import Pose
from real_robot.teleop.errors import RecordingError, TeleopError
from real_robot.types import Array, Target
from real_robot.world import World

__all__ = ["Playback", "RecordedActions", "read_actions"]


@dataclass(frozen=True, eq=False)
class RecordedActions:
    """actions_abs (T, 7), the tool's first pose in the world, steps a second."""

    actions: Array
    start: Pose
    control_hz: float


def read_actions(path: Path, number: int | None = None) -> RecordedActions:
    """Those of the episode that was recorded as `number`; None: the last one. Raises RecordingError.

    Other files in robomimic's layout do as well, if they have actions_abs and the gripper's pose.
    """
    try:
        with h5py.File(path, "r") as file:
            data = file["data"]
            numbers = {int(demo.attrs.get("seed", int(name.rpartition("_")[2]))): name for name, demo in data.items()}
            number = max(numbers) if number is None else number
            if number not in numbers:
                raise RecordingError(f"{path}: no episode {number}; there are {sorted(numbers)}")
            demo = data[numbers[number]]
            hz = float(json.loads(data.attrs["env_args"])["env_kwargs"]["control_freq"])
            actions = np.asarray(demo["actions_abs"], np.float64)
            start = Pose.from_quat(demo["obs/robot0_eef_pos"][0], demo["obs/robot0_eef_quat_site"][0])
    except (OSError, KeyError, ValueError) as error:
        raise RecordingError(f"{path}: no episode to replay ({error}); join a killed session by mode=finish") from error
    if actions.ndim != 2 or actions.shape[1] != 7 or not np.isfinite(actions).all() or not hz > 0:
        raise RecordingError(f"{path}: episode {number}: expected finite actions_abs (T, 7), got {actions.shape}")
    return RecordedActions(actions, start, hz)


class Playback:
    """From where the arm is to the start of the episode, slowly and in a line, then its actions at their rate.

    approach: (m/s, rad/s). near: (metres, radians) by which the arm may be away from the start; farther away the
    way there is the operator's.
    """

    def __init__(
        self,
        recorded: RecordedActions,
        world: World,
        approach: tuple[float, float] = (0.05, 0.3),
        near: tuple[float, float] = (0.1, 0.8),
    ) -> None:
        self._targets = [world.target(action) for action in recorded.actions]
        self._start = world.base.inverse() @ recorded.start
        self._approach, self._near, self._step = approach, near, 1 / recorded.control_hz
        self._from: Target | None = None
        self._time = self._begin = 0.0

    @property
    def finished(self) -> bool:
        """Whether the last target was given."""
        return self._from is not None and self._time >= self._begin + len(self._targets) * self._step

    def engage(self, sent: Target) -> None:
        """Start over: TeleopError when the arm is too far from the episode's start."""
        metres, radians = sent.pose.distance(self._start)
        if metres > self._near[0] or radians > self._near[1]:
            raise TeleopError(
                f"the arm is {metres * 1000:.0f} mm and {radians:.2f} rad from the start of the episode, at most "
                f"{self._near[0] * 1000:.0f} mm and {self._near[1]} rad are driven; bring it near "
                f"{self._start.position.round(3).tolist()} (base frame) by teleoperation first"
            )
        self._from, self._time = sent, 0.0
        self._begin = math.ceil(max(metres / self._approach[0], radians / self._approach[1]) / self._step) * self._step

    def step(self, wish: OperatorState, sent: Target, measured: Pose, dt: float) -> Target:
        """The target `dt` seconds after the last one: action k is reached at the time of step k + 1."""
        if self._from is None:
            raise TeleopError("Playback.step: call engage first")
        self._time += dt
        if self._time < self._begin:
            return Target(self._from.pose.towards(self._start, self._time / self._begin), self._from.gripper)
        at = (self._time - self._begin) / self._step
        number = min(int(at), len(self._targets) - 1)
        after = self._targets[number]
        before = self._targets[number - 1].pose if number else self._start
        return Target(before.towards(after.pose, min(1.0, at - number)), after.gripper)
