"""Strict and soft symmetry: what is strict stays exact, what is soft can break it, and the penalty is what it says."""

import math
from functools import partial

import pytest
import torch
from law_toys import config, make, random_batch
from torch import Tensor, nn

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.denoisers import FibrewiseUNet, GroupMLP, SoftEquivariant
from equidiff.encoders import ObservationEncoder, PointCloudEncoder, SceneImageEncoder, SoftObservationEncoder
from equidiff.fields import Displacement, Image, PointCloud, Position
from equidiff.policy import Penalised
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant

PLAIN = partial(GroupMLP, channels=24, blocks=1)


def _soft(order: int = 4, residual: partial = PLAIN, **arguments: float) -> SoftEquivariant:
    spec = make_spec(config())
    strict = partial(GroupMLP, channels=6, blocks=1)
    return SoftEquivariant(spec, Symmetry(order), 6, strict, residual, **arguments)


def _inputs(module: SoftEquivariant) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(5, 8, module.spec.action.irreps.size, generator=generator)
    condition = torch.randn(5, 1, module.symmetry.order, 6, generator=generator)
    return noisy, torch.tensor([1, 30, 50, 70, 99]), condition


def _random(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)


@pytest.mark.parametrize("order", [2, 4, 8])
def test_weight_zero_is_strict_and_exact(order: int) -> None:
    strict = _soft(order, weight=0.0)
    assert strict.residual is None
    assert_equivariant(strict)
    inputs = _inputs(strict)
    _random(strict)
    out, penalty = strict.with_penalty(*inputs)
    assert float(penalty) == 0
    assert torch.equal(out, strict.strict(*inputs))


@pytest.mark.parametrize("residual", [PLAIN, partial(FibrewiseUNet, widths=(8, 16), groups=4, action_channels=4)])
def test_soft_starts_strict_and_then_is_not(residual: partial) -> None:
    soft = _soft(residual=residual).double()
    _random(soft.strict)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in _inputs(soft))
    assert torch.equal(soft(*inputs), soft.strict(*inputs))
    loss = soft(*inputs).square().sum()
    loss.backward()
    assert soft.residual.project.weight.grad.abs().max() > 0  # it can leave the start
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(soft)  # with random parameters


@torch.no_grad()
def test_the_penalty_is_the_asymmetry_of_the_free_path() -> None:
    soft = _soft(weight=0.5).double()
    _random(soft)
    noisy, step, condition = (x.double() if x.is_floating_point() else x for x in _inputs(soft))
    irreps, quarter = soft.spec.action.irreps, math.pi / 2

    def free(noisy: Tensor, condition: Tensor) -> Tensor:
        return soft(noisy, step, condition) - soft.strict(noisy, step, condition)

    errors = []
    for n in (1, 2, 3):
        turned = free(irreps.rotate(noisy, n * quarter), condition.roll(n, -2))
        errors.append(float((turned - irreps.rotate(free(noisy, condition), n * quarter)).square().mean()))
        assert float(soft.asymmetry(noisy, step, condition, n)) == pytest.approx(errors[-1], rel=1e-6)
    assert min(errors) > 1e-6
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        out, penalty = soft.with_penalty(noisy, step, condition)
        torch.testing.assert_close(out, soft(noisy, step, condition))
        drawn.add(min(range(3), key=lambda i: abs(errors[i] - float(penalty))))
        assert min(abs(e - float(penalty)) for e in errors) < 1e-9
    assert drawn == {0, 1, 2}
    soft.strict, soft.residual = soft.residual, None  # nothing free: no penalty
    assert float(soft.asymmetry(noisy, step, condition, 1)) == 0


def test_a_symmetric_free_path_costs_nothing() -> None:
    soft = _soft().double()

    class Scale(nn.Module):
        def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
            return 3 * noisy

    soft.residual = Scale()  # type: ignore[assignment]
    noisy, step, condition = (x.double() if x.is_floating_point() else x for x in _inputs(soft))
    assert float(soft.asymmetry(noisy, step, condition, 1).detach()) < 1e-25


def _fitted(weight: float, penalty: float, steps: int = 100) -> tuple[float, float]:
    """Loss and penalty after fitting a target with a fixed direction, which no equivariant function has."""
    torch.manual_seed(0)
    module = _soft(weight=weight, penalty=penalty)
    noisy, step, condition = _inputs(module)
    target = torch.zeros_like(noisy)
    target[..., 0] = 1.0  # along +x, wherever the scene is turned to
    # all turned copies, so that the strict path cannot tell the direction from the sample
    angles = module.symmetry.angles
    noisy = torch.cat([module.spec.action.irreps.rotate(noisy, angle) for angle in angles])
    condition = torch.cat([module.symmetry.act(condition, n) for n in range(len(angles))])
    target, step = target.repeat(len(angles), 1, 1), step.repeat(len(angles))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(steps):
        out, asymmetry = module.with_penalty(noisy, step, condition)
        error = (out - target).square().mean()
        optimizer.zero_grad()
        (error + module.penalty * asymmetry).backward()
        optimizer.step()
    return float(error.detach()), float(asymmetry.detach())


def test_soft_fits_what_breaks_the_symmetry_and_strict_cannot() -> None:
    size = make_spec(config()).action.irreps.size
    strict, _ = _fitted(0.0, 0.0)
    soft, asymmetry = _fitted(1.0, 0.0)
    held, less = _fitted(1.0, 100.0)
    assert strict == pytest.approx(1 / size, rel=0.02)  # the mean over the group is zero: nothing is explained
    assert soft < 0.1 * strict
    assert asymmetry > 0.5 * 2 / size  # a turn by 180 degrees doubles the difference
    assert less < 0.1 * asymmetry  # a high price keeps it symmetric
    assert held > 2 * soft


def test_policies_pay_in_training_and_report_it() -> None:
    policy = make(4, denoiser="soft_group_mlp", encoder="soft_state")
    assert isinstance(policy.denoiser, Penalised)
    assert isinstance(policy.encoder, Penalised)
    batch = random_batch(policy.spec)

    def loss(factor: float, training: bool) -> float:
        policy.denoiser.penalty = policy.encoder.penalty = factor
        torch.manual_seed(0)
        return float(policy.train(training).loss(batch).detach())

    free, paid = loss(0.0, True), loss(2.0, True)
    penalty = float(policy.metrics["symmetry_penalty"])
    assert penalty > 1e-4
    assert paid == pytest.approx(free + 2 * penalty, rel=1e-5)
    policy.metrics.clear()
    loss(2.0, False)
    assert not policy.metrics


def test_strict_configs_are_the_strict_policy() -> None:
    few = ["denoiser.weight=0", "encoder.weight=0"]
    composed = config(8, few, denoiser="soft_group_mlp", encoder="soft_state")
    policy = make_policy(policy_tree(composed), make_spec(composed))
    assert_equivariant(policy.denoiser)
    assert_equivariant(policy.encoder)
    plain = config(8)
    count = sum(p.numel() for p in make_policy(policy_tree(plain), make_spec(plain)).parameters())
    assert sum(p.numel() for p in policy.parameters()) == count


def _observed(picture: bool) -> Spec:
    arrays = (Image("top", height=16, width=16),) if picture else (PointCloud("cloud", points=9, origin="p"),)
    return Spec(Space((*arrays, Position("p"))), Space((Displacement("a"),)), Horizon(obs=2))


def _encoder(picture: bool, order: int, weight: float = 1.0) -> SoftObservationEncoder:
    one = (
        partial(SceneImageEncoder, key="top", channels=6, widths=(4,), pools=(2,), blocks=1)
        if picture
        else partial(PointCloudEncoder, key="cloud", channels=6, widths=(6,))
    )
    make_one = partial(ObservationEncoder, encoders={"one": one}, channels=5, direct=True)
    return SoftObservationEncoder(_observed(picture), Symmetry(order), make_one, make_one, weight=weight)


@pytest.mark.parametrize("picture", [False, True])
def test_the_encoder_softened(picture: bool) -> None:
    assert_equivariant(_encoder(picture, 8, weight=0.0))
    soft = _encoder(picture, 8).double()
    space = soft.spec.observation
    features = torch.randn(2, 2, space.irreps.size, dtype=torch.float64)
    arrays = {name: torch.rand(2, 2, *field.features).double() for name, field in space.arrays.items()}
    assert torch.equal(soft(features, arrays), soft.strict(features, arrays))
    _random(soft)
    assert soft.elements == ([2, 4, 6] if picture else list(range(1, 8)))  # quarter turns of C_8
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(soft)
    free = soft(features, arrays) - soft.strict(features, arrays)
    turn = {name: space.arrays[name].turn(x, math.pi / 2) for name, x in arrays.items()}
    turned_features = space.irreps.rotate(features, math.pi / 2)
    turned = soft(turned_features, turn) - soft.strict(turned_features, turn)
    want = float((turned - free.roll(2, -2)).square().mean().detach())
    assert want > 1e-6
    assert float(soft.asymmetry(features, arrays, 2).detach()) == pytest.approx(want, rel=1e-6)


def test_bad_settings() -> None:
    for arguments in ({"weight": -1.0}, {"penalty": math.nan}):
        with pytest.raises(ValueError, match="expected weight and penalty >= 0"):
            _soft(**arguments)
    with pytest.raises(ValueError, match="nothing to soften"):
        _soft(order=1)
    with pytest.raises(ValueError, match="nothing to soften"):
        _encoder(False, 1)

    class Bare(nn.Module):
        def __init__(self, **_: object) -> None:
            super().__init__()

    with pytest.raises(ValueError, match="Bare has no last layer `project`"):
        _soft(residual=partial(Bare))
