"""What the way to a policy's server and back costs, with a policy that does nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equidiff.fields import Image, Position, Rotation, Scalars, Voxels
from equidiff.policy import ActionChunk
from equidiff.spec import Horizon, Space, Spec
from real_robot.planners.remote import RemotePlanner
from real_robot.server.access import Token
from real_robot.server.limits import Limits
from real_robot.server.serve import PolicyServer
from real_robot.types import PlanRequest

__all__ = ["OBSERVATIONS", "RoundTrip", "measure"]

_STATE = (Position("eef_pos"), Rotation("eef_quat"), Scalars("gripper", size=2))
OBSERVATIONS: dict[str, tuple[Any, ...]] = {
    "state": _STATE,
    "pictures and voxels": (*_STATE, Image("scene"), Image("wrist", view="body"), Voxels("voxels")),
}
"""What is observed: a gripper's state; the same with two 84x84 pictures and one 64^3 voxel grid."""
_TOKEN = Token("only-for-a-measurement-on-this-machine")


@dataclass(frozen=True)
class RoundTrip:
    """Seconds: `total` from submit to the plan, `overhead` without the time the policy took; (p50, p99, max)."""

    observation: str
    bytes: int
    count: int
    total: tuple[float, float, float]
    overhead: tuple[float, float, float]


class _Idle:
    """A policy that does nothing."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._chunk = torch.zeros(1, spec.horizon.predict, spec.action_size)

    def act(self, obs: Mapping[str, Tensor], noise: Tensor | None = None, generator: Any = None) -> ActionChunk:
        return ActionChunk(self._chunk[:, self.spec.horizon.executed], self._chunk)

    def fit(self, batches: Iterable[Any]) -> None:
        """It has nothing to fit."""

    def loss(self, batch: Any) -> Tensor:
        """0: whatever it does is what it shall do."""
        return torch.zeros(())


def measure(observation: str, count: int, hz: float = 20.0) -> RoundTrip:
    """`count` round trips at `hz`, to a server in another process, over loopback without TLS."""
    spec = _spec(observation)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(there, observation), daemon=True)
    server.start()
    try:
        planner = RemotePlanner(f"ws://127.0.0.1:{here.recv()}", _TOKEN, timeout=10.0)
        rng = np.random.default_rng(0)
        arrays: dict[str, NDArray[np.generic]] = {
            key: rng.integers(0, 256, (spec.horizon.obs, *source.shape), np.uint8)
            if source.dtype is torch.uint8
            else rng.normal(size=(spec.horizon.obs, *source.shape))
            for key, source in spec.observation.sources.items()
        }
        seconds = [_once(planner, PlanRequest(n, 0.0, arrays), 1 / hz) for n in range(count + 10)][10:]
        planner.close()
    finally:
        server.kill()
        server.join()
    total, computed = np.array(seconds).T
    size = sum(array.nbytes for array in arrays.values())
    return RoundTrip(observation, size, count, _quantiles(total), _quantiles(total - computed))


def _once(planner: RemotePlanner, request: PlanRequest, period: float) -> tuple[float, float]:
    start = time.perf_counter()
    planner.submit(request)
    while (plan := planner.poll()) is None:
        time.sleep(0.0001)
    total = time.perf_counter() - start
    time.sleep(max(0.0, period - total))
    return total, plan.computed_in


def _quantiles(seconds: Any) -> tuple[float, float, float]:
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return float(p50), float(p99), float(seconds.max())


def _spec(observation: str) -> Spec:
    action = Space((Position("to"), Scalars("close")))
    return Spec(Space(OBSERVATIONS[observation]), action, Horizon(obs=2, predict=16, execute=8))


def _serve(pipe: Connection, observation: str) -> None:
    async def run() -> None:
        server = PolicyServer(_Idle(_spec(observation)), _TOKEN, limits=Limits(max_hz=1000, burst=1000))
        pipe.send(await server.start())
        await asyncio.Event().wait()

    asyncio.run(run())
