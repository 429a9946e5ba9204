"""The checkers find what is broken: each test hands them a field or a layer with one fault."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from equidiff.fields import Affine, Field, Moments, Position, Source
from equidiff.fields.base import _KINDS, Mode
from equidiff.nn import GroupLinear, Lift, Project
from equidiff.symmetry import Irreps, Symmetry
from equidiff.testing import assert_equivariant, check_field


@dataclass(frozen=True)
class Broken(Source):
    """A displacement with one fault at a time."""

    fault: str = "none"
    scaled: ClassVar[bool] = True

    @property
    def irreps(self) -> Irreps:
        return Irreps((0, 1)) if self.fault == "irreps" else Irreps((1, 0))

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        x = raw[self.key]
        if self.fault == "mutates":
            return x.mul_(2)
        if self.fault == "shape":
            return x[..., :2]
        return x * torch.tensor([1.0, 1, 0]).to(x) if self.fault == "forgets" else x

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        return features.flip(-1) if self.fault == "encode" else features

    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        if self.fault == "direction":
            return Irreps((1, 0)).rotate(stored, -angle)
        if self.fault == "composition":
            return Irreps((1, 0)).rotate(stored, torch.as_tensor(angle) ** 2)
        return Irreps((1, 0)).rotate(stored, angle)

    def fit(self, moments: Moments, mode: Mode = "gaussian") -> Affine:
        affine = super().fit(moments, mode)
        if self.fault == "fit":
            return Affine(moments.mean, affine.scale)
        return Affine(affine.offset, affine.scale * 0) if self.fault == "zero scale" else affine


@pytest.fixture(autouse=True)
def _forget_the_broken_kind() -> object:
    _KINDS["Broken"] = Broken
    yield
    del _KINDS["Broken"]


def test_a_sound_field_of_ones_own_passes() -> None:
    check_field(Broken("x"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("encode", "encode\\(decode\\(x\\)\\) is not x"),
        ("forgets", "encode\\(decode\\(x\\)\\) is not x"),
        ("direction", "decode\\(rotate\\(x\\)\\) is not rho decode\\(x\\) at 45.0 degrees: error"),
        ("irreps", "is not rho decode"),
        ("composition", "turns by 0.7 and 1.9 are not a turn by 2.6"),
        ("mutates", "changes its input 'x'"),
        ("shape", r"decode gives \(16, 2\), expected \(16, 3\), irreps 1x1\+1x0 say 3"),
        ("fit", "does not commute with 45.0 degrees"),
        ("zero scale", "not finite and > 0"),
    ],
)
def test_each_fault_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_field(Broken("x", fault=fault))


def test_json_that_loses_something_is_found() -> None:
    @dataclass(frozen=True)
    class Forgetful(Broken):
        def to_json(self) -> dict[str, object]:
            return {"kind": "Broken", "key": self.key}

    with pytest.raises(AssertionError, match="its JSON gives"):
        check_field(Forgetful("x"))
    del _KINDS["Forgetful"]


def test_own_samples_are_used() -> None:
    with pytest.raises(AssertionError, match="error nan"):
        check_field(Position("p"), {"p": torch.full((4, 3), torch.nan)})


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


def test_a_plain_layer_fails_with_angle_error_and_tolerance() -> None:
    vector = Irreps((1, 0))
    with pytest.raises(AssertionError, match=r"not equivariant at 90\.0 degrees: .* differ by .*, tolerance 1e-09 "):
        assert_equivariant(_Plain(), vector, vector, Symmetry(4))
    assert_equivariant(_Plain(), vector, vector, Symmetry(1))
    assert_equivariant(_Plain(), "invariant", "invariant", Symmetry(4), inputs=[torch.randn(2, 3)])


def test_the_module_is_not_changed() -> None:
    layer = Lift(Irreps((1, 0)), Symmetry(4), 2)
    kept = layer.weight.clone()
    assert_equivariant(layer)
    assert torch.equal(layer.weight, kept)
    assert layer.training
    assert layer.weight.dtype == torch.float32


def test_a_missing_bias_symmetry_is_found_although_biases_start_at_zero() -> None:
    class Biased(GroupLinear):
        def __init__(self) -> None:
            super().__init__(Symmetry(4), 2, 2)
            self.extra = nn.Parameter(torch.zeros(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.extra

    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(Biased())


def test_a_zero_output_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="nothing was tested"):
        assert_equivariant(torch.zeros_like, Irreps((1,)), Irreps((1,)), Symmetry(4))
    assert_equivariant(Project(Irreps((1, 0)), Symmetry(4), 2, zero=True))  # random parameters are used


def test_wrong_use() -> None:
    with pytest.raises(TypeError, match="pass in_irreps, out_irreps and symmetry"):
        assert_equivariant(_Plain())
    with pytest.raises(TypeError, match=r"pass inputs=\[...\]"):
        assert_equivariant(lambda x: x, "regular", "regular", Symmetry(4))
    with pytest.raises(ValueError, match="regular features of C_4 cannot turn by 45 degrees"):
        assert_equivariant(Lift(Irreps((1,)), Symmetry(4), 2), angles=[math.pi / 4])


def test_fields_are_values() -> None:
    field: Field = Position("p")
    with pytest.raises(AttributeError):
        field.key = "q"  # type: ignore[misc]
    assert {field: 1}[Position("p")] == 1
