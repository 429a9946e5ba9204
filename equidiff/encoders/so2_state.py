"""Encoder of everything that is a vector, equivariant at any angle."""

from __future__ import annotations

from torch import Tensor, nn

from equidiff.nn import Nonlinearity, Sampling, SO2Activation, SO2Linear, band, check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SO2StateEncoder"]


class SO2StateEncoder(nn.Module):
    """Normalised observation features (B, To, D) -> functions on the circle, by their N values (B, To, N, channels).

    The values are regular features of C_N like those of every encoder, but the functions have frequencies up to
    `frequencies` < N/2, so that the values determine them and they turn by any angle. That stays true through linear
    layers (ObservationEncoder with activation="none"). 1 + `layers` layers; nonlinearity: see SO2Activation.
    """

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        channels: int = 32,
        frequencies: int = 4,
        layers: int = 0,
        nonlinearity: Nonlinearity = "product",
        samples: int | None = None,
    ) -> None:
        super().__init__()
        check_counts("SO2StateEncoder", channels=channels)
        check_counts("SO2StateEncoder", least=0, layers=layers)
        irreps = spec.observation.irreps
        if not irreps.size:
            raise ValueError("SO2StateEncoder: there are no vectors among the observations; drop it")
        highest = max(max(irreps.frequencies), 1)
        if frequencies < highest:
            raise ValueError(
                f"SO2StateEncoder.frequencies: the observations have blocks of frequency {highest}, which would be "
                f"lost; set it to {highest} or more, got {frequencies}"
            )
        if symmetry.order < 2 * frequencies + 1:
            raise ValueError(
                f"SO2StateEncoder: {symmetry.order} values do not determine a function of frequencies up to "
                f"{frequencies}; set symmetry.order to {2 * frequencies + 1} or more, e.g. symmetry=c16"
            )
        self.spec, self.symmetry, self.channels, self.frequencies = spec, symmetry, channels, frequencies
        widths = [irreps, *(band(frequencies, channels) for _ in range(layers))]
        parts: list[nn.Module] = []
        for before in widths:
            activation = SO2Activation(frequencies, channels, nonlinearity, samples)
            parts += [SO2Linear(before, band(frequencies, activation.inputs)), activation]
        self.layers = nn.Sequential(*parts)
        self.sampling = Sampling(frequencies, symmetry.order)

    def forward(self, features: Tensor) -> Tensor:
        functions = self.layers(features).unflatten(-1, (self.channels, -1))
        return self.sampling.values(functions).transpose(-1, -2)
