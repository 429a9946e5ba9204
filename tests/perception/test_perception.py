"""Cameras, clouds and grids, without a simulator."""

import json
import math

import numpy as np
import pytest

from equidiff.perception import (
    Frame,
    Perception,
    PerceptionError,
    PerceptionSettings,
    camera_pose,
    intrinsics,
    world_points,
)
from equidiff.perception.camera import quantised
from equidiff.perception.clouds import farthest_points, fixed_size, thinned, voxel_grid

BOUNDS = ((-0.4, 0.4), (-0.4, 0.4), (0.8, 1.6))
NODE = {
    "cameras": {"top": {"width": 40, "height": 40, "position": [0, 0, 2.0], "target": [0, 0, 0.8]}},
    "image": ["top"],
    "depth": ["top"],
    "voxels": {"size": 16, "cameras": ["top"]},
    "point_cloud": {"points": 64, "cameras": ["top"], "clearance": 0.01},
}


def _settings(**changes) -> PerceptionSettings:
    return PerceptionSettings.from_config({**NODE, **changes}, BOUNDS, (0.0, 0.0))


def _top_down(height: np.ndarray, colour: np.ndarray) -> Frame:
    """A frame of the camera `top` that sees a surface of this height (40, 40) in metres."""
    return Frame(colour, quantised(2.0 - height), intrinsics(45, 40, 40), camera_pose((0, 0, 2.0), (0, 0, 0.8)))


def _scene(turn: int = 0) -> Frame:
    """A table with a red block off the middle, turned by quarter turns as seen from above."""
    height, colour = np.full((40, 40), 0.8), np.full((40, 40, 3), 200, np.uint8)
    height[8:14, 24:30], colour[8:14, 24:30] = 0.9, (255, 0, 0)
    return _top_down(np.rot90(height, turn), np.ascontiguousarray(np.rot90(colour, turn)))


def test_points_lie_where_the_picture_shows_them() -> None:
    points, colours = world_points(_scene())
    block = colours[:, 1] == 0
    np.testing.assert_allclose(points[block, 2], 0.9, atol=1e-4)
    np.testing.assert_allclose(points[~block, 2], 0.8, atol=1e-4)
    metre_per_pixel = 1.1 * math.tan(math.radians(22.5)) / 20
    centre = points[block].mean(0)
    # right of the picture is +x, its top is +y
    np.testing.assert_allclose(centre[:2], [7 * metre_per_pixel, 9 * metre_per_pixel], atol=1e-3)


@pytest.mark.parametrize("target", [(0.3, 0.1, 0.8), (-1.0, 0.2, 1.1), (0.0, 0.0, 0.0)])
def test_a_pose_is_a_rotation_that_looks_at_its_target(target) -> None:
    pose = camera_pose((0.0, 0.0, 1.5), target).astype(float)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-6)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1, abs=1e-5)
    seen = np.linalg.inv(pose) @ [*target, 1]
    np.testing.assert_allclose(seen[:2], 0, atol=1e-6)
    assert seen[2] > 0
    assert pose[2, 1] <= 1e-6  # y of the picture goes down
    with pytest.raises(ValueError, match="the same point"):
        camera_pose((0, 0, 1), (0, 0, 1))


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_voxels_of_a_turned_scene_are_the_turned_voxels(turn: int) -> None:
    perception = Perception(_settings())
    before = perception.observe({"top": _scene()})["voxels"]
    after = perception.observe({"top": _scene(turn)})["voxels"]
    assert before[0].any()
    assert before[1][before[0] > 0].min() < 256
    np.testing.assert_array_equal(after, np.rot90(before, turn, (-2, -1)))


def test_a_table_on_the_lower_bound_fills_one_layer_whatever_the_rounding() -> None:
    settings = _settings(voxels={"size": 32, "cameras": ["top"]})
    assert settings.voxels is not None
    (low, high) = settings.voxels.bounds[2]
    assert high - low == pytest.approx(0.8)
    rng = np.random.default_rng(0)
    plane = np.stack(np.meshgrid(*[np.linspace(-0.399, 0.399, 100)] * 2), -1).reshape(-1, 2)
    points = np.c_[plane, 0.8 + rng.uniform(-5e-4, 5e-4, len(plane))].astype(np.float32)
    grid = voxel_grid(points, np.zeros((len(points), 3), np.uint8), settings.voxels.bounds, 32)
    assert (grid[0, -1] > 0).all()
    assert not grid[0, :-1].any()


def test_a_grid_counts_z_from_the_top_and_y_from_the_far_side() -> None:
    points = np.array([[-0.39, 0.39, 1.59], [0.39, -0.39, 0.81], [5.0, 0.0, 1.0]], np.float32)
    grid = voxel_grid(points, np.array([[10, 20, 30], [40, 50, 60], [1, 1, 1]], np.uint8), BOUNDS, 8)
    assert grid[:, 0, 0, 0].tolist() == [255, 10, 20, 30]
    assert grid[:, 7, 7, 7].tolist() == [255, 40, 50, 60]
    assert (grid[0] > 0).sum() == 2


def test_observations_have_the_shapes_they_declare_and_can_be_made_again_from_stored_depth() -> None:
    settings = _settings()
    frame = _scene()
    seen = Perception(settings).observe({"top": frame})
    assert {key: (value.shape, value.dtype.name) for key, value in seen.items()} == settings.shapes
    assert seen["point_cloud"][:, 2].min() > 0.8 + 0.01  # the table is left out
    again = Frame(seen["top_image"], seen["top_depth"], frame.intrinsics, seen["top_pose"])
    for key, value in Perception(settings).observe({"top": again}).items():
        np.testing.assert_array_equal(value, seen[key])


def test_depth_that_means_nothing_is_zero() -> None:
    metres = np.array([[np.nan, np.inf, -1.0], [0.0, 7.0, 1.23456]])
    assert quantised(metres).tolist() == [[0, 0, 0], [0, 0, 12346]]


def test_farthest_points_are_spread_and_the_same_every_time() -> None:
    points = np.random.default_rng(0).random((3000, 3)).astype(np.float32)
    chosen = farthest_points(points, 50)
    assert len(set(chosen.tolist())) == 50
    np.testing.assert_array_equal(chosen, farthest_points(points, 50))
    spread = points[chosen]
    nearest = np.sort(np.linalg.norm(spread[:, None] - spread, axis=-1), 1)[:, 1].min()
    random = points[:50]
    assert nearest > 2 * np.sort(np.linalg.norm(random[:, None] - random, axis=-1), 1)[:, 1].min()
    kept = points[thinned(points, 0.2)]
    assert len(kept) == len({tuple(c) for c in np.floor(points / 0.2).astype(int).tolist()})


@pytest.mark.parametrize("method", ["farthest", "voxel"])
@pytest.mark.parametrize("n", [0, 3, 5000])
def test_a_cloud_always_has_its_size(method: str, n: int) -> None:
    rng = np.random.default_rng(1)
    points, colours = rng.random((n, 3)).astype(np.float32), rng.integers(256, size=(n, 3)).astype(np.uint8)
    cloud = fixed_size(points, colours, 64, method)
    assert cloud.shape == (64, 6)
    if n == 0:
        assert not cloud.any()
    else:
        assert {tuple(p) for p in cloud[:, :3].tolist()} <= {tuple(p) for p in points.tolist()}
        assert len(np.unique(cloud, axis=0)) == min(n, 64) if method == "farthest" or n < 64 else True


@pytest.mark.parametrize("centre", [(0.0, 0.0), (-0.2, 0.1)])
def test_settings_survive_json(centre: tuple[float, float]) -> None:
    """Also those of a task whose centre is elsewhere; with a centre, it is checked again."""
    settings = PerceptionSettings.from_config(NODE, BOUNDS, centre)
    stored = json.loads(json.dumps(settings.to_json()))
    assert PerceptionSettings.from_config(stored) == settings
    assert PerceptionSettings.from_config(stored, centre=centre) == settings
    with pytest.raises(PerceptionError, match=r"centre the grid on it"):
        PerceptionSettings.from_config(stored, centre=(0.05, 0.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ["tpo"]}, r"perception.image: camera 'tpo' is not in perception.cameras; did you mean 'top'"),
        ({"imgae": ["top"]}, "no setting 'imgae'; did you mean 'image'"),
        ({"cameras": {"top": {"widht": 3}}}, r"perception.cameras.top: no setting 'widht'; did you mean 'width'"),
        ({"cameras": {"top": {"position": [0, 0, 1]}}}, "needs position and target"),
        ({"cameras": {"top": {"width": 0}}}, "cameras.top: the sides of a picture are 1 to 4096"),
        ({"cameras": {"top": {"fovy": 60}}}, r"cameras.top: .*fovy is of a camera of your own.* position and target"),
        ({"voxels": {"cameras": ["top"], "bounds": [[-1, 1], [-1, 1], [0, math.inf]]}}, "z1.* finite"),
        ({"point_cloud": {"cameras": ["top"], "clearance": 1.0}}, r"clearance: .* got 1.0; the bounds are 0.8"),
        ({"voxels": {"cameras": ["top"], "bounds": [[-1, 1], [-2, 2], [0, 1]]}}, "must be square seen from above"),
        ({"voxels": {"cameras": ["top"], "bounds": [[0, 1], [0, 1], [0, 1]]}}, r"centre the grid on it"),
        ({"voxels": {"cameras": []}}, "at least one camera"),
        ({"point_cloud": {"cameras": ["top"], "method": "fps"}}, "expected method farthest or voxel"),
        ({"image": [], "depth": [], "voxels": None, "point_cloud": None}, "nothing is observed"),
    ],
)
def test_bad_settings_say_what_is_wrong(changes, message: str) -> None:
    with pytest.raises(PerceptionError, match=message):
        _settings(**changes)


def test_bad_frames_say_what_is_wrong() -> None:
    frame, perception = _scene(), Perception(_settings())
    with pytest.raises(PerceptionError, match="no frame of camera 'top'; got: front"):
        perception.observe({"front": frame})
    with pytest.raises(
        PerceptionError, match=r"the picture of 'top' is uint8 \(30, 40, 3\), expected uint8 \(40, 40, 3\)"
    ):
        perception.observe({"top": Frame(frame.image[:30], frame.depth, frame.intrinsics, frame.pose)})
    with pytest.raises(PerceptionError, match="the depth of 'top' is none"):
        perception.observe({"top": Frame(frame.image, None, frame.intrinsics, frame.pose)})
