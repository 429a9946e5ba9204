"""Mapping files, and what they do to arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from equidiff.data import DataError
from equidiff.data.formats.convert import check_mapping, convert_episode, rotation_matrices, unread
from equidiff.data.formats.foreign import Feature
from equidiff.data.formats.mapping import STORAGES, parse_mapping, read_mapping

ACTION = {
    "position": {"from": "a", "slice": [0, 3]},
    "rotation": {"from": "a", "slice": [3, 6], "storage": "rotvec"},
    "gripper": {"from": "a", "slice": [6, 7], "open": 0.08, "closed": 0.0},
}
FEATURES = {"a": Feature((7,), "float32"), "x": Feature((3,), "float32"), "q": Feature((4,), "float32")}


def tree(**changes: Any) -> dict[str, Any]:
    return {"obs": {"p": {"from": "x", "kind": "position"}}, "actions_abs": ACTION} | changes


def convert(node: dict[str, Any], features: dict[str, Feature], **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    mapping = parse_mapping(node, "m.yaml")
    check_mapping(mapping, features, "data")
    steps = len(next(iter(given.values())))
    blank = {key: np.zeros((steps, *f.shape), np.float32) for key, f in features.items()}
    return convert_episode(mapping, blank | given, features, "episode 0")


@pytest.mark.parametrize("name", ["lerobot", "zarr"])
def test_the_examples_are_valid(name: str) -> None:
    mapping = read_mapping(Path(__file__).parents[3] / f"configs/mapping/{name}.yaml")
    assert {"robot0_eef_pos", "robot0_eef_quat_site", "agentview_image"} <= set(mapping.obs)
    assert mapping.actions["actions_abs"]["gripper"].kind == "gripper"


def test_scale_frame_and_gripper() -> None:
    node = tree(
        frame={"position": [1, 2, 3], "rotation": [0, 0, np.pi / 2]},
        obs={
            "p": {"from": "x", "kind": "position", "scale": 0.001},
            "d": {"from": "x", "kind": "displacement", "scale": 0.001},
            "q": {"from": "q", "kind": "rotation", "storage": "quat_wxyz"},
            "g": {"from": "a", "slice": [6, 7], "kind": "gripper", "open": 0.08, "closed": 0.0},
            "raw": {"from": "x", "kind": "scalars"},
        },
    )
    action = np.array([[0, 0, 0, 0, 0, 0, 0.08], [0.1, 0, 0, 0.2, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0.04]], np.float32)
    point = np.tile(np.array([[100, 0, 50]], np.float32), (3, 1))
    turn = np.tile(np.array([[np.cos(0.3), np.sin(0.3), 0, 0]], np.float32), (3, 1))  # 0.6 rad about x
    obs, actions = convert(node, FEATURES, a=action, x=point, q=turn)
    np.testing.assert_allclose(obs["p"][0], [1, 2.1, 3.05], atol=1e-6)
    np.testing.assert_allclose(obs["d"][0], [0, 0.1, 0.05], atol=1e-6)
    # turned by 90 degrees about z, then read in the body: Rz(90) Rx(0.6)
    half = np.sqrt(0.5)
    expected = [half * np.sin(0.3), half * np.sin(0.3), half * np.cos(0.3), half * np.cos(0.3)]
    np.testing.assert_allclose(obs["q"][0], expected, atol=1e-6)
    np.testing.assert_allclose(obs["g"], [[0.04, -0.04], [0, 0], [0.02, -0.02]], atol=1e-7)
    np.testing.assert_array_equal(obs["raw"], point)
    np.testing.assert_allclose(actions["actions_abs"][:, 6], [-1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(actions["actions_abs"][1, :3], [1, 2.1, 3], atol=1e-6)
    assert actions["actions_abs"].dtype == np.float32


def test_a_frame_conjugates_relative_rotations() -> None:
    parts = {
        "position": {"from": "a", "slice": [0, 3]},
        "rotation": {"from": "a", "slice": [3, 6], "storage": "rotvec"},
        "gripper": {"from": "a", "slice": [6, 7], "open": -1, "closed": 1},
    }
    node = {"frame": {"rotation": [0, 0, np.pi / 2], "position": [5, 5, 5]}, "obs": tree()["obs"], "actions": parts}
    action = np.array([[0.1, 0, 0, 0.2, 0, 0.1, 0.5]], np.float32)
    _, actions = convert(node, FEATURES, a=action)
    np.testing.assert_allclose(actions["actions"], [[0, 0.1, 0, 0, 0.2, 0.1, 0.5]], atol=1e-6)


@pytest.mark.parametrize("storage", sorted(STORAGES))
def test_every_storage_gives_the_same_rotation(storage: str) -> None:
    yaw, pitch, roll = 0.4, -0.3, 0.2
    c, s = np.cos, np.sin
    z = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    y = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
    x = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
    matrix = z @ y @ x
    w = np.sqrt(1 + np.trace(matrix)) / 2
    vector = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / (4 * w)
    stored = {
        "quat_xyzw": [*vector, w],
        "quat_wxyz": [w, *vector],
        "rotvec": vector / np.linalg.norm(vector) * 2 * np.arccos(w),
        "rot6d": matrix[:2].ravel(),
        "rot6d_columns": matrix[:, :2].T.ravel(),
        "matrix": matrix.ravel(),
        "euler_xyz": [roll, pitch, yaw],
    }
    found = rotation_matrices(np.array([stored[storage]]), storage, 1.0, "here")[0].numpy()
    np.testing.assert_allclose(found, matrix, atol=1e-6)


def test_pictures() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 8, 10, 3)).astype(np.uint8)
    features = FEATURES | {"i": Feature((3, 8, 10), "float32", picture=True), "z": Feature((8, 10), "uint16")}
    node = tree(
        obs={
            "whole": {"from": "i", "kind": "image", "scale": 255, "bgr": True},
            "part": {"from": "i", "kind": "image", "scale": 255, "crop": [0, 2, 8, 8], "size": [4, 4]},
            "far": {"from": "z", "kind": "depth", "scale": 0.001, "size": [4, 5]},
        }
    )
    floats = np.moveaxis(grey, -1, 1).astype(np.float32) / 255
    depth = np.full((2, 8, 10), 1234, np.uint16)
    depth[0, 1, 1], depth[1] = 9000, 0
    obs, _ = convert(node, features, i=floats, z=depth)
    np.testing.assert_array_equal(obs["whole"], grey[..., ::-1])
    means = grey[:, :, 2:].reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    assert np.abs(obs["part"] - means).max() <= 1
    assert obs["far"].shape == (2, 4, 5)
    assert obs["far"][0, 2, 2] == 12340
    assert (obs["far"][0, 0, 0], obs["far"][1, 2, 2]) == (0, 0)  # beyond reach, nothing seen
    with pytest.raises(DataError, match="set scale: 255"):
        convert(tree(obs={"i": {"from": "i", "kind": "image"}}), features, i=floats)
    with pytest.raises(DataError, match=r"crop \[0, 5, 8, 8\].*8 x 10 pixels"):
        convert(tree(obs={"i": {"from": "i", "kind": "image", "scale": 255, "crop": [0, 5, 8, 8]}}), features, i=floats)


def test_what_is_not_read_is_named() -> None:
    features = FEATURES | {"extra": Feature((2,), "float32")}
    node = tree(obs={"p": {"from": "q", "slice": [0, 3], "kind": "position"}})
    assert unread(parse_mapping(node, "m"), features) == ["x", "q[3]", "extra"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ops": {}}, "no setting 'ops'; did you mean 'obs'"),
        ({"obs": {}}, "needs 'obs'"),
        ({"obs": {"p": {"from": "x", "kind": "positon"}}}, "kind is 'positon'; did you mean 'position'"),
        ({"obs": {"p": {"kind": "position"}}}, "'from' must name a key"),
        ({"obs": {"p": {"from": "x", "kind": "position", "open": 1}}}, "no setting 'open'"),
        ({"obs": {"p": {"from": "x", "kind": "position", "slice": [3, 3]}}}, "first < end"),
        ({"obs": {"p": {"from": "x", "kind": "position", "slice": [0, "b"]}}}, "2 whole numbers"),
        ({"obs": {"p": {"from": "x", "kind": "position", "scale": float("nan")}}}, "a finite number, got nan"),
        ({"obs": {"p": {"from": "q", "kind": "rotation", "storage": "quat_wxzy"}}}, "did you mean 'quat_wxyz'"),
        ({"obs": {"p": {"from": "q", "kind": "gripper", "open": 1}}}, "'closed' must be"),
        ({"obs": {"p": {"from": "q", "kind": "gripper", "open": 1, "closed": 1}}}, "open and closed are both"),
        ({"obs": {"p": {"from": "q", "kind": "image", "size": [0, 4]}}}, "at least one pixel"),
        ({"obs": ["p"]}, "expected a table"),
        ({"control_hz": -1}, "control_hz: expected a rate"),
        ({"frame": {"position": [1, 2]}}, "frame.position: expected 3 finite numbers"),
        ({"actions_abs": {"position": ACTION["position"]}}, "has no 'rotation'"),
        ({"actions_abs": ACTION | {"gripper": ACTION["gripper"] | {"kind": "scalars"}}}, "expected 'gripper'"),
        ({"obs": {"p": {"from": "xx", "kind": "position"}}}, "no 'xx'; did you mean 'x'"),
        ({"obs": {"p": {"from": "q", "kind": "position"}}}, "'q' has 4 values, a position needs 3"),
        ({"obs": {"p": {"from": "q", "slice": [2, 5], "kind": "position"}}}, "reaches beyond 'q'"),
        ({"obs": {"p": {"from": "q", "kind": "rotation", "storage": "rot6d"}}}, "stored as rot6d needs 6"),
        ({"obs": {"p": {"from": "q", "kind": "image"}}}, "a picture has shape"),
    ],
)
def test_mistakes_name_the_entry(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"m\.yaml|data") as error:
        check_mapping(parse_mapping(tree(**change), "m.yaml"), FEATURES, "data")
    assert message in str(error.value)


def test_a_quaternion_of_another_length_is_refused() -> None:
    node = tree(obs={"q": {"from": "q", "kind": "rotation", "storage": "quat_wxyz"}})
    with pytest.raises(DataError, match=r"obs.q: the quaternion of step 1 has length 0\.000"):
        convert(node, FEATURES, q=np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32))


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("obs: {")
    with pytest.raises(DataError, match="not valid YAML"):
        read_mapping(tmp_path / "m.yaml")
    with pytest.raises(DataError, match="no readable mapping"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "m.yaml").write_text("obs: !!python/object/apply:os.system ['true']")
    with pytest.raises(DataError, match="not valid YAML"):
        read_mapping(tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(tree()))
    assert read_mapping(tmp_path / "m.yaml").sources == ("x", "a")
