"""What passes between policy, loop, gate and drivers."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from real_robot.poses import Pose

__all__ = [
    "Array", "CameraFrame", "Plan", "PlanRequest", "RobotMode", "RobotState", "Sent", "Sight", "Target", "finite",
]  # fmt: skip

Array = NDArray[np.float64]


class RobotMode(enum.Enum):
    """What the arm's own controller says of itself."""

    READY = "ready"
    """Takes commands."""
    IDLE = "idle"
    """Powered off, brakes closed, or in hand guiding: takes no commands, nothing is wrong."""
    PROTECTIVE_STOP = "protective_stop"
    EMERGENCY_STOP = "emergency_stop"
    FAULT = "fault"


@dataclass(frozen=True, eq=False)
class RobotState:
    """One measurement of the arm.

    stamp: when it was measured, not when it arrived. joints (n,) rad, velocities (n,) rad/s. pose: of the tool.
    gripper: opening between the fingers in metres. wrench (6,) N and Nm at the tool along the base's axes, or None.
    """

    stamp: float
    joints: Array
    velocities: Array
    pose: Pose
    gripper: float
    mode: RobotMode = RobotMode.READY
    wrench: Array | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """Where the tool shall be: its pose, and the opening of the gripper in metres."""

    pose: Pose
    gripper: float


@dataclass(frozen=True, eq=False)
class Sent:
    """What a driver really sent: the target after what the driver itself cut, for which time, and when."""

    target: Target
    at: float
    sent: float


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One picture: stamp of its capture, image (H, W, 3) uint8 RGB, depth (H, W) uint16 in 0.1 mm or None.

    number: counts the pictures of the camera, gaps are pictures that were lost.
    """

    stamp: float
    number: int
    image: NDArray[np.uint8]
    depth: NDArray[np.uint16] | None = None


@dataclass(frozen=True, eq=False)
class Sight:
    """What the cameras saw at one time, before anything is made of it.

    pictures: {camera: number of its picture in its ring}; tools: {camera on the gripper: pose of the tool in the base's
    frame when that picture was captured}.
    """

    pictures: Mapping[str, int]
    tools: Mapping[str, Pose]


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """What a policy is asked.

    observation: {key: (To, *shape)}, raw arrays as the Spec names them; stamp: time of the last of the To steps.
    sights: of the To steps, for a planner that makes observations of them; none when the observation is whole.
    previous (k, A): actions of the chunk under way, the first for time `stamp`; None at the start. The first `frozen`
    of them will have been executed when the answer comes, so that the new chunk has to agree with them.
    """

    number: int
    stamp: float
    observation: dict[str, NDArray[np.generic]]
    previous: Array | None = None
    frozen: int = 0
    sights: tuple[Sight, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """A policy's answer: actions (k, A) in storage form, the first for time `stamp`, then one each 1 / control_hz.

    computed_in: seconds of the policy alone. perceived_in: seconds that its observation took to be made of pictures,
    after the request; None where nothing was. number, stamp: those of the request.
    """

    number: int
    stamp: float
    actions: Array
    computed_in: float
    perceived_in: float | None = None


def finite(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`value` as float64; ValueError that names it unless it has that shape and is finite."""
    array = np.asarray(value, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected {shape} finite numbers, got {array.shape}: {array}")
    return array
