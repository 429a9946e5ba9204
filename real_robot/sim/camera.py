"""`SimCamera`: a camera of the simulated scene, with the delays and faults of a real one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equidiff.perception import CameraSettings
from equidiff.sim.render import Renderer, RendererSettings
from real_robot.contract import Camera, CameraError, CameraFeatures
from real_robot.sim.world import SimWorld
from real_robot.types import Array, CameraFrame

__all__ = ["SimCamera", "SimCameraSettings"]

_STALE = 0.5


@dataclass(frozen=True)
class SimCameraSettings:
    """name: of a camera of the task's model. latency: seconds from capture until the picture can be had."""

    name: str
    width: int = 84
    height: int = 84
    fps: float = 20.0
    depth: bool = False
    latency: float = 0.0


class SimCamera(Camera):
    """Takes pictures as the world moves on; in its thread, like everything that draws. `unplugged` is a fault."""

    def __init__(self, world: SimWorld, settings: SimCameraSettings) -> None:
        self._world, self._settings = world, settings
        self.unplugged = False
        self._renderer: Renderer | None = None
        self._model: Any = None
        self._news = threading.Condition()
        self._frames: deque[tuple[float, CameraFrame]] = deque(maxlen=64)  # with the time from which on it is there
        self._last, self._number, self._read = -np.inf, 0, -1

        self._intrinsics: Array | None = None

    @property
    def features(self) -> CameraFeatures:
        s = self._settings
        return CameraFeatures(s.name, s.width, s.height, s.fps, has_depth=s.depth, intrinsics=self._intrinsics)

    def connect(self) -> None:
        if self.connected:
            raise CameraError(f"camera {self._settings.name!r}: connected already")
        self._world.in_thread(self._open)
        self._world.listeners.append(self._take)
        self._world.restarts.append(self._restart)

    def _open(self) -> None:
        self._renderer, self._model = self._renderer_of(), self._world.env.model
        self._renderer.frame(self._world.env.data, self._settings.name, self._settings.depth)  # the first one is slow
        self._restart()

    def _renderer_of(self) -> Renderer:
        s = self._settings
        sizes = {s.name: CameraSettings(width=s.width, height=s.height)}
        return Renderer(self._world.env.model, sizes, RendererSettings())

    def _restart(self) -> None:
        with self._news:
            self._frames.clear()
        if self._renderer is not None and self._model is not self._world.env.model:  # an episode may have its own
            self._renderer.close()
            self._renderer, self._model = self._renderer_of(), self._world.env.model
        self._last = -np.inf

    def _take(self, now: float) -> None:
        s, renderer = self._settings, self._renderer
        if renderer is None or self.unplugged or now < self._last + 1 / s.fps - 1e-9:
            return
        self._last = now
        seen = renderer.frame(self._world.env.data, s.name, s.depth)
        self._intrinsics = seen.intrinsics.astype(np.float64)
        with self._news:
            self._frames.append((now + s.latency, CameraFrame(now, self._number, seen.image, seen.depth)))
            self._number += 1
            self._news.notify_all()

    def disconnect(self) -> None:
        if self.connected:
            self._world.listeners.remove(self._take)
            self._world.restarts.remove(self._restart)
            self._world.in_thread(self._close)
        with self._news:
            self._frames.clear()

    def _close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None

    @property
    def connected(self) -> bool:
        return self._renderer is not None

    def read(self, timeout: float) -> CameraFrame:
        until = self._world.clock.now() + timeout
        while True:
            frame = self._arrived()[-1:]
            if frame and frame[0].number > self._read:
                self._read = frame[0].number
                return frame[0]
            if self._world.clock.now() > until:
                raise CameraError(f"camera {self._settings.name!r}: no picture within {timeout:.3f} s")
            self._world.clock.sleep_until(self._world.clock.now() + 0.002)

    def latest(self) -> CameraFrame:
        """The newest picture, at once."""
        frames = self._arrived()
        if not frames:
            raise CameraError(f"camera {self._settings.name!r}: no picture yet")
        age = self._world.clock.now() - frames[-1].stamp - self._settings.latency
        if age > _STALE:
            raise CameraError(f"camera {self._settings.name!r}: no picture for {age:.2f} s")
        return frames[-1]

    def history(self, stamps: Sequence[float]) -> list[CameraFrame]:
        """For each time the picture captured nearest to it."""
        self.latest()
        frames = self._arrived()
        return [min(frames, key=lambda frame: abs(frame.stamp - stamp)) for stamp in stamps]

    def _arrived(self) -> list[CameraFrame]:
        if not self.connected:
            raise CameraError(f"camera {self._settings.name!r}: not connected; call connect() first")
        if self.unplugged:
            raise CameraError(f"camera {self._settings.name!r}: unplugged")
        now = self._world.clock.now()
        with self._news:
            return [frame for there, frame in self._frames if there <= now]
