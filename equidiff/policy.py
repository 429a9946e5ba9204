"""`Policy`: what every method offers to training, simulation and robot; `DiffusionPolicy`: the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from equidiff.augment import Augmentation
from equidiff.diffusion import Diffusion, Generators, draw
from equidiff.guidance import Guide, Overlap
from equidiff.normalizer import Normalizer
from equidiff.spec import Batch, Spec
from equidiff.symmetry import Symmetry

__all__ = ["ActionChunk", "DiffusionPolicy", "Penalised", "Policy"]


@dataclass(frozen=True)
class ActionChunk:
    """Actions in storage form: what the environment or the robot takes.

    `action` (B, execute, A) starts at the current step (plus horizon.latency); `predicted` (B, T, A) is
    the whole chunk, whose first entry belongs to the first observation of the history.
    """

    action: Tensor
    predicted: Tensor


@runtime_checkable
class Policy(Protocol):
    """Everything the trainer, the rollouts and the robot need of a method."""

    spec: Spec

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit data statistics, once, before training."""

    def loss(self, batch: Batch) -> Tensor:
        """Training loss of a raw batch, a scalar."""

    def act(self, obs: Mapping[str, Tensor], noise: Tensor | None = None, generator: Generators = None) -> ActionChunk:
        """Actions for raw observations {key: (B, To, *shape)}."""


@runtime_checkable
class Penalised(Protocol):
    """An encoder or denoiser that is not quite equivariant, and measures by how much."""

    penalty: float
    """Factor of the measured asymmetry in the training loss."""

    def with_penalty(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """The output, and its asymmetry, a scalar >= 0."""


class DiffusionPolicy(nn.Module):
    """Diffusion policy whose fields, encoder and denoiser carry the symmetry.

    The parts are factories (Hydra: `_partial_: true`): `encoder(spec, symmetry)` has `channels`,
    `denoiser(spec, symmetry, condition_channels)`, `normalizer(spec)`. With `Symmetry(1)` every part
    becomes its plain counterpart. `metrics` are numbers of the last loss beside it: "symmetry_penalty" if an encoder
    or denoiser is Penalised.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        encoder: Callable[..., Any],
        denoiser: Callable[..., Any],
        diffusion: Diffusion,
        normalizer: Callable[..., Normalizer] = Normalizer,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.symmetry, self.diffusion, self.augment = spec, symmetry, diffusion, augment
        self.metrics: dict[str, Tensor] = {}
        self.normalizer = normalizer(spec=spec)
        self.encoder = encoder(spec=spec, symmetry=symmetry)
        if augment is not None:
            augment.check(spec, self.encoder)
        self.denoiser = denoiser(spec=spec, symmetry=symmetry, condition_channels=self.encoder.channels)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(T, E): shape of the noise of one sample."""
        return (self.spec.horizon.predict, self.spec.action.irreps.size)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the normaliser on raw batches."""
        self.normalizer.fit(batches)

    def loss(self, batch: Batch) -> Tensor:
        """Diffusion loss of a raw batch; a scalar. The data set checks batches against the spec, once."""
        # never in the half precision of a trainer's autocast: it would round poses to millimetres
        with torch.autocast(batch["action"].device.type, enabled=False):
            observation, arrays = self._decode(batch["obs"])
            action = self.spec.decode_action(batch["action"], batch["obs"])
            if self.augment is not None and self.training:
                observation, arrays, action = self.augment(self.spec, observation, arrays, action)
            observation, clean = self.normalizer.observation(observation), self.normalizer.action(action)
        penalties: list[tuple[float, Tensor]] = []
        condition = self._apply_part(self.encoder, penalties, observation, arrays)
        loss = self.diffusion.loss(
            lambda noisy, step: self._apply_part(self.denoiser, penalties, noisy, step, condition), clean
        )
        if not penalties:
            return loss
        self.metrics["symmetry_penalty"] = torch.stack([error.detach() for _, error in penalties]).sum()
        return loss + torch.stack([factor * error for factor, error in penalties]).sum()

    def _apply_part(self, part: nn.Module, penalties: list[tuple[float, Tensor]], *inputs: Any) -> Tensor:
        """What a part makes of its inputs; in training, what its asymmetry costs is added to `penalties`."""
        if not (self.training and isinstance(part, Penalised)):
            out: Tensor = part(*inputs)
            return out
        out, error = part.with_penalty(*inputs)
        penalties.append((part.penalty, error))
        return out

    @torch.no_grad()
    def act(
        self,
        obs: Mapping[str, Tensor],
        noise: Tensor | None = None,
        generator: Generators = None,
        step_noise: Tensor | None = None,
        overlap: Overlap | None = None,
    ) -> ActionChunk:
        """Sample a chunk for raw observations {key: (B, To, *shape)}; the input is not changed.

        Observations and noise are taken to the policy's device and precision; the chunk stays there.

        noise (B, *noise_shape): the starting noise, else drawn from `generator` (one, or one per sample).
        step_noise: see Diffusion.sample. overlap: actions under way that the chunk shall agree with (real-time
        chunking). Raises SpecError for observations that do not fit the spec and
        RuntimeError if the normaliser was never fitted.
        """
        self.spec.check_observation(obs)
        like = self.normalizer.observation_scale
        obs = {key: _to(obs[key], like) for key in self.spec.observation.keys}
        if not bool(self.normalizer.fitted):
            raise RuntimeError("DiffusionPolicy.act: the normaliser is not fitted; call fit() or load a checkpoint")
        observation, arrays = self._decode(obs)
        condition = self.encoder(self.normalizer.observation(observation), arrays)
        if noise is None:
            noise = draw((condition.shape[0], *self.noise_shape), generator, like=condition)
        elif tuple(noise.shape) != (condition.shape[0], *self.noise_shape):
            raise ValueError(
                f"noise: expected (B, T, E) = {(condition.shape[0], *self.noise_shape)}, got {tuple(noise.shape)}"
            )
        if step_noise is not None and tuple(step_noise.shape[1:]) != tuple(noise.shape):
            raise ValueError(f"step_noise: expected (steps, *{tuple(noise.shape)}), got {tuple(step_noise.shape)}")
        chunk = self.diffusion.sample(
            lambda noisy, step: self.denoiser(noisy, step, condition),
            noise.to(like),
            irreps=self.spec.action.irreps,
            bound=self.normalizer.bound,
            entries=self.spec.action.entries,
            generator=generator,
            step_noise=None if step_noise is None else step_noise.to(like),
            guide=None if overlap is None else self._guide(overlap, obs, like),
        )
        predicted = self.spec.encode_action(self.normalizer.invert_action(chunk), obs)
        return ActionChunk(predicted[:, self.spec.horizon.executed], predicted)

    def _guide(self, overlap: Overlap, obs: Mapping[str, Tensor], like: Tensor) -> Guide:
        """The overlap as the sampler sees it. ValueError unless it has the shape of a chunk of this batch."""
        steps, width = self.spec.horizon.predict, self.spec.action_size
        batch = next(iter(obs.values())).shape[0]
        if tuple(overlap.actions.shape) != (batch, steps, width) or tuple(overlap.weights.shape) != (steps,):
            raise ValueError(
                f"overlap: expected actions (B, T, A) = {(batch, steps, width)} and weights (T,) = {(steps,)}, got "
                f"{tuple(overlap.actions.shape)} and {tuple(overlap.weights.shape)}"
            )
        target = self.normalizer.action(self.spec.decode_action(overlap.actions.to(like), obs))
        return Guide(target, overlap.weights.to(like), overlap.cap)

    def _decode(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Vector features (B, To, D) and {name: (B, To, *features)} of pictures, grids and clouds."""
        like, space = self.normalizer.observation_scale, self.spec.observation
        arrays = {name: features.to(like) for name, features in space.decode_arrays(obs).items()}
        return space.decode(obs).to(like), arrays


def _to(stored: Tensor, like: Tensor) -> Tensor:
    """To the policy's device; its precision too, unless the array is stored as whole numbers."""
    return stored.to(like) if stored.is_floating_point() else stored.to(like.device)
