"""Makes any encoder equivariant: it sees the observation turned by each of the N rotations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equidiff.fields import ArrayField
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["FrameAveraged"]


class FrameAveraged(nn.Module):
    """An ordinary encoder, shared by the N turned observations -> regular features (B, To, N, channels).

    encoder: factory of an encoder without symmetry, e.g. a pretrained WristImageEncoder of a scene's camera. Entry n
    is encoder(g_n^-1 x), so that turning x moves the entries (frame averaging, Puny et al. 2022, arXiv 2110.03336, with
    all of C_N as the frame). Exact for points and vectors at all N angles and for pictures and grids at quarter turns,
    in between up to interpolation. An encoder with random crops or dropout is equivariant on average in training.

    mean: the average over the N entries, invariant features (B, To, channels). Time and memory of activations: N times
    those of the encoder; parameters: the same.
    """

    def __init__(self, spec: Spec, symmetry: Symmetry, encoder: Callable[..., nn.Module], mean: bool = False) -> None:
        super().__init__()
        self.spec, self.symmetry = spec, symmetry
        self.encoder = encoder(spec=spec, symmetry=Symmetry(1))
        self.channels = int(self.encoder.channels)  # type: ignore[arg-type]
        self.invariant = mean
        key = getattr(self.encoder, "key", None)
        self.field: ArrayField | None = None
        if key is not None:
            self.key = str(key)
            self.field = spec.observation.arrays[self.key]
            if getattr(self.field, "view", "scene") == "body":
                raise ValueError(
                    f"FrameAveraged: {self.key!r} is a camera on the gripper, whose picture does not turn; use "
                    f"{type(self.encoder).__name__} without it"
                )
        elif not spec.observation.irreps.size:
            raise ValueError("FrameAveraged: there are no vectors among the observations; drop it")

    def forward(self, x: Tensor) -> Tensor:
        """Decoded array (B, To, *features), or normalised vector features (B, To, D) if the encoder has no key."""
        irreps = self.spec.observation.irreps
        turn = irreps.rotate if self.field is None else self.field.turn
        turned = torch.cat([turn(x, -angle) for angle in self.symmetry.angles])
        encoded: Tensor = self.encoder(turned)
        if encoded.ndim == 4:  # regular features of the trivial group
            encoded = encoded.squeeze(-2)
        frames = encoded.unflatten(0, (self.symmetry.order, -1))
        return frames.mean(0) if self.invariant else frames.movedim(0, -2)
