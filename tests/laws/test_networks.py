"""Law 3: encoders and denoisers are equivariant at all N angles."""

import math

import pytest
import torch
from law_toys import ORDERS, config
from torch import nn

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.denoisers import Denoiser
from equidiff.testing import assert_equivariant

ENCODERS = {"lift": [], "deep": ["encoder.encoders.state.layers=2"], "history": ["obs.horizon=2"]}
DENOISERS = ("group_mlp", "fibrewise_unet_small")


def _parts(order: int, denoiser: str = "group_mlp", overrides: list[str] | None = None) -> tuple[nn.Module, Denoiser]:
    composed = config(order, overrides or [], denoiser=denoiser, action="absolute")
    policy = make_policy(policy_tree(composed), make_spec(composed))
    return policy.encoder, policy.denoiser


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoder(order: int, encoder: str) -> None:
    module, _ = _parts(order, overrides=ENCODERS[encoder])
    assert module.symmetry.order == order
    assert_equivariant(module)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize("history", [1, 2])
def test_denoiser(order: int, denoiser: str, history: int) -> None:
    _, module = _parts(order, denoiser, [f"obs.horizon={history}"])
    assert module.symmetry.order == order
    assert_equivariant(module)


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_float32_is_as_exact_as_it_can_be(denoiser: str) -> None:
    encoder, module = _parts(8, denoiser)
    assert_equivariant(encoder, dtype=torch.float32)
    assert_equivariant(module, dtype=torch.float32)


@pytest.mark.parametrize("order", [8, 16])
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_eighth_turns(order: int, denoiser: str) -> None:
    encoder, module = _parts(order, denoiser)
    assert_equivariant(encoder, angles=[math.pi / 4, -3 * math.pi / 4])
    assert_equivariant(module, angles=[math.pi / 4, -3 * math.pi / 4])


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_a_plain_network_is_not_equivariant(denoiser: str) -> None:
    """N = 1 is the plain twin: asked about quarter turns, with features that do not turn, it fails."""
    _, module = _parts(1, denoiser)
    irreps = module.spec.action.irreps
    inputs = [
        torch.randn(3, 8, irreps.size),
        torch.tensor([1, 50, 99]),
        torch.randn(3, 1, 1, module.condition_channels),
    ]
    with pytest.raises(AssertionError, match=r"not equivariant at 90\.0 degrees"):
        assert_equivariant(module, [irreps, "invariant", "invariant"], inputs=inputs, angles=[math.pi / 2])


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_angles_between_the_group_are_not_exact(denoiser: str) -> None:
    """C_4 knows quarter turns only: at 45 degrees no permutation of its features makes up for the turn."""
    _, module = _parts(4, denoiser)
    irreps = module.spec.action.irreps
    condition = torch.ones(3, 1, 4, module.condition_channels)  # the same for every element: turns into itself
    inputs = [torch.randn(3, 8, irreps.size), torch.tensor([1, 50, 99]), condition]
    laws = [irreps, "invariant", "invariant"]
    assert_equivariant(module, laws, inputs=inputs, angles=[math.pi / 2])
    with pytest.raises(AssertionError, match=r"not equivariant at 45\.0 degrees"):
        assert_equivariant(module, laws, inputs=inputs, angles=[math.pi / 4])
