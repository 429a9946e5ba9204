"""What a policy sees of a simulated scene: cameras with delays, and the poses of objects as a tracker would give."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.contract import CameraError
from real_robot.loop.sensors import Sensor
from real_robot.sim.world import SimWorld

__all__ = ["SimSensor", "cameras", "tracker"]


class SimSensor(Sensor):
    """Observations that `look` makes of the world, `hz` times a second of its clock, to be had `latency` later.

    jitter: standard deviation of the latency in seconds, cut at 0. `unplugged` and `frozen` are faults: the device is
    gone; it gives nothing new.
    """

    def __init__(
        self,
        name: str,
        world: SimWorld,
        look: Callable[[], Mapping[str, NDArray[Any]]],
        hz: float,
        latency: float = 0.0,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.name, self._world, self._look, self._period = name, world, look, 1 / hz
        self._latency, self._jitter, self._rng = latency, jitter, np.random.default_rng(seed)
        self.unplugged = self.frozen = False
        self._coming: deque[tuple[float, float, dict[str, NDArray[Any]]]] = deque()
        self._kept: deque[tuple[float, dict[str, NDArray[Any]]]] = deque(maxlen=64)
        self._keys = tuple(world.in_thread(look))
        self._number = 0
        self.listener: Callable[[str, int, float], None] | None = None
        """Hears name, number and time of capture of each measurement that arrives."""
        self._restart()
        world.listeners.append(self._measure)
        world.restarts.append(self._restart)

    def _restart(self) -> None:
        # at the start of an episode: forget the last one, measure at once
        self._coming.clear()
        self._kept.clear()
        self._last = -np.inf
        now = self._world.time
        self._last = now
        self._kept.append((now, dict(self._look())))

    @property
    def keys(self) -> tuple[str, ...]:
        return self._keys

    def _measure(self, now: float) -> None:
        if self.unplugged or self.frozen or now < self._last + self._period - 1e-9:
            return
        self._last = now
        delay = self._latency
        if self._jitter > 0:
            delay = max(0.0, delay + self._jitter * float(self._rng.standard_normal()))
        self._coming.append((now + delay, now, dict(self._look())))

    @property
    def newest(self) -> float:
        if self.unplugged:
            raise CameraError(f"{self.name}: unplugged")
        now = self._world.clock.now()
        with self._world.lock:
            while self._coming and self._coming[0][0] <= now:
                _, stamp, seen = self._coming.popleft()
                self._kept.append((stamp, seen))
                self._number += 1
                if self.listener is not None:
                    self.listener(self.name, self._number, stamp)
            return self._kept[-1][0]

    def at(self, stamp: float) -> dict[str, NDArray[Any]]:
        newest = self.newest
        if stamp >= newest:
            return self._kept[-1][1]
        with self._world.lock:
            return min(self._kept, key=lambda kept: abs(kept[0] - stamp))[1]


def tracker(world: SimWorld, hz: float = 100.0, latency: float = 0.0, jitter: float = 0.0) -> SimSensor:
    """Poses of the objects of the task, as a motion tracker gives them."""
    return SimSensor("tracker", world, world.objects, hz, latency, jitter)


def cameras(world: SimWorld, hz: float = 20.0, latency: float = 0.0, jitter: float = 0.0) -> SimSensor:
    """Pictures, grids and clouds of the world's perception settings, all cameras at the same times."""
    return SimSensor("cameras", world, world.look, hz, latency, jitter)
