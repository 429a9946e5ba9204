"""Makes any encoder equivariant: it sees the observation turned by each of the N rotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.encoders.observation import ObservationEncoder
from equidiff.encoders.soft import SoftObservationEncoder
from equidiff.fields import ArrayField
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["FrameAveraged"]


class FrameAveraged(nn.Module):
    """An ordinary encoder, shared by the N turned observations -> regular features (B, To, N, channels).

    encoder: factory of an encoder of one picture, grid or cloud, or of the vectors, e.g. a pretrained WristImageEncoder
    of a scene's camera; or of any network (B, *features) -> (B, channels) that knows nothing of specs, e.g. one of
    torchvision's, with `key`, the array that it reads. channels: of such a network, if it is to be checked.

    Entry n is encoder(g_n^-1 x), so that turning x moves the entries (frame averaging, Puny et al. 2022, arXiv
    2110.03336, with all of C_N as the frame). Exact for points and vectors at all N angles and for pictures and grids
    at quarter turns, in between up to interpolation. An encoder with random crops or dropout is equivariant on average
    in training; batch statistics are those of the N copies together.

    mean: the average over the N entries, invariant features (B, To, channels). Time and memory of activations: N times
    those of the encoder; parameters: the same. Raises ValueError for what it cannot turn or read, when built.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        encoder: Callable[..., nn.Module],
        mean: bool = False,
        key: str | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.symmetry, self.invariant = spec, symmetry, mean
        if isinstance(encoder, nn.Module):
            raise ValueError(
                f"FrameAveraged.encoder: expected a factory, got a built {type(encoder).__name__}; in a config, set "
                "_partial_: true beside its _target_"
            )
        kind = getattr(encoder, "func", encoder)  # of a partial
        if isinstance(kind, type) and issubclass(kind, ObservationEncoder | SoftObservationEncoder):
            raise ValueError(
                f"FrameAveraged.encoder: {kind.__name__} is of all observations together; put FrameAveraged round each "
                "entry of encoder.encoders instead"
            )
        self.plain = "spec" not in inspect.signature(encoder).parameters
        self.encoder = encoder() if self.plain else encoder(spec=spec, symmetry=Symmetry(1))
        self.field: ArrayField | None = None
        found = self._key(key)
        if found is not None:
            self.key = found
            self.field = spec.observation.arrays[found]
            if getattr(self.field, "view", "scene") == "body":
                raise ValueError(
                    f"FrameAveraged: {found!r} is a camera on the gripper, whose picture does not turn; use "
                    f"{type(self.encoder).__name__} without it"
                )
        elif not spec.observation.irreps.size:
            raise ValueError("FrameAveraged: there are no vectors among the observations; drop it")
        known = channels if self.plain else int(self.encoder.channels)  # type: ignore[arg-type]
        if channels not in (None, known):
            raise ValueError(
                f"FrameAveraged.channels: {type(self.encoder).__name__} has {known}, got {channels}; leave it out"
            )
        # an encoder of ours says itself what it takes
        self.channels = int(self.encoder.channels) if isinstance(self.encoder, ArrayEncoder) else self._tried(known)

    def forward(self, x: Tensor) -> Tensor:
        """Decoded array (B, To, *features), or normalised vector features (B, To, D) if the encoder has no key."""
        irreps = self.spec.observation.irreps
        turn = irreps.rotate if self.field is None else self.field.turn
        turned = torch.cat([turn(x, -angle) for angle in self.symmetry.angles])
        frames = self._encoded(turned).unflatten(0, (self.symmetry.order, -1))
        return frames.mean(0) if self.invariant else frames.movedim(0, -2)

    def _encoded(self, x: Tensor) -> Tensor:
        """(B, To, *shape) -> (B, To, channels)."""
        encoded: Tensor
        if self.plain:
            encoded = self.encoder(x.flatten(0, 1))
            return encoded.unflatten(0, x.shape[:2])
        encoded = self.encoder(x)
        return encoded.squeeze(-2) if encoded.ndim == 4 else encoded  # regular features of the trivial group

    def _key(self, key: str | None) -> str | None:
        """Name of the array that the encoder reads, None for one of vectors."""
        name = type(self.encoder).__name__
        have = ", ".join(self.spec.observation.arrays) or "none"
        if self.plain:
            if key not in self.spec.observation.arrays:
                raise ValueError(
                    f"FrameAveraged.key: {name} knows no spec, so name the picture, grid or cloud that it reads, got "
                    f"{key!r}; there are: {have}"
                )
            return key
        own = getattr(self.encoder, "key", None)
        if key is not None and key != own:
            raise ValueError(f"FrameAveraged.key: {name} reads {own!r}, got {key!r}; set the key there")
        if not hasattr(self.encoder, "channels"):
            raise ValueError(f"FrameAveraged.encoder: {name} has no attribute `channels`, the size of its features")
        return None if own is None else str(own)

    def _tried(self, channels: int | None) -> int:
        """The size of the features, found out with an input of zeros."""
        name, space = type(self.encoder).__name__, self.spec.observation
        shape = (space.irreps.size,) if self.field is None else self.field.features
        example = torch.zeros(1, self.spec.horizon.obs, *shape)
        training = self.encoder.training
        try:
            with torch.no_grad():
                made = self.encoder.eval()(example.flatten(0, 1) if self.plain else example)
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(
                f"FrameAveraged.encoder: {name} does not take {self.key if self.field else 'the vectors'} of shape "
                f"{tuple(shape)} ({type(error).__name__}: {error}); wrap one that does"
            ) from error
        finally:
            self.encoder.train(training)
        steps = (self.spec.horizon.obs,) if self.plain else (1, self.spec.horizon.obs)
        size = made.shape[-1] if isinstance(made, Tensor) and made.ndim else 0
        wanted = [(*steps, channels or size)] + ([] if self.plain else [(*steps, 1, channels or size)])
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        if got not in wanted:
            raise ValueError(
                f"FrameAveraged.encoder: {name} gives {got}, expected {wanted[0]} = "
                f"({'pictures' if self.plain else 'batch, steps'}, channels); add a layer that flattens to that"
            )
        return int(size)
