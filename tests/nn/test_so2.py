"""Layers on continuous SO(2) features: the whole space of equivariant maps, exact at any angle."""

import math

import pytest
import torch

from equidiff.nn import Sampling, SO2Activation, SO2Linear, SO2Norm, band
from equidiff.symmetry import Irreps, Symmetry
from equidiff.testing import assert_equivariant

ANGLES = [math.pi / 4, math.pi / 2, 0.1234, -2.7]
ANY = Symmetry(8)  # names no angle of the tests


def _check(module: torch.nn.Module, inputs: Irreps, outputs: Irreps, **more: object) -> None:
    assert_equivariant(module, inputs, outputs, ANY, angles=ANGLES, samples=5, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (Irreps((1, 0, 3, 1)), band(3, 4)),
        (band(2, 3), band(2, 5)),
        (band(3, 2), Irreps((2, 0, 0, 1, 2))),
        (Irreps((1, 1)), Irreps((0, 1, 2))),
    ],
)
def test_linear(inputs: Irreps, outputs: Irreps) -> None:
    _check(SO2Linear(inputs, outputs), inputs, outputs)
    _check(SO2Linear(inputs, outputs).float(), inputs, outputs, dtype=torch.float32)


def test_linear_has_all_equivariant_maps_and_no_other() -> None:
    """The commutant at an angle that generates a dense subgroup: M with M rho(a) = rho(a) M."""
    inputs, outputs = Irreps((0, 1, 1, 2, 0)), Irreps((1, 0, 2, 3))
    a, b = inputs.matrix(1.0), outputs.matrix(1.0)
    here, there = torch.eye(inputs.size).double(), torch.eye(outputs.size).double()
    system = torch.kron(there, a.T.contiguous()) - torch.kron(b, here)
    dimension = int((torch.linalg.svdvals(system) < 1e-9).sum())
    layer = SO2Linear(inputs, outputs, bias=False)
    assert sum(w.numel() for w in layer.weights) == dimension
    x = torch.randn(7, inputs.size)
    assert torch.equal(layer(x)[:, -2:], torch.zeros(7, 2))  # frequency 3 has no input


def test_zero_start_and_norm() -> None:
    features = band(3, 4)
    assert not SO2Linear(features, Irreps((1, 0)), zero=True)(torch.randn(2, features.size)).any()
    _check(SO2Norm(3, 4), features, features)
    out = SO2Norm(3, 4)(5 * torch.randn(3, features.size))
    torch.testing.assert_close(out.square().mean(-1), torch.ones(3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("frequencies", [1, 3, 4])
def test_the_product_is_exact_at_any_angle(frequencies: int) -> None:
    module = SO2Activation(frequencies, 5)
    _check(module, band(frequencies, module.inputs), band(frequencies, 5))


def test_the_product_mixes_frequencies() -> None:
    """cos t times cos 2t is half of cos t and half of cos 3t."""
    module = SO2Activation(3, 1).double()
    u, v = torch.zeros(7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    u[1], v[3] = 1, 1
    got = module(torch.cat([u, v]))
    unit = 2 * math.sqrt(3.5)  # (u + u*v / sqrt(K + 1/2)) * sigmoid(0)
    want = torch.zeros(7, dtype=torch.float64)
    want[1], want[5] = 0.5 + math.sqrt(0.5) / unit, math.sqrt(0.5) / unit
    torch.testing.assert_close(got, want)


def test_the_fourier_nonlinearity_is_exact_at_its_samples_and_nearly_between() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, band(3, 4).size, dtype=torch.float64)
    errors = []
    for samples in (7, 14, 28):
        module = SO2Activation(3, 4, "fourier", samples).double()
        irreps = band(3, 4)
        step = 2 * math.pi / samples
        torch.testing.assert_close(module(irreps.rotate(x, step)), irreps.rotate(module(x), step))
        difference = module(irreps.rotate(x, step / 2)) - irreps.rotate(module(x), step / 2)
        errors.append(float(difference.abs().max()))
    assert errors[0] > 1e-2
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_regular_features_are_samples() -> None:
    """Rolling the samples turns the coefficients; the frequency N/2 turns by the group's angles only."""
    for order, frequencies in ((8, 3), (8, 4), (5, 2), (16, 7)):
        sampling = Sampling(frequencies, order).double()
        values = torch.randn(6, order, dtype=torch.float64)
        irreps = band(frequencies, 1)
        for n, angle in enumerate(Symmetry(order).angles):
            turned = sampling.coefficients(values.roll(n, -1))
            torch.testing.assert_close(turned, irreps.rotate(sampling.coefficients(values), angle))
        if 2 * frequencies < order:
            functions = torch.randn(6, irreps.size, dtype=torch.float64)
            torch.testing.assert_close(sampling.coefficients(sampling.values(functions)), functions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "relu"}, "expected 'product' .* or 'fourier'"),
        ({"samples": 9}, "product with frequencies up to 3 needs at least 10, got 9"),
        ({"kind": "fourier", "samples": 6}, "fourier .* needs at least 7, got 6"),
    ],
)
def test_bad_settings(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SO2Activation(3, 4, **arguments)  # type: ignore[arg-type]
