"""`Recorder`: what a loop does, resampled to the control rate by time of capture, as a demonstration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from real_robot.contract import CameraFeatures, RobotFeatures
from real_robot.loop.history import between
from real_robot.loop.sensors import proprioception
from real_robot.poses import Pose
from real_robot.teleop.errors import RecordingError
from real_robot.teleop.loop import Tick
from real_robot.types import Array, CameraFrame, RobotState, Target
from real_robot.world import World

__all__ = ["Demonstration", "PictureHistory", "RecordedSteps", "Recorder", "RecorderSettings"]


class PictureHistory(Protocol):
    """A camera whose last pictures can be asked for, such as `real_robot.camera_process.CameraProcess`."""

    @property
    def features(self) -> CameraFeatures: ...

    def history(self, stamps: Sequence[float]) -> list[CameraFrame]:
        """The pictures captured nearest to `stamps`, at once. CameraError for a camera that is lost."""


@dataclass(frozen=True)
class RecorderSettings:
    """control_hz: steps a second. delay: seconds after which a step is put together, when all devices have reported.

    gap: seconds; the largest distance of a picture to the time of its step, and between two measurements of the arm.
    longest: seconds after which an episode ends by itself.
    """

    control_hz: float = 20.0
    delay: float = 0.15
    gap: float = 0.1
    longest: float = 120.0

    def __post_init__(self) -> None:
        for name, low, high in (("control_hz", 1, 100), ("delay", 0, 0.8), ("gap", 0.001, 1), ("longest", 1, 3600)):
            if not low <= getattr(self, name) <= high:
                raise RecordingError(f"recorder.{name}: expected {low} to {high}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode of T steps, as `equidiff.data.DemoWriter.add` takes it: step t of obs is what was there before
    action t. actions (T, 7) relative, actions_abs (T, 7), obs {key: (T, *shape)}."""

    actions: Array
    actions_abs: Array
    obs: dict[str, NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.actions_abs)


@dataclass(frozen=True, eq=False)
class _Step:
    active: bool
    action: Array
    action_abs: Array
    obs: dict[str, NDArray[np.generic]]


class RecordedSteps:
    """Steps of an episode, as long as nobody has time to join them."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._steps = tuple(steps)

    def __len__(self) -> int:
        return len(self._steps)

    def join(self) -> Demonstration:
        """Copies everything: for pictures that is too long for a turn of the loop."""
        steps = self._steps
        return Demonstration(
            np.stack([step.action for step in steps]),
            np.stack([step.action_abs for step in steps]),
            {key: np.stack([step.obs[key] for step in steps]) for key in steps[0].obs},
        )


class Recorder:
    """Give it every tick; it records from `begin` on up to `end`; when it is `complete`, `finish` gives the episode.

    Step k is at time begin + k / control_hz: the arm's state between the two measurements around that time, of each
    camera the picture captured nearest to it; action k is what was wanted at the time of step k + 1. Steps in which the
    dead-man switch was released and the arm rested are left out.

    perceive: {camera: frame}, {camera on the gripper: pose of the tool in the base frame at its picture} ->
    observation arrays. on_gripper: the cameras that need the latter.
    """

    def __init__(
        self,
        robot: RobotFeatures,
        cameras: Mapping[str, PictureHistory],
        perceive: Callable[[Mapping[str, CameraFrame], Mapping[str, Pose]], Mapping[str, NDArray[np.generic]]],
        settings: RecorderSettings | None = None,
        on_gripper: Sequence[str] = (),
    ) -> None:
        self.settings = settings or RecorderSettings()
        self._cameras, self._perceive, self._on_gripper = dict(cameras), perceive, tuple(on_gripper)
        self._world, self._dt = World.of(robot), 1 / self.settings.control_hz
        self._ticks: deque[Tick] = deque()
        self._states: deque[RobotState] = deque()
        self._steps: list[_Step] = []
        self._start: float | None = None
        self._until: float | None = None
        self._next = 0

    @property
    def recording(self) -> bool:
        """Between `begin` and `finish`."""
        return self._start is not None

    def seconds(self, now: float) -> float:
        """Length of the episode so far; 0 when there is none."""
        return 0.0 if self._start is None else now - self._start

    def begin(self, now: float) -> None:
        """An episode starts now; what there was of another one is forgotten."""
        self._start, self._until, self._next, self._steps = now, None, 0, []

    def end(self, now: float) -> None:
        """The episode ends now; its last steps are put together a little later."""
        self._until = now

    @property
    def complete(self) -> bool:
        """Whether an episode that was ended is there whole."""
        return self._start is not None and self._until is not None and self._time(self._next + 1) > self._until

    def discard(self) -> None:
        """Forget the episode."""
        self._start, self._until, self._steps = None, None, []

    def __call__(self, tick: Tick) -> None:
        """Take a tick in. Raises RecordingError for a gap, CameraError for a lost camera; the episode is then lost."""
        self._ticks.append(tick)
        if not self._states or tick.state.stamp > self._states[-1].stamp:
            self._states.append(tick.state)
        while (
            self._start is not None
            and not self.complete
            and tick.now >= self._time(self._next + 1) + self.settings.delay
        ):
            self._steps.append(self._step(self._next))
            self._next += 1
        keep = tick.now - self.settings.delay - 2 * self._dt - self.settings.gap
        if self._start is not None:
            keep = min(keep, self._time(self._next) - self.settings.gap)
        while len(self._ticks) > 1 and self._ticks[1].now < keep:
            self._ticks.popleft()
        while len(self._states) > 1 and self._states[1].stamp < keep:
            self._states.popleft()

    def finish(self) -> RecordedSteps | None:
        """The steps that are there, or None when the arm never moved."""
        steps = [step for step in self._steps if step.active]
        self.discard()
        return RecordedSteps(steps) if steps else None

    def _time(self, step: int) -> float:
        assert self._start is not None
        return self._start + step * self._dt

    def _step(self, number: int) -> _Step:
        t, after = self._time(number), self._time(number + 1)
        state = self._state(t)
        target, active = self._wanted(after, t)
        obs: dict[str, NDArray[np.generic]] = {
            **proprioception(state, self._world),
            "robot0_joint_pos": state.joints.astype(np.float32),
            "robot0_joint_vel": state.velocities.astype(np.float32),
            "robot0_stamp": np.array(t - self._time(0)),
        }
        if state.wrench is not None:
            obs["robot0_wrench"] = state.wrench.astype(np.float32)
        frames = {name: self._frame(name, camera, t) for name, camera in self._cameras.items()}
        tools = {name: self._state(frames[name].stamp).pose for name in self._on_gripper}
        obs |= self._perceive(frames, tools)
        obs |= {f"{name}_stamp": np.array(frame.stamp - self._time(0)) for name, frame in frames.items()}
        return _Step(active, self._world.relative(target, state.pose), self._world.action(target), obs)

    def _state(self, t: float) -> RobotState:
        """The arm at time t, between the measurements around it."""
        before = [state for state in self._states if state.stamp <= t]
        after = [state for state in self._states if state.stamp > t]
        first = before[-1] if before else after[0]
        last = after[0] if after else first
        if max(abs(t - first.stamp), abs(t - last.stamp)) > self.settings.gap:
            raise RecordingError(
                f"the arm was measured at {first.stamp - t:+.3f} and {last.stamp - t:+.3f} s about a step, more than "
                f"recorder.gap={self.settings.gap} s; the episode is lost"
            )
        return first if last is first else between(first, last, t)

    def _wanted(self, after: float, t: float) -> tuple[Target, bool]:
        """The target at time `after`, and whether anything was wanted or moved since `t`."""
        before = [tick for tick in self._ticks if tick.now <= after + 1e-9]
        within = [tick for tick in before if tick.now >= t - 1e-9]
        if not within:
            raise RecordingError(f"the loop stood still for more than {self._dt:.3f} s; the episode is lost")
        return before[-1].target, any(tick.active or not tick.at_rest for tick in within)

    def _frame(self, name: str, camera: PictureHistory, t: float) -> CameraFrame:
        (frame,) = camera.history([t])
        if abs(frame.stamp - t) > self.settings.gap:
            raise RecordingError(
                f"camera {name!r}: its picture nearest to a step is {frame.stamp - t:+.3f} s off, more than "
                f"recorder.gap={self.settings.gap} s; the episode is lost"
            )
        return frame
