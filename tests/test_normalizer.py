"""The normaliser on awkward data; law 2 is in laws/."""

import pytest
import torch
from law_toys import ACTIONS, config, random_batch

from equidiff.compose import make_spec
from equidiff.fields import Displacement, Position, Scalars
from equidiff.normalizer import Normalizer
from equidiff.spec import Horizon, Space, Spec, SpecError


@pytest.fixture
def spec() -> Spec:
    return Spec(
        observation=Space((Position("p"), Scalars("s", size=2))),
        action=Space((Displacement("d"), Scalars("g"))),
        horizon=Horizon(predict=4, execute=2),
    )


@pytest.mark.parametrize("mode", ["gaussian", "range"])
@pytest.mark.parametrize("per_step", [True, False])
def test_constant_features(spec: Spec, mode: str, per_step: bool) -> None:
    """A gripper that never opens: zero after normalising, exact after inverting, and other values stay bounded."""
    batch = random_batch(spec, count=20)
    batch["obs"]["s"][:] = 0.04
    batch["action"][..., 3] = -1.0
    batch["action"][..., :3] = 0.0
    normalizer = Normalizer(spec, mode=mode, per_step=per_step)
    normalizer.fit([batch])
    observation = normalizer.observation(spec.observation.decode(batch["obs"]))
    actions = normalizer.action(spec.decode_action(batch["action"], batch["obs"]))
    assert observation[..., 3:].abs().max() < 1e-4
    assert actions.abs().max() < 1e-4
    torch.testing.assert_close(normalizer.invert_action(actions), batch["action"])
    moved = spec.observation.decode({**batch["obs"], "s": batch["obs"]["s"] + 0.001})
    assert 0.1 < normalizer.observation(moved)[..., 3:].abs().max() < 2  # a millimetre is a unit, not a million


@pytest.mark.parametrize("action", ACTIONS)
def test_gaussian_has_unit_variance_and_range_ends_at_one(action: str) -> None:
    spec = make_spec(config(action=action))
    batch = random_batch(spec, count=400)
    features = spec.decode_action(batch["action"], batch["obs"])
    parts = zip(spec.action.fields, spec.action.slices(), strict=True)
    scaled = [i for field, at in parts if field.scaled for i in range(at.start, at.stop)]
    gaussian, ranged = Normalizer(spec, "gaussian"), Normalizer(spec, "range", per_step=False)
    gaussian.fit([batch])
    ranged.fit([batch])
    square = gaussian.action(features)[..., scaled].square().mean((0, 1))
    assert ((square > 0.8) & (square < 1.2)).all()
    assert ranged.action(features)[..., scaled].abs().max() <= 1 + 1e-5
    torch.testing.assert_close(ranged.invert_action(ranged.action(features)), features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_step", [True, False])
def test_bound_is_the_largest_norm_of_the_normalised_data(spec: Spec, per_step: bool) -> None:
    batch = random_batch(spec, count=50)
    normalizer = Normalizer(spec, per_step=per_step)
    normalizer.fit([batch])
    norms = spec.action.irreps.block_norms(normalizer.action(batch["action"]))
    assert (norms <= normalizer.bound + 1e-5).all()
    largest = norms.amax(0) if per_step else norms.amax((0, 1)).expand(4, -1)
    torch.testing.assert_close(normalizer.bound, largest)


def test_batches_of_any_size_give_the_same_statistics(spec: Spec) -> None:
    batch = random_batch(spec, count=30)
    parts = [
        {"obs": {k: v[at] for k, v in batch["obs"].items()}, "action": batch["action"][at]}
        for at in (slice(0, 7), slice(7, 30))
    ]
    whole, pieces = Normalizer(spec), Normalizer(spec)
    whole.fit([batch])
    pieces.fit(parts)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, pieces.state_dict()[name])


def test_large_offsets_do_not_swallow_small_motion(spec: Spec) -> None:
    """Variance from moments in float64: a millimetre of motion a kilometre away."""
    batch = random_batch(spec, count=100)
    batch["obs"]["s"] = (1000 + 0.1 * batch["obs"]["s"]).contiguous()
    normalizer = Normalizer(spec)
    normalizer.fit([batch])
    assert normalizer.observation(spec.observation.decode(batch["obs"]))[..., 3:].std() == pytest.approx(1, abs=0.05)


def test_bad_use(spec: Spec) -> None:
    with pytest.raises(ValueError, match="no batch was given; is the training set empty"):
        Normalizer(spec).fit([])
    with pytest.raises(ValueError, match="expected 'gaussian' or 'range', got 'minmax'"):
        Normalizer(spec, mode="minmax")  # type: ignore[arg-type]
    normalizer, batch = Normalizer(spec), random_batch(spec)
    batch["action"][0, 0, 0] = torch.nan
    with pytest.raises(SpecError, match=r"'action' is nan at index \(0, 0, 0\)"):
        normalizer.fit([batch])
    assert not normalizer.fitted


def test_entries_of_a_rotation_matrix_keep_their_range() -> None:
    """As in the published relative control; with unit variance they are scaled like everything else."""
    from equidiff.fields import Moments, RotationDelta

    field = RotationDelta("d", as_matrix=True)
    features = field.decode({"d": 0.1 * torch.randn(50, 3, dtype=torch.float64)})
    kept = field.fit(Moments.of(features, field.irreps), "range")
    assert bool((kept.scale == 1).all())
    assert not kept.offset.any()
    assert bool((field.fit(Moments.of(features, field.irreps), "gaussian").scale < 0.2).all())
