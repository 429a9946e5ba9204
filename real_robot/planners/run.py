"""`run_policy`: the one place where a request becomes a plan, whatever process that happens in."""

from __future__ import annotations

import time

import numpy as np
import torch

from equidiff.guidance import Overlap, soft_mask
from equidiff.policy import DiffusionPolicy, Policy
from equidiff.spec import Spec
from real_robot.planner import PlannerError
from real_robot.types import Plan, PlanRequest

__all__ = ["check_request", "plan_shape", "run_policy", "warm_up"]


def plan_shape(spec: Spec) -> tuple[int, int]:
    """(k, A) of a plan: what the policy predicts from the last observation on."""
    return spec.horizon.predict - spec.horizon.obs + 1, spec.action_size


def check_request(spec: Spec, request: PlanRequest) -> None:
    """Raise ValueError that names what does not fit the spec: keys, shapes, the chunk under way."""
    for key, shape in spec.observation.shapes.items():
        if key not in request.observation:
            raise ValueError(f"observation: {key!r} is missing; got {', '.join(map(repr, request.observation))}")
        found, expected = request.observation[key].shape, (spec.horizon.obs, *shape)
        if found != expected:
            raise ValueError(f"observation: {key!r} has shape {found}, expected {expected} = (horizon.obs, *shape)")
    unknown = request.observation.keys() - spec.observation.shapes.keys()
    if unknown:
        raise ValueError(f"observation: the policy does not read {', '.join(sorted(map(repr, unknown)))}; leave it out")
    rows, width = 0, spec.action_size
    if request.previous is not None:
        rows = len(request.previous)
        if request.previous.shape != (rows, width) or rows > spec.horizon.predict:
            raise ValueError(
                f"previous: expected (k, {width}) with k <= {spec.horizon.predict}, got {request.previous.shape}"
            )
        if not np.isfinite(request.previous).all():
            raise ValueError("previous: expected finite numbers")
    if not 0 <= request.frozen <= rows:
        raise ValueError(f"frozen: expected 0 to {rows} (rows of previous), got {request.frozen}")


def run_policy(policy: Policy, request: PlanRequest, generator: torch.Generator | None = None) -> Plan:
    """The policy's answer to a request; with `previous`, a diffusion policy is guided to agree with it.

    generator (of the CPU): where the noise comes from. Raises SpecError for an observation that does not fit, and
    PlannerError for actions that are not finite or not of the spec's shape.
    """
    start = time.perf_counter()
    spec = policy.spec
    obs = {key: torch.tensor(request.observation[key])[None] for key in spec.observation.keys}
    noise = None if generator is None else [generator]
    overlap = _overlap(spec, request)
    if overlap is not None and isinstance(policy, DiffusionPolicy):
        chunk = policy.act(obs, generator=noise, overlap=overlap)
    else:
        chunk = policy.act(obs, generator=noise)
    # the first prediction belongs to the first observation of the history, a plan starts at the last one
    actions = chunk.predicted[0, spec.horizon.obs - 1 :].to("cpu", torch.float64).numpy()
    if actions.shape != plan_shape(spec):
        raise PlannerError(f"the policy gave actions of shape {actions.shape}, its spec says {plan_shape(spec)}")
    if not np.isfinite(actions).all():
        raise PlannerError(f"the policy gave actions that are not finite, first in row {_first_bad(actions)}")
    return Plan(request.number, request.stamp, actions, time.perf_counter() - start)


def _overlap(spec: Spec, request: PlanRequest) -> Overlap | None:
    """The chunk under way in the rows of the new one: its first action belongs to the last observation."""
    if request.previous is None:
        return None
    steps, first = spec.horizon.predict, spec.horizon.obs - 1
    known = min(len(request.previous), steps - first)
    if known == 0:
        return None
    # rows that are not known have weight 0, but must be actions for the fields to read
    rows = np.clip(np.arange(steps) - first, 0, known - 1)
    weights = soft_mask(steps, first, min(request.frozen, known), known)
    return Overlap(torch.from_numpy(request.previous[rows])[None], weights)


def warm_up(policy: Policy) -> float:
    """Let the policy act once on zeros, so that its first real answer is not late; the seconds that took."""
    start = time.perf_counter()
    sources = policy.spec.observation.sources.items()
    steps = policy.spec.horizon.obs
    policy.act({key: torch.zeros(1, steps, *s.shape, dtype=s.dtype or torch.float32) for key, s in sources})
    return time.perf_counter() - start


def _first_bad(actions: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> int:
    return int(np.argmax(~np.isfinite(actions).all(1)))
