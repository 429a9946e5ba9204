"""Plain twins with matched parameters."""

import pytest
from law_toys import config
from torch import nn

from equidiff.compose import make_spec
from equidiff.denoisers import FibrewiseUNet, GroupMLP
from equidiff.matching import count_parameters, match_width
from equidiff.symmetry import Symmetry


@pytest.mark.parametrize("order", [4, 8])
def test_group_mlp_has_a_plain_twin(order: int) -> None:
    spec = make_spec(config())

    def build(channels: int, symmetry: Symmetry = Symmetry(1)) -> GroupMLP:  # noqa: B008
        return GroupMLP(spec, symmetry, condition_channels=channels, channels=channels)

    target = count_parameters(build(16, Symmetry(order)))
    width = match_width(build, target)
    error = abs(count_parameters(build(width)) - target)
    assert error <= abs(count_parameters(build(width - 1)) - target)
    assert error <= abs(count_parameters(build(width + 1)) - target)
    assert error < 0.05 * target
    assert 16 < width < 16 * order  # fewer than the same compute, more than the same channels


def test_fibrewise_unet_has_a_plain_twin() -> None:
    spec = make_spec(config())

    def build(width: int, symmetry: Symmetry = Symmetry(1)) -> FibrewiseUNet:  # noqa: B008
        return FibrewiseUNet(
            spec, symmetry, 16, action_channels=16, widths=(width, 2 * width), groups=4, step_embedding=16
        )

    target = count_parameters(build(16, Symmetry(8)))
    width = match_width(build, target, multiple=4)
    assert width % 4 == 0
    # the U-Net is shared by the fibres, so the plain one is as wide: only the two linear maps differ
    assert width == 16
    assert abs(count_parameters(build(width)) - target) < 0.01 * target


def test_ends_of_the_range() -> None:
    def build(width: int) -> nn.Module:
        return nn.Linear(width, 10, bias=False)

    assert match_width(build, 1) == 1
    assert match_width(build, 1004) == 100
    assert match_width(build, 1006) == 101
    assert match_width(build, 1004, multiple=8) == 104
    with pytest.raises(ValueError, match="width 64 has fewer than 1000 parameters; raise largest"):
        match_width(build, 1000, largest=64)
    with pytest.raises(ValueError, match=">= 1"):
        match_width(build, 0)
