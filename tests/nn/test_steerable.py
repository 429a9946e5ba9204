"""Steerable convolutions: escnn's function, escnn's initialisation, exact quarter turns, no stale filters."""

import math
import warnings

import pytest
import torch
from torch import nn

from equidiff.nn import Crop, Pool, SteerableConv, final_size
from equidiff.nn.geometry import Conv
from equidiff.nn.steerable import kernel_basis
from equidiff.symmetry import Symmetry

CASES = [(n, dims, k, scalars) for n in (2, 3, 4, 5, 8) for dims, k in ((2, 3), (2, 5), (3, 3)) for scalars in (0, 1)]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("order", "dims", "kernel", "scalars"), CASES)
def test_it_is_the_function_of_escnn(order: int, dims: int, kernel: int, scalars: int) -> None:
    from escnn import gspaces
    from escnn import nn as en

    torch.manual_seed(0)
    space = gspaces.rot2dOnR2(order) if dims == 2 else gspaces.rot2dOnR3(order)
    inside = en.FieldType(space, [space.trivial_repr if scalars else space.regular_repr] * 3)
    outside = en.FieldType(space, [space.regular_repr] * 2)
    theirs = (en.R2Conv if dims == 2 else en.R3Conv)(inside, outside, kernel_size=kernel, padding=kernel // 2)
    ours = SteerableConv(Symmetry(order), 3, 2, kernel, dims=dims, padding=kernel // 2, scalars=bool(scalars))
    assert ours.weight.numel() == theirs.weights.numel()
    with torch.no_grad():
        theirs.bias.normal_()
        ours.weight.copy_(theirs.weights.view_as(ours.weight))
        ours.bias.copy_(theirs.bias / math.sqrt(order))
    x = torch.randn(2, inside.size, *(6,) * dims)
    want = theirs(en.GeometricTensor(x, inside)).tensor
    torch.testing.assert_close(ours(x), want, rtol=0, atol=2e-6 * float(want.abs().max()))
    spread = en.init._generalized_he_init_variances(theirs.basisexpansion).view_as(ours.weight)
    _, mine = kernel_basis(order, kernel, dims, bool(scalars))
    torch.testing.assert_close(spread, (mine / math.sqrt(3)).expand_as(spread))


@pytest.mark.parametrize("order", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("dims", [2, 3])
def test_quarter_turns_are_exact_in_double_precision(order: int, dims: int) -> None:
    torch.manual_seed(0)
    lift = SteerableConv(Symmetry(order), 2, 3, 3, dims=dims, scalars=True).double()
    conv = SteerableConv(Symmetry(order), 3, 2, 3, dims=dims, padding=1).double()
    x = torch.randn(2, 2, *(7,) * dims, dtype=torch.float64)
    turns = math.gcd(order, 4)
    want = torch.rot90(conv(lift(x)), 4 // turns, (-2, -1)).unflatten(1, (2, order)).roll(order // turns, 2)
    got = conv(lift(torch.rot90(x, 4 // turns, (-2, -1)))).unflatten(1, (2, order))
    if order > 1:
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert conv.basis.dtype == torch.float64
    assert float(want.abs().max()) > 0.1


def test_eighth_turns_are_as_good_as_a_grid_allows() -> None:
    """A smooth picture, turned by 45 degrees: within a few percent of the size of the output."""
    torch.manual_seed(0)
    from equidiff.fields.grids import turn_picture

    conv = SteerableConv(Symmetry(8), 1, 4, 5, scalars=True).double()
    rows = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    picture = torch.exp(-((x - 0.6) ** 2 + (y + 0.3) ** 2) / 0.3)[None, None]
    before = conv(picture)
    want = turn_picture(before.unflatten(1, (4, 8)).roll(1, 2).flatten(1, 2), math.pi / 4)
    error = (conv(turn_picture(picture, math.pi / 4)) - want)[..., 8:-8, 8:-8].abs().max() / before.abs().max()
    assert 1e-6 < error < 0.05


def test_a_checkpoint_holds_free_weights_only_and_nothing_goes_stale() -> None:
    conv = SteerableConv(Symmetry(4), 1, 2, 3)
    assert set(conv.state_dict()) == {"weight", "bias"}
    x = torch.randn(1, 4, 5, 5)
    conv.eval()
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(2)
        conv.bias.mul_(2)
    torch.testing.assert_close(conv(x), 2 * before)


def test_the_output_neither_grows_nor_dies_with_depth() -> None:
    torch.manual_seed(0)
    layers = [SteerableConv(Symmetry(8), 16, 16, 3, padding=1) for _ in range(6)]
    x = torch.randn(2, 128, 12, 12)
    out = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))(x)
    assert 0.01 < out.std() < 10


def test_sizes_that_break_the_symmetry_are_refused_with_those_that_work() -> None:
    layers = [Conv(5, 0), Pool(2), Pool(3)]
    assert final_size(28, layers, 7, "net") == 4
    with pytest.raises(ValueError, match=r"net: a side of 30 cells .* sizes that work near it: 22, 28, 34, 40"):
        final_size(30, layers, 7, "net")
    with pytest.raises(ValueError, match="too large for its layers"):
        final_size(64, layers, 7, "net")
    with pytest.raises(
        ValueError, match=r"leaves two cells for the last layer.*sizes that work near it: 10, 30, 40, 50"
    ):
        final_size(20, [Pool(10)], 7, "net")


def test_a_crop_keeps_the_middle() -> None:
    with pytest.raises(ValueError, match=r"crop=7 of 10 would move the middle.*use 6 or 8"):
        Crop(10, 7, 2, False, "net")
    x = torch.arange(100.0).view(1, 1, 10, 10)
    crop = Crop(10, 6, 2, True, "net").eval()
    assert torch.equal(crop(x), x[..., 2:8, 2:8])
    torch.manual_seed(0)
    crop.train()
    starts = {float(crop(x)[0, 0, 0, 0]) for _ in range(200)}
    assert len(starts) == 25
    assert max(starts) == 44
    with pytest.raises(ValueError, match=r"expected 2 \(pictures\) or 3 \(voxels\), got 1"):
        SteerableConv(Symmetry(4), 1, 1, 3, dims=1)
