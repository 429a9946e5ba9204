"""What a robot and a camera have to offer; `real_robot.check` proves that a driver does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from real_robot.types import Array, CameraFrame, RobotState, Sent, Target

__all__ = ["Camera", "CameraError", "CameraFeatures", "DeviceError", "Robot", "RobotError", "RobotFeatures"]


class DeviceError(RuntimeError):
    """A device that does not do what was asked; the message names it and what to look at."""


class RobotError(DeviceError):
    """An arm that is lost, stopped by itself, or refuses."""


class CameraError(DeviceError):
    """A camera that is lost or gives no picture in time."""


@dataclass(frozen=True, eq=False)
class RobotFeatures:
    """What is known of an arm before it is connected.

    arm: name of its kinematics in `real_robot.kinematics` ("ur5e", "panda"). joint_low, joint_high, joint_velocity
    (n,): its hard limits, rad and rad/s. gripper: (closed, open) in metres between the fingers. command_hz: how often
    it wants a command; the loop sends one each 1 / command_hz. base_yaw, base_position: of the base in the world frame
    of the training data, radians about the vertical and metres.
    """

    name: str
    arm: str
    joint_low: Array
    joint_high: Array
    joint_velocity: Array
    gripper: tuple[float, float]
    command_hz: float
    has_wrench: bool = False
    base_yaw: float = 0.0
    base_position: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class CameraFeatures:
    """What is known of a camera before it is connected; intrinsics (3, 3) or None until it is."""

    name: str
    width: int
    height: int
    fps: float
    has_depth: bool = False
    intrinsics: Array | None = None


class _Device(ABC):
    @abstractmethod
    def connect(self) -> None:
        """Open the connection and make ready. Raises DeviceError; connecting twice is an error."""

    @abstractmethod
    def disconnect(self) -> None:
        """Let go of everything; idempotent, never raises."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether it is connected, as far as the driver knows, without asking the device."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()


class Robot(_Device):
    """An arm with a gripper that follows poses sent to it at a fixed rate. One thread at a time uses it, but for
    `stop`, which may come from any thread, and `observe`, which another one calls while `move_joints` is under way."""

    @property
    @abstractmethod
    def features(self) -> RobotFeatures:
        """Readable while disconnected."""

    @abstractmethod
    def observe(self) -> RobotState:
        """The newest measurement, at once; its stamp tells how old it is. RobotError when the connection is lost."""

    @abstractmethod
    def command(self, target: Target, at: float) -> Sent:
        """Be at `target` at time `at` (a little ahead of now); returns what was really sent, does not wait.

        Targets come from the safety gate, one each 1 / command_hz. A driver refuses (RobotError) what is not finite
        and what is not its own to smooth, and stops by itself when no command comes for 0.1 s.
        """

    @abstractmethod
    def stop(self) -> None:
        """Come to rest as fast as the arm may and stay there; idempotent, never raises, from any thread."""

    @abstractmethod
    def recover(self) -> None:
        """After a protective stop and the operator's word: ready again, at rest. RobotError if that is refused."""

    @abstractmethod
    def move_joints(self, joints: Array, speed: float) -> None:
        """Go to joints (n,) rad at no more than `speed` rad/s and return there: homing, before a run only.

        RobotError when `stop` came meanwhile. Everything that ends it but arrival, any exception or the end of this
        process included, brings the arm to rest as it does while commands are followed.
        """


class Camera(_Device):
    """A source of stamped pictures."""

    @property
    @abstractmethod
    def features(self) -> CameraFeatures:
        """Readable while disconnected."""

    @abstractmethod
    def read(self, timeout: float) -> CameraFrame:
        """The next picture that was not returned yet, older ones dropped; CameraError when none comes in time."""
