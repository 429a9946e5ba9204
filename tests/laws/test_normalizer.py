"""Law 2: normalising and turning can be exchanged, at any angle."""

import pytest
import torch
from law_toys import ACTIONS, config, random_batch

from equidiff.compose import make_spec
from equidiff.normalizer import Normalizer
from equidiff.spec import Batch, Spec


def _features(spec: Spec, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return spec.observation.decode(batch["obs"]), spec.decode_action(batch["action"], batch["obs"])


@pytest.mark.parametrize("mode", ["gaussian", "range"])
@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_normaliser_commutes_with_any_angle(mode: str, per_step: bool, action: str) -> None:
    spec = make_spec(config(action=action, overrides=["obs.fields.absolute=true"]))
    normalizer = Normalizer(spec, mode=mode, per_step=per_step).double()
    normalizer.fit([random_batch(spec, count=30, seed=1, dtype=torch.float64)])
    observation, actions = _features(spec, random_batch(spec, seed=2, dtype=torch.float64))
    for angle in (torch.pi / 4, torch.pi / 2, 0.3, -2.8):
        for irreps, x, normalise in (
            (spec.observation.irreps, observation, normalizer.observation),
            (spec.action.irreps, actions, normalizer.action),
            (spec.action.irreps, actions, normalizer.invert_action),
        ):
            got, want = normalise(irreps.rotate(x, angle)), irreps.rotate(normalise(x), angle)
            torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["gaussian", "range"])
def test_statistics_and_bounds_do_not_depend_on_how_pairs_are_turned(mode: str) -> None:
    """Augmented data leave the scale of pairs and the clipping bound as they are."""
    spec = make_spec(config(action="relative"))
    batch = random_batch(spec, count=30, dtype=torch.float64)
    plain, turned = Normalizer(spec, mode=mode).double(), Normalizer(spec, mode=mode).double()
    plain.fit([batch])
    turned.fit([spec.rotate(batch, torch.linspace(-3, 3, 30, dtype=torch.float64))])
    for name in ("observation_offset", "observation_scale", "action_offset", "action_scale", "bound"):
        torch.testing.assert_close(getattr(plain, name), getattr(turned, name), rtol=1e-9, atol=1e-9)


def test_offsets_on_pairs_would_break_the_law() -> None:
    """The test above can fail: an ordinary per-entry normaliser does not commute."""
    spec = make_spec(config(action="relative"))
    _, actions = _features(spec, random_batch(spec, dtype=torch.float64))
    irreps, offset = spec.action.irreps, actions.mean((0, 1))
    error = (irreps.rotate(actions - offset, 0.8) - (irreps.rotate(actions, 0.8) - offset)).abs().max()
    assert error > 0.01
