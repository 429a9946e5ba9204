"""The layers span the whole space of equivariant maps, for every order and aliased frequency."""

import math

import pytest
import torch
from law_toys import ORDERS
from torch import nn

from equidiff.nn import GroupLayerNorm, GroupLinear, Lift, Project, StepEmbedding
from equidiff.symmetry import Irreps, Symmetry
from equidiff.testing import assert_equivariant

IRREPS = [Irreps((1, 0)), Irreps((0,) * 4), Irreps((1, 1, 1)), Irreps((2, 1, 1, 0, 0, 0)), Irreps((4, 0, 3, 8, 5))]


def _layers(irreps: Irreps, order: int) -> list[nn.Module]:
    symmetry = Symmetry(order)
    return [Lift(irreps, symmetry, 3), Project(irreps, symmetry, 3), GroupLinear(symmetry, 3, 2)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_layers_are_equivariant(irreps: Irreps, order: int) -> None:
    for layer in _layers(irreps, order):
        assert_equivariant(layer)
    assert_equivariant(GroupLayerNorm(Symmetry(order), 3))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_weights_and_biases_are_as_many_as_escnn_finds(irreps: Irreps, order: int) -> None:
    symmetry = Symmetry(order)
    vector, three, two = symmetry.vector(irreps), symmetry.regular(3), symmetry.regular(2)
    from escnn.nn import Linear  # after the lines above, which keep the remarks of its first import quiet

    pairs = [(vector, three), (three, vector), (three, two)]
    for layer, (inputs, outputs) in zip(_layers(irreps, order), pairs, strict=True):
        # escnn's own parameters: the coefficients of its basis and one bias per invariant direction
        reference = Linear(inputs, outputs, bias=True, initialize=False)
        assert layer.weight.numel() == reference.weights.numel()
        assert layer.bias.numel() == (0 if reference.bias is None else reference.bias.numel())


@pytest.mark.parametrize("order", ORDERS)
def test_weights_are_independent(order: int) -> None:
    """As many weights as the space has dimensions only help if different weights are different maps."""
    irreps, symmetry = Irreps((2, 1, 0)), Symmetry(order)
    for layer, shape in (
        (Lift(irreps, symmetry, 2), (irreps.size,)),
        (Project(irreps, symmetry, 2), (order, 2)),
        (GroupLinear(symmetry, 2, 2), (order, 2)),
    ):
        layer.double()
        nn.init.zeros_(layer.bias)
        basis = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)

        def matrix(weight: torch.Tensor, layer: nn.Module = layer, basis: torch.Tensor = basis) -> torch.Tensor:
            return torch.func.functional_call(layer, {"weight": weight}, (basis,)).flatten()

        jacobian = torch.func.jacrev(matrix)(layer.weight.detach()).flatten(1)
        assert torch.linalg.matrix_rank(jacobian) == layer.weight.numel()


def test_turns_stay_exact_when_a_module_changes_precision() -> None:
    """A float32 copy of the rotations, converted, would be equivariant to seven digits only."""
    for order in (5, 8, 16):
        for layer in _layers(Irreps((1, 0, 3)), order)[:2]:
            exact = layer.rho.clone().double()
            assert (layer.double().rho - exact).abs().max() < 1e-6
            assert (layer.rho[1] @ layer.rho[1].T - torch.eye(5).double()).abs().max() < 1e-15
            assert layer.float().rho.dtype == torch.float32


@pytest.mark.parametrize("order", [1, 2, 8])
def test_project_starts_at_zero_if_asked(order: int) -> None:
    layer = Project(Irreps((1, 0)), Symmetry(order), 4, zero=True)
    assert not layer(torch.randn(2, order, 4)).any()


@pytest.mark.parametrize("order", ORDERS)
def test_new_layers_keep_the_scale(order: int) -> None:
    """Unit input, unit output, whatever the order: the same learning rate suits all."""
    torch.manual_seed(0)
    symmetry, irreps = Symmetry(order), Irreps((1, 0) * 16)
    for layer, shape in (
        (Lift(irreps, symmetry, 64), (irreps.size,)),
        (GroupLinear(symmetry, 64, 64), (order, 64)),
        (Project(irreps, symmetry, 64), (order, 64)),
    ):
        out = layer(torch.randn(200, *shape))
        assert 0.7 < out.std() < 1.4


def test_layer_norm_is_torch_layer_norm_for_the_trivial_group() -> None:
    x = torch.randn(4, 1, 6)
    torch.testing.assert_close(GroupLayerNorm(Symmetry(1), 6)(x), nn.LayerNorm(6)(x))


def test_step_embedding_tells_steps_apart() -> None:
    embedded = StepEmbedding(32)(torch.arange(100))
    assert embedded.shape == (100, 32)
    assert torch.pdist(embedded).min() > 0.1
    with pytest.raises(ValueError, match="even number >= 4, got 5"):
        StepEmbedding(5)
