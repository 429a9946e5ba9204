"""The contract: what a batch must look like, and what the messages say when it does not."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from law_toys import ACTIONS, config, random_batch

from equidiff.compose import make_spec
from equidiff.fields import Displacement, FieldError, Position, RelativePosition, Rotation, Scalars, SymmetricYaw
from equidiff.spec import Horizon, Space, Spec, SpecError, Workspace


@pytest.fixture
def spec() -> Spec:
    return Spec(
        observation=Space((Position("eef_pos"), Rotation("eef_quat"), Scalars("gripper", size=2))),
        action=Space(
            (RelativePosition("position", "eef_pos"), Rotation("rotation", storage="rotvec"), Scalars("open"))
        ),
        horizon=Horizon(obs=2, predict=8, execute=4),
        workspace=Workspace(centre=(0.2, -0.1)),
    )


def test_a_good_batch_passes_with_extra_keys(spec: Spec) -> None:
    batch = random_batch(spec)
    spec.check(batch)
    spec.check({**batch, "obs": {**batch["obs"], "camera": torch.zeros(5, 2, 8, 8, 3, dtype=torch.uint8)}})
    spec.check({"obs": batch["obs"]})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "eef_pos",
            torch.zeros(5, 2, 4),
            "'eef_pos' has shape (5, 2, 4), expected (B, 2, 3) = (batch, horizon",
        ),
        ("eef_pos", torch.zeros(5, 3), "'eef_pos' has shape (5, 3), expected (B, 2, 3)"),
        ("eef_pos", torch.zeros(5, 1, 3), "'eef_pos' has shape (5, 1, 3), expected (B, 2, 3)"),
        ("eef_pos", torch.zeros(5, 2, 3, dtype=torch.long), "'eef_pos' has dtype torch.int64, expected floating point"),
        ("eef_pos", torch.zeros(4, 2, 3), "batch sizes differ: {'eef_pos': 4, 'eef_quat': 5, 'gripper': 5}"),
        ("eef_pos", np.zeros((5, 2, 3)), "'eef_pos' is a ndarray, expected a tensor; use torch.as_tensor"),
        ("gripper", torch.full((5, 2, 2), math.nan), "'gripper' is nan at index (0, 0, 0); repair or drop this sample"),
    ],
)
def test_observations_that_do_not_fit(spec: Spec, key: str, value: Any, message: str) -> None:
    obs = {**random_batch(spec)["obs"], key: value}
    with pytest.raises(SpecError, match=re.escape(message)):
        spec.check_observation(obs)


def test_an_infinite_value_is_located(spec: Spec) -> None:
    batch = random_batch(spec)
    batch["obs"]["eef_pos"][3, 1, 2] = -math.inf
    with pytest.raises(SpecError, match=re.escape("demo_7: 'eef_pos' is -inf at index (3, 1, 2)")):
        spec.check(batch, where="demo_7")


def test_a_missing_key_names_what_is_there(spec: Spec) -> None:
    obs = random_batch(spec)["obs"]
    obs["eef_position"] = obs.pop("eef_pos")
    message = "'eef_pos' (3,) is missing; did you mean to rename 'eef_position'? Got: eef_position, eef_quat, gripper"
    with pytest.raises(SpecError, match=re.escape(message)):
        spec.check_observation(obs)
    with pytest.raises(SpecError, match="expected a mapping"):
        spec.check_observation(torch.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="needs 'obs', got"):
        spec.check({"observations": obs})


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.zeros(5, 7, 7), "(B, 8, 7) = (batch, horizon.predict, position 3, rotation 3, open 1)"),
        (torch.zeros(5, 8, 10), "'action' has shape (5, 8, 10), expected (B, 8, 7)"),
        (torch.zeros(8, 7), "'action' has shape (8, 7), expected (B, 8, 7)"),
        (torch.zeros(4, 8, 7), "batch sizes differ: 'action' has 4, 'obs' has 5"),
        (torch.zeros(5, 8, 7, dtype=torch.int32), "'action' has dtype torch.int32"),
        (np.zeros((5, 8, 7)), "'action' is a ndarray"),
    ],
)  # fmt: skip
def test_actions_that_do_not_fit(spec: Spec, action: Any, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        spec.check({**random_batch(spec), "action": action})


@pytest.mark.parametrize("action", ACTIONS)
def test_json_round_trip(action: str) -> None:
    spec = make_spec(config(action=action, overrides=["++task.bounds=[[-0.3,0.3],[-0.3,0.3],[0.8,1.2]]"]))
    assert spec.workspace.bounds == ((-0.3, 0.3), (-0.3, 0.3), (0.8, 1.2))
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": {"obs": 1, "predict": "16", "execute": 8}}, "Horizon: lengths are integers"),
        ({"horizon": {"obs": 1, "predict": 10**9, "execute": 8}}, "integers up to 10000"),
        ({"horizon": {"obs": 1, "pred": 16}}, "unexpected keyword argument 'pred'"),
        ({"workspace": {"centre": []}}, "Workspace.centre: expected (x, y) in metres, got []"),
        ({"workspace": {"centre": ["a", "b"]}}, "Workspace.centre: expected (x, y)"),
        ({"workspace": {"centre": [math.nan, 0]}}, "finite (x, y)"),
        ({"workspace": {"centre": [0, 0], "bounds": [[0, 1]]}}, "Workspace.bounds: expected ((x0, x1)"),
        ({"workspace": {"centre": [0, 0], "bounds": [[1, 0], [0, 1], [0, 1]]}}, "every lower bound below the upper"),
        ({"control_hz": math.nan}, "control_hz: expected a rate in Hz > 0, got nan"),
        ({"control_hz": "20"}, "control_hz"),
        ({"observation": None}, "spec: "),
        ({"observation": []}, "at least one field"),
    ],
)
def test_json_that_does_not_fit(spec: Spec, change: dict[str, Any], message: str) -> None:
    with pytest.raises((SpecError, FieldError), match=re.escape(message)):
        Spec.from_json({**spec.to_json(), **change})


def test_json_that_is_not_a_spec() -> None:
    for node in ({}, [], None, "spec"):
        with pytest.raises(SpecError, match="spec: "):
            Spec.from_json(node)  # type: ignore[arg-type]


def test_horizons() -> None:
    assert Horizon(obs=2, predict=16, execute=8, latency=1).executed == slice(2, 10)
    with pytest.raises(SpecError, match="9 actions are needed but only predict = 8"):
        Horizon(obs=2, predict=8, execute=8)
    with pytest.raises(SpecError, match="must be >= 1"):
        Horizon(obs=0)
    with pytest.raises(SpecError, match="must be >= 1"):
        Horizon(latency=-1)


def test_spaces_and_specs_that_contradict_themselves() -> None:
    with pytest.raises(SpecError, match="'p' is declared twice"):
        Space((Position("p"), Position("p")))
    with pytest.raises(SpecError, match="'p' is declared both as"):
        Space((RelativePosition("q", "p"), Displacement("p")))
    with pytest.raises(SpecError, match="'r' is declared both as"):
        Space((SymmetricYaw("r", fold=2), Rotation("r", storage="quat_wxyz")))
    seen = Space((Position("p"),))
    with pytest.raises(SpecError, match="can only be an observation"):
        Spec(observation=seen, action=Space((SymmetricYaw("r"),)))
    with pytest.raises(SpecError, match="refers to the observation 'hand', which no observation field reads"):
        Spec(observation=seen, action=Space((RelativePosition("a", "hand"),)))


def test_the_workspace_centre_reaches_every_position(spec: Spec) -> None:
    assert spec.observation.fields[0] == Position("eef_pos", centre=(0.2, -0.1))
    at_centre = torch.tensor([0.2, -0.1, 0.9]).expand(1, 2, 3)
    obs = {**random_batch(spec, count=1)["obs"], "eef_pos": at_centre}
    torch.testing.assert_close(spec.rotate_observation(obs, 1.0)["eef_pos"], at_centre)
    torch.testing.assert_close(spec.observation.decode(obs)[..., :2], torch.zeros(1, 2, 2))


def test_relative_actions_refer_to_the_current_observation(spec: Spec) -> None:
    batch = random_batch(spec)
    features = spec.decode_action(batch["action"], batch["obs"])
    want = batch["action"][..., :3] - batch["obs"]["eef_pos"][:, 1:]
    torch.testing.assert_close(features[..., :3], want)


def test_turning_never_changes_its_input(spec: Spec) -> None:
    batch = random_batch(spec)
    kept = {**{k: v.clone() for k, v in batch["obs"].items()}, "action": batch["action"].clone()}
    turned = spec.rotate(batch, 0.0)
    turned["action"].add_(1)
    for value in turned["obs"].values():
        value.add_(1)
    assert all(torch.equal(kept[k], v) for k, v in {**batch["obs"], "action": batch["action"]}.items())
