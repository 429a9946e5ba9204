"""Policies and requests small enough to plan in a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equidiff.checkpoint import save_checkpoint
from equidiff.compose import make_policy
from equidiff.fields import Position, Scalars
from equidiff.policy import ActionChunk, DiffusionPolicy
from equidiff.spec import Horizon, Space, Spec
from real_robot.planner import Planner
from real_robot.server.access import Token
from real_robot.types import Plan, PlanRequest

SPEC = Spec(
    observation=Space((Position("at"), Scalars("grip", size=1))),
    action=Space((Position("to"), Scalars("close"))),
    horizon=Horizon(obs=2, predict=6, execute=3),
)
SECRET = "a-token-for-tests-that-is-long-enough"
TOKEN = Token(SECRET)

TREE: dict[str, Any] = {
    "_target_": "equidiff.policy.DiffusionPolicy",
    "symmetry": {"_target_": "equidiff.symmetry.Symmetry", "order": 4},
    "encoder": {
        "_target_": "equidiff.encoders.ObservationEncoder",
        "_partial_": True,
        "channels": 4,
        "encoders": {"state": {"_target_": "equidiff.encoders.StateEncoder", "_partial_": True, "channels": 4}},
    },
    "denoiser": {"_target_": "equidiff.denoisers.GroupMLP", "_partial_": True, "channels": 4, "blocks": 1},
    "diffusion": {
        "_target_": "equidiff.diffusion.Diffusion",
        "inference_steps": 2,
        "clip": "none",
        "scheduler": {
            "_target_": "diffusers.schedulers.DDIMScheduler",
            "num_train_timesteps": 10,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "epsilon",
            "clip_sample": False,
        },
    },
    "normalizer": {"_target_": "equidiff.normalizer.Normalizer", "_partial_": True},
}


def policy() -> DiffusionPolicy:
    """A real policy with random weights, always the same."""
    torch.manual_seed(0)
    out = make_policy(TREE, SPEC)
    steps = SPEC.horizon
    obs = {"at": torch.randn(20, steps.obs, 3), "grip": torch.rand(20, steps.obs, 1)}
    out.fit([{"obs": obs, "action": torch.randn(20, steps.predict, 4)}])
    with torch.no_grad():
        for parameter in out.parameters():
            parameter.normal_(std=0.3)
    return out.eval().requires_grad_(False)


def checkpoint(folder: Path) -> Path:
    """`policy()`, saved."""
    return save_checkpoint(folder / "checkpoint", policy(), TREE)


class Scripted:
    """Predicts the last observed x plus the index of the step; may be held up, fail, or give a wrong shape."""

    def __init__(self, spec: Spec = SPEC) -> None:
        self.spec = spec
        self.go = threading.Event()
        self.go.set()
        self.calls = 0
        self.error: Exception | None = None
        self.value: float | None = None
        self.steps = spec.horizon.predict

    def act(self, obs: Mapping[str, Tensor], noise: Tensor | None = None, generator: Any = None) -> ActionChunk:
        assert self.go.wait(60)
        self.calls += 1
        if self.error is not None:
            raise self.error
        key = self.spec.observation.keys[0]
        first = obs[key][0, -1].flatten()[0].item() if self.value is None else self.value
        predicted = (torch.arange(self.steps) + first)[None, :, None].expand(1, -1, self.spec.action_size)
        return ActionChunk(predicted[:, self.spec.horizon.executed], predicted)

    def fit(self, batches: Iterable[Any]) -> None:
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        raise NotImplementedError


def request(number: int = 1, value: float = 0.25, **more: Any) -> PlanRequest:
    """An observation whose every number is `value`."""
    steps = SPEC.horizon.obs
    observation = {"at": np.full((steps, 3), value), "grip": np.full((steps, 1), value, np.float32)}
    return PlanRequest(**{"number": number, "stamp": 12.5 + number, "observation": observation, **more})


def answer(planner: Planner, within: float = 60.0) -> Plan:
    """Wait for the plan under way."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        plan = planner.poll()
        if plan is not None:
            return plan
        time.sleep(0.002)
    raise AssertionError(f"no plan within {within} s")


def until(condition: Any, within: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
