"""The three linear layers of the published policies, expanded by escnn to matrices and read off into ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from equidiff.denoisers import FibrewiseUNet
from equidiff.encoders import ObservationEncoder
from equidiff.published.order import ActionOrder, PublishedError
from equidiff.published.state import State
from equidiff.symmetry import Symmetry

__all__ = ["load_fusion", "load_lift", "load_projection"]

_TOLERANCE = 1e-4  # relative, between what escnn expands and what our layer makes of it, in float32


def load_fusion(given: State, encoder: ObservationEncoder, order: Tensor) -> None:
    """enc.enc_out: (scene, wrist, vectors) -> regular features. order: their vectors = order @ ours."""
    fuse, flat, lift = encoder.fuse, encoder.fuse_invariant, encoder.lift
    assert fuse is not None
    assert flat is not None
    assert lift is not None
    n, channels, inputs, invariant = encoder.symmetry.order, encoder.channels, fuse.inputs, flat.in_features
    laws = ["regular"] * inputs + [0] * invariant + [1] * 4 + [0] * 3
    matrix, bias = _expanded(given, "enc.enc_out", encoder.symmetry, laws, ["regular"] * channels)
    vectors = matrix[:, inputs * n + invariant :] @ order
    first = matrix.view(channels, n, -1)[:, 0]  # what reaches the copy of the unturned scene
    with torch.no_grad():
        fuse.weight.copy_(first[:, : inputs * n].view(channels, inputs, n).permute(2, 0, 1))
        fuse.bias.copy_(bias.view(channels, n)[:, 0])
        flat.weight.copy_(first[:, inputs * n : inputs * n + invariant])
        lift.weight.copy_(vectors.view(channels, n, -1)[:, 0])
        if flat.bias is not None or lift.bias is not None:
            raise AssertionError("the bias belongs to the mixing layer")

    def ours(x: Tensor) -> Tensor:
        scene, wrist, vector = x.split([inputs * n, invariant, order.shape[1]], -1)
        mixed = fuse(scene.view(-1, inputs, n).transpose(1, 2)) + flat(wrist)[:, None] + lift(vector)
        out: Tensor = mixed.transpose(1, 2).flatten(1)
        return out

    _check("enc.enc_out", ours, torch.cat([matrix[:, : inputs * n + invariant], vectors], -1), bias)


def load_lift(given: State, denoiser: FibrewiseUNet, order: ActionOrder) -> None:
    """diff.enc_a.0: noisy action -> regular features."""
    lift, symmetry = denoiser.lift, denoiser.symmetry
    laws = _action_laws(order)
    matrix, bias = _expanded(given, "diff.enc_a.0", symmetry, laws, ["regular"] * lift.channels)
    matrix = matrix @ order.layers
    assert lift.bias is not None
    with torch.no_grad():
        lift.weight.copy_(matrix.view(lift.channels, symmetry.order, -1)[:, 0])
        lift.bias.copy_(bias.view(lift.channels, symmetry.order)[:, 0])
    _check("diff.enc_a.0", lambda x: lift(x).transpose(1, 2).flatten(1), matrix, bias)


def load_projection(given: State, denoiser: FibrewiseUNet, order: ActionOrder) -> None:
    """diff.out_layer: regular features -> action."""
    project, symmetry = denoiser.project, denoiser.symmetry
    n, back = symmetry.order, order.back
    laws = _action_laws(order)
    matrix, bias = _expanded(given, "diff.out_layer", symmetry, ["regular"] * project.channels, laws)
    matrix, bias = back @ matrix, back @ bias
    with torch.no_grad():
        project.weight.copy_(matrix.view(-1, project.channels, n)[..., 0] * n**0.5)
        project.bias.copy_(bias[project.free.cpu()])
    _check("diff.out_layer", lambda x: project(x.view(-1, project.channels, n).transpose(1, 2)), matrix, bias)


def _action_laws(order: ActionOrder) -> list[int]:
    return [2, 1, 1, 1, 0, 0, 0, 0, 0] if order.relative else [1, 1, 1, 1, 0, 0]


def _expanded(
    given: State, name: str, symmetry: Symmetry, inputs: Sequence[int | str], outputs: Sequence[int | str]
) -> tuple[Tensor, Tensor]:
    """Matrix (outputs, inputs) and bias of an escnn Linear, float64. Laws: "regular" or the frequency of an irrep."""
    space = symmetry.gspace
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        from escnn.nn import FieldType, Linear

        kinds: dict[int | str, Any] = {"regular": space.regular_repr, 0: space.trivial_repr}
        for law in {*inputs, *outputs} - set(kinds):
            kinds[law] = space.irrep(law)
            if kinds[law].size != 2:
                raise PublishedError(f"symmetry.order={symmetry.order} is too small for this policy; the paper uses 8")
        types = [FieldType(space, [kinds[law] for law in laws]) for laws in (inputs, outputs)]
        layer = Linear(*types, initialize=False)
        for part in ("weights", "bias"):
            parameter = getattr(layer, part)
            given.copy(f"{name}.{part}", parameter)
        with torch.no_grad():
            matrix, bias = layer.expand_parameters()  # in float32: escnn shares its buffers between layers
    return matrix.detach().double(), bias.detach().double()


def _check(name: str, ours: Callable[[Tensor], Tensor], matrix: Tensor, bias: Tensor) -> None:
    """Our layer must be the function that escnn's weights stand for."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, matrix.shape[1], generator=generator, dtype=torch.float64)
    want = x @ matrix.T + bias
    with torch.no_grad():
        got = ours(x.float()).double()
    error = float((got - want).abs().max()) / (1e-12 + float(want.abs().max()))
    if not error <= _TOLERANCE:
        raise PublishedError(
            f"state_dict: the layer {name!r} is not the map that escnn's weights describe here (relative difference "
            f"{error:.2g}); the state is of another version of the published code or of escnn"
        )
