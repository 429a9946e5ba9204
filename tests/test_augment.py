"""Random rotation: the law of the spec, another angle for each sample, the input untouched."""

import math

import pytest
import torch
from law_toys import config, make, random_batch

from equidiff.augment import RandomRotation
from equidiff.compose import make_spec


def test_it_turns_each_sample_by_one_angle_of_its_own() -> None:
    spec = make_spec(config(action="relative", overrides=["obs.horizon=2"]))
    batch = random_batch(spec, count=64)
    observation = spec.observation.decode(batch["obs"])
    actions = spec.decode_action(batch["action"], batch["obs"])
    kept = observation.clone(), actions.clone()
    torch.manual_seed(0)
    seen, _, done = RandomRotation()(spec, observation, {}, actions)
    assert torch.equal(observation, kept[0])
    assert torch.equal(actions, kept[1])
    before, after = (torch.view_as_complex(x[..., :2].contiguous()) for x in (actions, done))
    angle = torch.angle(after[:, 0] / before[:, 0])
    assert angle.min() < -2
    assert angle.max() > 2
    assert abs(float(angle.mean())) < 0.8
    want = spec.rotate(batch, angle)
    torch.testing.assert_close(seen, spec.observation.decode(want["obs"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(done, spec.decode_action(want["action"], want["obs"]), rtol=0, atol=1e-4)


def test_maximum_bounds_the_angle() -> None:
    spec = make_spec(config(action="relative"))
    batch = random_batch(spec, count=200)
    observation, actions = spec.observation.decode(batch["obs"]), spec.decode_action(batch["action"], batch["obs"])
    _, _, done = RandomRotation(maximum=0.2)(spec, observation, {}, actions)
    before, after = (torch.view_as_complex(x[..., :2].contiguous()) for x in (actions, done))
    angle = torch.angle(after / before).abs()
    assert 0.1 < angle.max() <= 0.2 + 1e-5
    for maximum in (0.0, -1.0, 4.0, math.nan):
        with pytest.raises(ValueError, match=r"expected 0 < maximum <= pi radians"):
            RandomRotation(maximum)


def test_policies_augment_in_training_only() -> None:
    policy = make(1, augment="rotation")
    batch = random_batch(policy.spec, count=16)

    def loss(seed: int, training: bool) -> float:
        calls = []
        policy.augment = lambda *features: calls.append(1) or RandomRotation()(*features)  # type: ignore[assignment]
        torch.manual_seed(seed)
        value = float(policy.train(training).loss(batch).detach())
        assert len(calls) == training
        return value

    assert loss(0, True) != loss(0, False)
