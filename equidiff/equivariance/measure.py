"""The error of every stage of a policy when the scene is turned."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equidiff.equivariance.report import Report, Stage
from equidiff.policy import DiffusionPolicy

__all__ = ["Judgement", "Run", "measure", "relative_error"]


@dataclass(frozen=True)
class Judgement:
    """threshold: limit of the relative error where the law is exact. bound: limit at the angles of the group at which
    a picture or a voxel grid is interpolated, as a share of the error there would be had these not been turned at all;
    None: they are measured, not judged. order: of the group whose angles are judged; None: the policy's own, or 4 for a
    policy without symmetry. Raises ValueError for limits that are not > 0.
    """

    threshold: float = 1e-3
    bound: float | None = None
    order: int | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "bound"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a limit > 0, got {getattr(self, name)}")
        if self.order is not None and self.order < 2:
            raise ValueError(f"order: expected a group of 2 rotations or more, got {self.order}")


def relative_error(got: Tensor, want: Tensor) -> float:
    """Euclidean norm of the difference over that of `want` (or 1e-12)."""
    return float((got - want).norm() / want.norm().clamp(min=1e-12))


@torch.no_grad()
def measure(
    policy: DiffusionPolicy,
    obs: Mapping[str, Tensor],
    angles: int = 16,
    judgement: Judgement | None = None,
    *,
    seed: int = 0,
    double: bool = False,
) -> Report:
    """Turn stored observations {key: (B, To, *shape)} by `angles` even steps and by those of the group.

    Stages: the law of each observation field and of each action field; the normaliser; the encoder and the denoiser
    each alone (at the policy's own rotations only: their features turn by nothing else); "prediction", one call of the
    denoiser on what the encoder sees; and "sampler": turned observation and turned noise, also that of every step,
    against turned actions, both in the units of the normaliser. double: in float64. The policy is left as it is.
    """
    judged = judgement or Judgement()
    if angles < 1:
        raise ValueError(f"angles: expected a whole number >= 1, got {angles}")
    twin = copy.deepcopy(policy).eval()
    if double:
        twin.double()
    run = Run(twin, obs, seed)
    order = judged.order or (policy.symmetry.order if policy.symmetry.order > 1 else 4)
    turns = sorted({round(k / n, 12) for n in (angles, order) for k in range(n)})
    measured: dict[str, list[tuple[float | None, float | None, float | None]]] = {}
    for turn in turns:
        angle = 2 * math.pi * turn
        in_group = _whole(turn * order)
        exact = all(field.exact(angle) for field in policy.spec.observation.arrays.values())
        unturned = {} if exact else run.unturned(angle)
        for name, (error, law) in run.errors(angle).items():
            reference, limit = None, None
            if law == "grid" or (law == "group" and in_group and not exact):
                reference = unturned[name]
                limit = None if judged.bound is None or reference is None else judged.bound * reference
            elif law == "free" or in_group:
                limit = judged.threshold
            measured.setdefault(name, []).append((error, limit, reference))
    stages = tuple(Stage(n, *(tuple(column) for column in zip(*rows, strict=True))) for n, rows in measured.items())
    return Report(order, tuple(2 * math.pi * turn for turn in turns), stages, judged.threshold, judged.bound)


def _whole(x: float) -> bool:
    return abs(x - round(x)) < 1e-6


class Run:
    """What the policy does with the scene as it is, to compare with."""

    def __init__(self, policy: DiffusionPolicy, obs: Mapping[str, Tensor], seed: int) -> None:
        self.policy, self.spec = policy, policy.spec
        like = policy.normalizer.observation_scale
        self.obs = {
            key: obs[key].to(like) if obs[key].is_floating_point() else obs[key].to(like.device)
            for key in self.spec.observation.keys
        }
        self.count = next(iter(self.obs.values())).shape[0]
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(like)
        self.noise = draw(self.count, *policy.noise_shape)
        self.step_noise = draw(policy.diffusion.inference_steps, self.count, *policy.noise_shape)
        self.step = torch.randint(policy.diffusion.training_steps, (self.count,), generator=generator).to(like.device)
        self.features, self.arrays = policy._decode(self.obs)
        self.condition = self._encode(self.features, self.arrays)
        self.predicted = policy.denoiser(self.noise, self.step, self.condition)
        self.chunk = self._act(self.obs, 0.0)
        self.free = policy.normalizer.invert_action(self.noise)

    def errors(self, angle: float) -> dict[str, tuple[float | None, str]]:
        """{stage: (relative error or None, law)}; law: free (any angle), grid (interpolated) or group."""
        policy, spec = self.policy, self.spec
        found: dict[str, tuple[float | None, str]] = {}
        obs = spec.rotate_observation(self.obs, angle)
        for field in spec.observation.fields:
            kept, turned = field.decode(self.obs), field.decode(obs)
            array = spec.observation.arrays.get(field.name)
            want = field.irreps.rotate(kept, angle) if array is None else array.turn(kept, angle)
            law = "free" if array is None or array.exact(angle) else "grid"
            found[f"field {field.name}"] = relative_error(turned, want), law
        turn = spec.action.irreps.rotate
        stored = spec.rotate_action(spec.encode_action(self.free, self.obs), angle)
        want = spec.decode_action(stored, obs)
        got = spec.decode_action(spec.encode_action(turn(self.free, angle), obs), obs)
        for field, at in zip(spec.action.fields, spec.action.slices(), strict=True):
            found[f"action {field.name}"] = relative_error(got[..., at], want[..., at]), "free"
        found["normaliser"] = self._normaliser(angle), "free"
        features, arrays = policy._decode(obs)
        condition = self._encode(features, arrays)
        noise = turn(self.noise, angle)
        steps = angle / (2 * math.pi) * policy.symmetry.order
        alone: tuple[float | None, float | None] = (None, None)
        if policy.symmetry.order > 1 and _whole(steps):
            known = policy.symmetry.act(self.condition, round(steps))
            predicted = policy.denoiser(noise, self.step, known)
            alone = relative_error(condition, known), relative_error(predicted, turn(self.predicted, angle))
        # the denoiser sees features, so no angle of the group is inexact for it; a field may still be
        found["encoder"] = alone[0], "group"
        found["denoiser"] = alone[1], "free" if alone[1] is not None else "group"
        predicted = policy.denoiser(noise, self.step, condition)
        found["prediction"] = relative_error(predicted, turn(self.predicted, angle)), "group"
        got, want = (
            self._features(self._act(obs, angle), obs),
            self._features(spec.rotate_action(self.chunk, angle), obs),
        )
        found["sampler"] = relative_error(got, want), "group"
        return found

    def unturned(self, angle: float) -> dict[str, float | None]:
        """{stage: relative error that there would be had pictures and grids, interpolated at this angle, stayed}.

        Everything else is turned. It says what an error of such a stage is to be compared with: a policy that does
        not turn with its picture is no better than this.
        """
        policy, spec, turn = self.policy, self.spec, self.spec.action.irreps.rotate
        obs = spec.rotate_observation(self.obs, angle)
        found: dict[str, float | None] = {}
        for name, array in spec.observation.arrays.items():
            if not array.exact(angle):
                kept = array.decode(self.obs)
                found[f"field {name}"] = relative_error(kept, array.turn(kept, angle))
                obs |= {source.key: self.obs[source.key] for source in array.sources[:1]}
        condition = self._encode(*policy._decode(obs))
        steps = angle / (2 * math.pi) * policy.symmetry.order
        known = policy.symmetry.act(self.condition, round(steps)) if _whole(steps) else None
        found["encoder"] = None if known is None or policy.symmetry.order == 1 else relative_error(condition, known)
        found["denoiser"] = None
        predicted = policy.denoiser(turn(self.noise, angle), self.step, condition)
        found["prediction"] = relative_error(predicted, turn(self.predicted, angle))
        want = self._features(spec.rotate_action(self.chunk, angle), obs)
        found["sampler"] = relative_error(self._features(self._act(obs, angle), obs), want)
        return found

    def actions(self, angle: float) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The turned observation, the actions (B, T, A) sampled for it, and those of the scene as it is, turned."""
        obs = self.spec.rotate_observation(self.obs, angle)
        return obs, self._act(obs, angle), self.spec.rotate_action(self.chunk, angle)

    def _act(self, obs: Mapping[str, Tensor], angle: float) -> Tensor:
        turn = self.spec.action.irreps.rotate
        noise, steps = turn(self.noise, angle), turn(self.step_noise, angle)
        return self.policy.act(obs, noise=noise, step_noise=steps).predicted

    def _features(self, actions: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        return self.policy.normalizer.action(self.spec.decode_action(actions, obs))

    def _encode(self, features: Tensor, arrays: dict[str, Tensor]) -> Tensor:
        condition: Tensor = self.policy.encoder(self.policy.normalizer.observation(features), arrays)
        return condition

    def _normaliser(self, angle: float) -> float:
        normalizer, spec = self.policy.normalizer, self.spec
        worst = 0.0
        for scale, irreps, x in (
            (normalizer.observation, spec.observation.irreps, self.features),
            (normalizer.action, spec.action.irreps, self.free),
        ):
            if irreps.size:
                worst = max(worst, relative_error(scale(irreps.rotate(x, angle)), irreps.rotate(scale(x), angle)))
        return worst
