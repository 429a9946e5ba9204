"""Chunks of absolute targets seen from the gripper: exact round trips, and what a turn and a shift do to them."""

import math

import pytest
import torch
from law_toys import config, random_batch

from equidiff.compose import make_spec
from equidiff.fields.presets import EEF_POSITION, EEF_ROTATION
from equidiff.rotations import from_matrix, to_matrix
from equidiff.spec import Spec

FRAMES = {"world": "relative_trajectory", "gripper": "gripper_trajectory"}
ANGLES = (math.pi / 4, math.pi / 2, -2.1)


def spec_of(frame: str) -> Spec:
    return make_spec(config(action=FRAMES[frame]))


@pytest.mark.parametrize("frame", FRAMES)
def test_the_stored_chunk_comes_back(frame: str) -> None:
    spec = spec_of(frame)
    batch = random_batch(spec, 20, dtype=torch.float64)
    again = spec.encode_action(spec.decode_action(batch["action"], batch["obs"]), batch["obs"])
    torch.testing.assert_close(again, batch["action"], rtol=0, atol=1e-9)


def test_what_the_numbers_are() -> None:
    """Against the definition, with the pose of the last observed step."""
    for frame in FRAMES:
        spec = spec_of(frame)
        batch = random_batch(spec, 6, dtype=torch.float64)
        chunk = spec.decode_action(batch["action"], batch["obs"])
        here = batch["obs"][EEF_POSITION][:, -1:]
        turned = to_matrix(batch["obs"][EEF_ROTATION][:, -1:], "quat_xyzw")
        away, rotation = batch["action"][..., :3] - here, to_matrix(batch["action"][..., 3:6], "rotvec")
        if frame == "gripper":
            away = (turned.transpose(-1, -2) @ away[..., None])[..., 0]
            rotation = turned.transpose(-1, -2) @ rotation
        torch.testing.assert_close(chunk[..., :3], away, rtol=0, atol=1e-9)
        # two rows of the rotation; in the world frame by columns, so that each pair is a vector that turns
        rows = rotation[..., :2, :].flatten(-2)
        columns = rotation[..., :2, :].transpose(-1, -2).flatten(-2)
        got = chunk[..., 3:9]
        assert min(float((got - want).abs().max()) for want in (rows, columns)) < 1e-9
        torch.testing.assert_close(chunk[..., 9:], batch["action"][..., 6:], rtol=0, atol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_a_turn_of_the_scene(angle: float) -> None:
    """World frame: the chunk turns by its representation. Gripper frame: it does not change at all."""
    for frame in FRAMES:
        spec = spec_of(frame)
        batch = random_batch(spec, 9, dtype=torch.float64)
        turned = spec.rotate(batch, angle)
        chunk = spec.decode_action(batch["action"], batch["obs"])
        seen = spec.decode_action(turned["action"], turned["obs"])
        want = chunk if frame == "gripper" else spec.action.irreps.rotate(chunk, angle)
        torch.testing.assert_close(seen, want, rtol=0, atol=1e-9)
        assert (frame == "gripper") == bool((chunk - seen).abs().max() < 1e-9)
        assert set(spec.action.irreps.frequencies) == ({0} if frame == "gripper" else {0, 1})


@pytest.mark.parametrize("frame", FRAMES)
def test_a_shift_of_the_scene_changes_nothing(frame: str) -> None:
    """Gripper and targets moved alike; absolute targets do change."""
    spec, absolute = spec_of(frame), make_spec(config(action="absolute"))
    batch = random_batch(spec, 9, dtype=torch.float64)
    shift = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    moved = {**batch["obs"], EEF_POSITION: batch["obs"][EEF_POSITION] + shift}
    action = batch["action"].clone()
    action[..., :3] += shift
    chunk = spec.decode_action(batch["action"], batch["obs"])
    torch.testing.assert_close(spec.decode_action(action, moved), chunk, rtol=0, atol=1e-9)
    differs = absolute.decode_action(action, moved) - absolute.decode_action(batch["action"], batch["obs"])
    assert float(differs.abs().max()) > 0.25


def test_any_motion_of_the_gripper_frame_leaves_the_gripper_chunk() -> None:
    """The gripper frame is invariant under every rotation of space, not only about the vertical."""
    spec = spec_of("gripper")
    batch = random_batch(spec, 9, dtype=torch.float64)
    tilt = to_matrix(torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64), "rotvec")
    obs = dict(batch["obs"])
    obs[EEF_POSITION] = obs[EEF_POSITION] @ tilt.T
    obs[EEF_ROTATION] = from_matrix(tilt @ to_matrix(obs[EEF_ROTATION], "quat_xyzw"), "quat_xyzw")
    rotation = from_matrix(tilt @ to_matrix(batch["action"][..., 3:6], "rotvec"), "rotvec")
    action = torch.cat([batch["action"][..., :3] @ tilt.T, rotation, batch["action"][..., 6:]], -1)
    torch.testing.assert_close(
        spec.decode_action(action, obs), spec.decode_action(batch["action"], batch["obs"]), rtol=0, atol=1e-8
    )
