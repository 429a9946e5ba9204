"""Geometry that a denoiser refuses, and what it depends on."""

from typing import Any

import pytest
import torch
from law_toys import config, make, randomise

from equidiff.compose import make_spec
from equidiff.denoisers import FibrewiseUNet, GroupMLP
from equidiff.symmetry import Symmetry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (8,) * 5}, r"horizon\.predict = 8 cannot be halved 4 times; use 16, or fewer widths"),
        ({"widths": (8, 16), "kernel": 4}, "kernel must be odd to keep the length, got 4"),
        ({"widths": (8, 12), "groups": 8}, "every width must be a multiple of groups = 8"),
    ],
)
def test_unet_refuses_bad_geometry_and_says_what_works(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FibrewiseUNet(make_spec(config()), Symmetry(4), 6, action_channels=8, **arguments)


@pytest.mark.parametrize("denoiser", ["group_mlp", "fibrewise_unet_small"])
@pytest.mark.parametrize("order", [1, 4])
def test_output_depends_on_every_input(denoiser: str, order: int) -> None:
    module = make(order, denoiser=denoiser).denoiser
    noisy = torch.randn(2, 8, module.spec.action.irreps.size, requires_grad=True)
    condition = torch.randn(2, 1, order, module.condition_channels, requires_grad=True)
    out = module(noisy, torch.tensor([3, 70]), condition)
    assert out.shape == noisy.shape
    out.square().sum().backward()
    assert noisy.grad is not None
    assert condition.grad is not None
    assert (noisy.grad.abs() > 0).all()
    assert (condition.grad.abs() > 0).all()
    with torch.no_grad():
        assert not torch.allclose(out, module(noisy, torch.tensor([4, 70]), condition))


def test_samples_do_not_mix() -> None:
    module = make(4, denoiser="fibrewise_unet_small").double().denoiser
    noisy = torch.randn(3, 8, module.spec.action.irreps.size, dtype=torch.float64)
    condition, step = torch.randn(3, 1, 4, 6, dtype=torch.float64), torch.tensor([1, 50, 99])
    with torch.no_grad():
        whole, one = module(noisy, step, condition), module(noisy[1:2], step[1:2], condition[1:2])
    torch.testing.assert_close(whole[1:2], one, rtol=0, atol=1e-10)


def test_group_mlp_starts_at_zero_and_drops_out_in_training_only() -> None:
    spec = make_spec(config())
    module = GroupMLP(spec, Symmetry(4), 6, channels=8, dropout=0.5)
    inputs = torch.randn(2, 8, spec.action.irreps.size), torch.tensor([1, 2]), torch.randn(2, 1, 4, 6)
    assert not module(*inputs).any()
    randomise(module)
    assert not torch.equal(module(*inputs), module(*inputs))
    module.eval()
    assert torch.equal(module(*inputs), module(*inputs))
