"""Irreps as values, and the group C_N against escnn."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equidiff.symmetry import Irreps, Symmetry

frequencies = st.lists(st.integers(0, 6), min_size=1, max_size=8).map(tuple)


@given(frequencies, st.floats(-10, 10), st.floats(-10, 10))
def test_turns_compose_and_keep_lengths(freqs: tuple[int, ...], a: float, b: float) -> None:
    irreps = Irreps(freqs)
    x = torch.randn(3, irreps.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = irreps.rotate(irreps.rotate(x, a), b)
    torch.testing.assert_close(turned, irreps.rotate(x, a + b), rtol=0, atol=1e-9)
    torch.testing.assert_close(irreps.block_norms(turned), irreps.block_norms(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(irreps.rotate(x, a), x @ irreps.matrix(a).T, rtol=0, atol=1e-12)


@given(frequencies, st.integers(1, 16))
def test_matrices_are_escnns_representation(freqs: tuple[int, ...], order: int) -> None:
    """Aliased frequencies (k >= N/2) included."""
    irreps, symmetry = Irreps(freqs), Symmetry(order)
    representation = irreps.representation(symmetry)
    assert representation.size == irreps.size
    for n, element in enumerate(representation.group.elements):
        want = torch.as_tensor(representation(element), dtype=torch.float64)
        torch.testing.assert_close(irreps.matrix(symmetry.angles[n]), want, rtol=0, atol=1e-6)


@given(frequencies, st.integers(1, 16))
def test_trivial_entries_are_those_that_no_element_moves(freqs: tuple[int, ...], order: int) -> None:
    irreps = Irreps(freqs)
    mean = torch.stack([irreps.matrix(angle) for angle in Symmetry(order).angles]).mean(0)
    assert irreps.is_trivial(order) == tuple(bool(v > 0.5) for v in mean.diagonal())


def test_values() -> None:
    irreps = Irreps((1, 0, 2))
    assert (irreps.size, irreps.starts, irreps.block_of_entry) == (5, (0, 2, 3), (0, 0, 1, 2, 2))
    assert irreps == Irreps((1, 0)) + Irreps((2,))
    assert {irreps: 1}[Irreps((1, 0, 2))] == 1
    assert repr(Irreps(())) == "nothing"
    torch.testing.assert_close(
        irreps.per_entry(irreps.block_norms(torch.tensor([3.0, 4, -2, 0, 1]))), torch.tensor([5.0, 5, 2, 1, 1])
    )


def test_one_angle_for_each_sample() -> None:
    irreps, x = Irreps((1,)), torch.tensor([[1.0, 0], [1, 0]])
    turned = irreps.rotate(x, torch.tensor([0.0, math.pi / 2]))
    torch.testing.assert_close(turned, torch.tensor([[1.0, 0], [0, 1]]), rtol=0, atol=1e-6)


def test_tables_made_in_inference_mode_serve_training() -> None:
    irreps = Irreps((3, 0, 5, 0, 0, 1))  # not used elsewhere: the cache is empty
    with torch.inference_mode():
        irreps.rotate(torch.zeros(irreps.size), 0.3)
    x = torch.zeros(irreps.size, requires_grad=True)
    irreps.rotate(x, 0.3).sum().backward()
    assert x.grad is not None


def test_errors() -> None:
    with pytest.raises(ValueError, match="integers >= 0, got -1"):
        Irreps((1, -1))
    with pytest.raises(ValueError, match=r"integers >= 0, got 0\.5"):
        Irreps((0.5,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("last dimension must be 3 for 1x1+1x0, got (2, 4)")):
        Irreps((1, 0)).rotate(torch.zeros(2, 4), 0.1)
    with pytest.raises(ValueError, match="at most 100000 blocks"):
        Irreps((0,) * 10) * 10**9
    for order in (0, -1, 2.0, True, "8"):
        with pytest.raises(ValueError, match=r"Symmetry\.order: expected an integer >= 1"):
            Symmetry(order)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("(..., 8, C) for C_8, got (2, 4, 3)")):
        Symmetry(8).act(torch.zeros(2, 4, 3), 1)


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_regular_features_roll(order: int) -> None:
    symmetry = Symmetry(order)
    x = torch.arange(order * 2.0).view(order, 2)
    assert torch.equal(symmetry.act(x, order), x)
    assert torch.equal(symmetry.act(x, 1)[1 % order], x[0])
    assert symmetry.regular(3).size == 3 * order
    assert symmetry.vector(Irreps((1, 0))).size == 3
