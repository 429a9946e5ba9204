"""A point that follows its commands with a lag, a gate that limits its speed, a camera that counts: no physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from real_robot.clock import ManualClock
from real_robot.contract import CameraError, CameraFeatures, Robot, RobotError, RobotFeatures
from real_robot.operator import Moment, ScriptedOperator
from real_robot.poses import Pose
from real_robot.teleop.env_args import env_arguments
from real_robot.teleop.loop import End, Loop
from real_robot.teleop.pictures import Pictures
from real_robot.teleop.pilot import Pilot, PilotSettings
from real_robot.teleop.recorder import Recorder, RecorderSettings
from real_robot.teleop.session import Session
from real_robot.teleop.sight import calibrated
from real_robot.teleop.store import EpisodeStore
from real_robot.types import Array, CameraFrame, RobotMode, RobotState, Sent, Target

START = Pose.from_rotvec([0.4, 0.1, 0.3], [np.pi, 0, 0])
GRIPPER = (0.0, 0.08)


class ToyArm(Robot):
    """Its joints are the position of the tool and a row of its rotation; measured `age` seconds ago."""

    def __init__(self, clock: ManualClock, lag: float = 0.05, base_yaw: float = 0.0, command_hz: float = 100) -> None:
        self.clock, self.lag, self.yaw, self.hz = clock, lag, base_yaw, command_hz
        self.pose, self.gripper, self.mode, self.age = START, GRIPPER[1], RobotMode.READY, 0.002
        self.stops, self.sent, self.is_connected = 0, list[Sent](), False
        self._before = START

    @property
    def features(self) -> RobotFeatures:
        limit = np.full(6, 10.0)
        return RobotFeatures("toy", "toy", -limit, limit, limit, GRIPPER, self.hz, base_yaw=self.yaw)

    @property
    def connected(self) -> bool:
        return self.is_connected

    def connect(self) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def observe(self) -> RobotState:
        joints, before = self._joints(self.pose), self._joints(self._before)
        velocity = (joints - before) * self.hz
        return RobotState(self.clock.now() - self.age, joints, velocity, self.pose, self.gripper, self.mode)

    def command(self, target: Target, at: float) -> Sent:
        if self.mode is not RobotMode.READY:
            raise RobotError("toy: not ready")
        share = min(1.0, 1 / self.hz / self.lag) if self.lag else 1.0
        self._before, self.pose = self.pose, self.pose.towards(target.pose, share)
        self.gripper += share * (target.gripper - self.gripper)
        self.sent.append(Sent(target, at, self.clock.now()))
        return self.sent[-1]

    def stop(self) -> None:
        self.stops += 1
        self._before = self.pose

    def recover(self) -> None:
        self.mode = RobotMode.READY

    def move_joints(self, joints: Array, speed: float) -> None:
        raise RobotError("toy: cannot")

    def _joints(self, pose: Pose) -> Array:
        return np.concatenate([pose.position, pose.rotation[0]])


@dataclass(frozen=True, eq=False)
class ToyFault:
    name: str
    detail: str


@dataclass(frozen=True, eq=False)
class ToyDecision:
    setpoint: Target
    limits: tuple[str, ...] = ()
    fault: ToyFault | None = None
    at_rest: bool = True
    held: bool = False


class ToyGate:
    """As the real one from outside: it goes to targets at no more than `speed`, and holds until it is reset."""

    def __init__(self, dt: float = 0.01, speed: float = 0.5, wall: float = np.inf) -> None:
        self.most, self.wall = speed * dt, wall
        self.fault: ToyFault | None = None
        self.wanted: list[Target | None] = []
        self.resets = 0

    def reset(self, state: RobotState, now: float) -> ToyDecision:
        self.resets += 1
        self.fault, self.held, self.moved = None, False, False
        self.setpoint = Target(state.pose, state.gripper)
        return ToyDecision(self.setpoint)

    def next(self, target: Target | None, state: RobotState, now: float) -> ToyDecision:
        self.wanted.append(target)
        self.held |= self.fault is not None or (target is None and self.moved)
        if self.held or target is None:
            return ToyDecision(self.setpoint, fault=self.fault, held=self.held)
        self.moved = True
        goal = np.minimum(target.pose.position, [self.wall, np.inf, np.inf])
        way = goal - self.setpoint.pose.position
        share = min(1.0, self.most / max(float(np.linalg.norm(way)), 1e-12))
        pose = Pose(self.setpoint.pose.position + share * way, target.pose.rotation)
        self.setpoint = Target(pose, target.gripper)
        return ToyDecision(self.setpoint, at_rest=not way.any())


class ToyCamera:
    """30 pictures a second; the red of picture n is n, its stamp n / 30 (less what was lost)."""

    def __init__(
        self, clock: ManualClock, name: str = "scene", size: tuple[int, int] = (24, 32), fps: float = 30
    ) -> None:
        self.clock, self.size, self.fps = clock, size, fps
        k = np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
        self.features = CameraFeatures(name, size[1], size[0], fps, has_depth=True, intrinsics=k)
        self.lost_at = np.inf

    def history(self, stamps: Sequence[float]) -> list[CameraFrame]:
        if not np.isfinite(self.lost_at) or self.clock.now() < self.lost_at:
            return [self._frame(stamp) for stamp in stamps]
        raise CameraError("camera 'scene': unplugged")

    def _frame(self, stamp: float) -> CameraFrame:
        newest = int((self.clock.now() - 0.03) * self.fps)
        number = min(round(stamp * self.fps), newest)
        image = np.zeros((*self.size, 3), np.uint8)
        image[..., 0], image[..., 1] = number % 256, np.arange(self.size[1])
        return CameraFrame(number / self.fps, number, image, np.full(self.size, 5000 + number % 50, np.uint16))


PUSH = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def episode(start: float, label: str | None, push: tuple[float, ...] = PUSH, seconds: float = 1.0) -> list[Moment]:
    """Push, close the gripper, let go, label."""
    middle, end = start + seconds / 2, start + seconds
    last = [Moment(end + 0.1, enabled=False, pressed=(label,))] if label else []
    return [
        Moment(start, push),
        Moment(middle, tuple(-0.5 * p for p in push), pressed=("gripper",)),
        Moment(end, enabled=False),
        *last,
    ]


@dataclass
class Rig:
    """Everything for a recorded session on the toy arm."""

    path: Path
    script: list[Moment]
    base_yaw: float = 0.0
    control_hz: float = 20.0
    valid_fraction: float = 0.0
    cameras: int = 1
    sizes: tuple[int, int] = (16, 16)
    longest: float = 120.0

    def __post_init__(self) -> None:
        self.clock = ManualClock(100.0, step=0.01)
        self.arm, self.gate = ToyArm(self.clock, base_yaw=self.base_yaw), ToyGate()
        names = ("scene", "wrist")[: self.cameras]
        self.eyes = {name: ToyCamera(self.clock, name) for name in names}
        self.said: list[str] = []
        self.calibrations: dict[str, dict[str, str]] = {}

    def store(self, pictures: Pictures) -> EpisodeStore:
        env_args = env_arguments("toy_task", self.arm.features, self.control_hz, pictures.about())
        return EpisodeStore(self.path, env_args, pictures.attributes(), self.valid_fraction)

    def run(self) -> End:
        features = {name: eye.features for name, eye in self.eyes.items()}
        pictures = Pictures(features, dict.fromkeys(features, self.sizes))
        settings = RecorderSettings(control_hz=self.control_hz, longest=self.longest)
        scene = calibrated(pictures, self.calibrations, self.arm.features)
        perceive, on_gripper = (pictures.observe, ()) if scene is None else (scene.observe, scene.needs_tool)
        recorder = Recorder(self.arm.features, self.eyes, perceive, settings, on_gripper)
        pilot = Pilot(PilotSettings(deadband=0.0, expo=0.0), GRIPPER)
        with (
            ScriptedOperator(self.script) as operator,
            Session(recorder, self.store(pictures), self.said.append) as session,
        ):
            loop = Loop(self.arm, self.gate, operator, self.clock, pilot, [session], say=self.said.append)
            return loop.run()


def released(at: float) -> Moment:
    """The operator's hand is off."""
    return Moment(at, enabled=False)


def ended(at: float) -> Moment:
    """The operator has enough."""
    return Moment(at, enabled=False, pressed=("end",))
