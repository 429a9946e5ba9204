"""A toy environment for the rollout tests, in a module of its own that spawned workers import quickly."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np


class PointEnv:
    """A point that has to be at the goal; the same seed always gives the same start and goal."""

    def __init__(
        self,
        crash_at: int | None = None,
        die_at: int | None = None,
        sleep_at: int | None = None,
        killed_at: int | None = None,
    ) -> None:
        self.crash_at, self.die_at, self.sleep_at, self.killed_at = crash_at, die_at, sleep_at, killed_at
        self.seed, self.steps = -1, 0

    def reset(self, *, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        self.point, self.goal = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        self.seed, self.steps = seed, 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        if self.seed == self.crash_at:
            raise ValueError("the point fell off the table")
        if self.seed == self.die_at:
            os._exit(7)
        if self.seed == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed == self.sleep_at:
            time.sleep(60)
        assert action.shape == (3,)
        self.point = self.point + action
        self.steps += 1
        return (
            self._observe(),
            0.0,
            False,
            False,
            {"success": bool(np.abs(self.point - self.goal).max() < 0.25)},
        )

    def render_frame(self, camera: str, width: int, height: int) -> np.ndarray:
        assert camera == "top"
        return np.full((height, width, 3), self.steps % 256, np.uint8)

    def _observe(self) -> dict[str, np.ndarray]:
        step = np.full(1, self.steps, np.float32)
        return {"point_pos": self.point, "goal_pos": self.goal, "step_count": step}


def broken_env() -> PointEnv:
    raise OSError("no simulator here")
