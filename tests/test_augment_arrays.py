"""Augmentation of pictures, grids and clouds: consistent with the spec, exact where it can be, refused where not."""

import math
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from law_toys import ACTIONS, CONFIGS, config, make, random_batch
from torch import Tensor

from equidiff.augment import Augmentation, ColourJitter, Compose, RandomCrop, RandomRotation
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.fields import Depth, Image, PointCloud, Position, RelativePosition, Rotation, Scalars, Voxels
from equidiff.fields.grids import slide_picture, turn_picture
from equidiff.fields.presets import (
    EEF_POSITION,
    EEF_ROTATION,
    absolute_action,
    relative_action,
    relative_trajectory_action,
)
from equidiff.spec import Batch, Horizon, Space, Spec, Workspace

ACTION_FIELDS = {
    "absolute": absolute_action(),
    "relative": relative_action(),
    "relative_matrix": relative_action(as_matrix=True),
    "relative_trajectory": relative_trajectory_action("world"),
    "gripper_trajectory": relative_trajectory_action("gripper"),
}


def _spec(action: str = "absolute", overhead: bool = True, cells: int = 8, side: int = 8) -> Spec:
    fields = (
        Image("top_image", height=side, width=side, overhead=overhead),
        Depth("top_depth", height=side, width=side, overhead=overhead),
        Image("wrist_image", height=6, width=9, view="body"),
        Voxels("voxels", size=cells),
        PointCloud("near", points=7, origin=EEF_POSITION),
        PointCloud("table", points=7, scale=0.5),
        Position(EEF_POSITION),
        Rotation(EEF_ROTATION),
        RelativePosition("cube_pos", EEF_POSITION),
        Scalars("gripper", size=2),
    )
    return Spec(
        Space(fields), Space(ACTION_FIELDS[action]), Horizon(obs=2, predict=4, execute=2), Workspace((0.1, -0.2))
    )


def _decoded(spec: Spec, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    obs = batch["obs"]
    arrays = {name: x.double() for name, x in spec.observation.decode_arrays(obs).items()}
    return spec.observation.decode(obs), arrays, spec.decode_action(batch["action"], obs)


def _batch(spec: Spec, count: int = 6) -> Batch:
    batch = random_batch(spec, count, dtype=torch.float64)
    for key, source in spec.observation.sources.items():
        if source.dtype is not None:
            batch["obs"][key] = batch["obs"][key].to(source.dtype)
    return batch


def _assert_same(got: tuple[Any, ...], want: tuple[Any, ...], atol: float = 1e-9) -> None:
    for a, b in ((got[0], want[0]), (got[2], want[2])):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)
    assert got[1].keys() == want[1].keys()
    for name in want[1]:
        torch.testing.assert_close(got[1][name], want[1][name], rtol=0, atol=atol)


@pytest.mark.parametrize("action", ACTION_FIELDS)
@pytest.mark.parametrize("order", [None, 4, 8])
def test_turned_features_are_those_of_the_turned_batch(
    action: str, order: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(action)
    batch = _batch(spec)
    rotation = RandomRotation(order=order)
    angles = rotation.angles(6)
    monkeypatch.setattr(rotation, "angles", lambda count, device: angles)
    got = rotation(spec, *_decoded(spec, batch))
    turned = spec.rotate(batch, angles)
    if order == 4:
        _assert_same(got, _decoded(spec, turned))
        return
    # uint8 rounds what is interpolated; what is a vector or a point is exact
    want = _decoded(spec, turned)
    _assert_same((got[0], {}, got[2]), (want[0], {}, want[2]))
    for name in ("near", "table", "wrist_image"):
        torch.testing.assert_close(got[1][name], want[1][name], rtol=0, atol=1e-9)
    torch.testing.assert_close(got[1]["top_image"], want[1]["top_image"], rtol=0, atol=0.6 / 127.5)
    torch.testing.assert_close(got[1]["voxels"], want[1]["voxels"], rtol=0, atol=0.6 / 255)


def test_quarter_turns_of_each_sample_move_pixels_exactly() -> None:
    picture = torch.rand(8, 3, 5, 5)
    turns = torch.arange(8) - 4
    for dtype in (torch.float32, torch.float64):
        turned = turn_picture(picture, turns.to(dtype) * (math.pi / 2))
        for one, was, n in zip(turned, picture, turns.tolist(), strict=True):
            assert torch.equal(one, torch.rot90(was, n, (-2, -1)))
    mixed = turn_picture(picture, torch.tensor([0.0, 0.3] * 4, dtype=torch.float64))
    assert torch.equal(mixed[::2], picture[::2])
    torch.testing.assert_close(mixed[1], turn_picture(picture[1], 0.3))


def test_the_angles_of_an_order_are_its_elements() -> None:
    torch.manual_seed(0)
    for order, maximum, want in [
        (4, math.pi, {-1, 0, 1, 2}),
        (8, math.pi / 2, {-2, -1, 0, 1, 2}),
        (3, 2.2, {-1, 0, 1}),
    ]:
        steps = RandomRotation(maximum, order).angles(400) * order / (2 * math.pi)
        assert {round(float(s)) for s in steps} == want
        torch.testing.assert_close(steps, steps.round())
    with pytest.raises(ValueError, match=r"steps of 2\*pi/order within maximum, got order=4, maximum=1.0"):
        RandomRotation(1.0, order=4)


@pytest.mark.parametrize(
    "augmentation",
    [
        RandomRotation(),
        RandomRotation(order=4),
        RandomCrop(0.2, {"top_image": 0.8, "top_depth": 0.8, "voxels": 0.8}, body=2),
        ColourJitter(),
    ],
    ids=lambda a: type(a).__name__,
)
def test_the_input_is_never_changed(augmentation: Augmentation) -> None:
    spec = _spec()
    augmentation.check(spec)
    observation, arrays, action = _decoded(spec, _batch(spec))
    arrays = {name: x.float() for name, x in arrays.items()}
    kept = observation.clone(), {name: x.clone() for name, x in arrays.items()}, action.clone()
    got = augmentation(spec, observation, arrays, action)
    assert torch.equal(observation, kept[0])
    assert torch.equal(action, kept[2])
    assert all(torch.equal(arrays[name], kept[1][name]) for name in arrays)
    assert got[1].keys() == arrays.keys()
    assert any(not torch.equal(got[1][name], arrays[name]) for name in arrays)


def _moved(batch: Batch, metres: Tensor, spec: Spec, action: str) -> Batch:
    """The stored batch of a scene that lies `metres` (B, 2) further, without grids."""
    shift = torch.cat([metres, torch.zeros(len(metres), 1, dtype=torch.float64)], -1)
    obs = dict(batch["obs"])
    for key in (EEF_POSITION, "cube_pos"):
        obs[key] = obs[key] + shift[:, None]
    for key in ("near", "table"):
        obs[key] = torch.cat([obs[key][..., :3] + shift[:, None, None], obs[key][..., 3:]], -1)
    actions = batch["action"].clone()
    if not action.startswith("relative") or "trajectory" in action:
        actions[..., :3] += shift[:, None]
    return {"obs": obs, "action": actions}


@pytest.mark.parametrize("action", ACTION_FIELDS)
def test_a_crop_is_a_movement_of_the_whole_scene(action: str) -> None:
    spec = _spec(action)
    batch = _batch(spec)
    before = _decoded(spec, batch)
    torch.manual_seed(1)
    crop = RandomCrop(0.25, {"top_image": 0.8, "top_depth": 0.8, "voxels": 0.8})
    crop.check(spec)
    got = crop(spec, *before)
    at = spec.observation.slices()[[f.name for f in spec.observation.fields].index(EEF_POSITION)]
    metres = (got[0] - before[0])[:, 0, at][:, :2]
    cells = (metres / 0.1).round()
    torch.testing.assert_close(metres, cells * 0.1, rtol=0, atol=1e-9)
    assert cells.abs().max() == 2
    want = _decoded(spec, _moved(batch, metres, spec, action))
    kept = {name: got[1][name] for name in ("near", "table")}
    _assert_same((got[0], kept, got[2]), (want[0], {name: want[1][name] for name in kept}, want[2]))
    assert torch.equal(got[1]["wrist_image"], before[1]["wrist_image"])
    for sample, (right, up) in enumerate(cells.long().tolist()):
        for name in ("top_image", "top_depth", "voxels"):
            shifted = got[1][name][sample].roll((up, -right), (-2, -1))  # back to where it was
            inside = (..., slice(2, 6), slice(2, 6))
            assert torch.equal(shifted[inside], before[1][name][sample][inside]), name


def test_it_moves_a_point_and_its_voxel_alike() -> None:
    """One occupied cell: after the crop it is the cell of the moved point."""
    spec = Spec(
        Space((Voxels("voxels", size=8), PointCloud("cloud", points=1, colour=False, scale=1.0))),
        Space(absolute_action()),
    )
    crop, grid = RandomCrop(0.3, {"voxels": 0.8}), torch.zeros(40, 1, 4, 8, 8, 8)
    grid[..., 3, 4, 4] = 1  # y in [-0.1, 0], x in [0, 0.1]
    point = torch.tensor([0.05, -0.05, 0.0]).expand(40, 1, 1, 3)
    _, arrays, _ = crop(spec, torch.zeros(40, 1, 0), {"voxels": grid, "cloud": point}, torch.zeros(40, 16, 10))
    x, y = arrays["cloud"][:, 0, 0, 0], arrays["cloud"][:, 0, 0, 1]
    found = arrays["voxels"][:, 0, 0].nonzero()
    assert len(found) == 40
    assert torch.equal(found[:, 2], 3 - (y / 0.1).floor().long())
    assert torch.equal(found[:, 3], 4 + (x / 0.1).floor().long())
    assert len({tuple(cell) for cell in found[:, 2:].tolist()}) > 10


def test_parts_of_a_cell_are_interpolated_and_edges_are_empty() -> None:
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 2, 1] = 1
    moved = slide_picture(picture, torch.tensor([[0.5, 0.0]]))
    assert moved[0, 0, 2].tolist() == [0, 0.5, 0.5, 0]
    moved = slide_picture(picture, torch.tensor([[1.0, 1.0]]), fill=-1.0)
    assert moved[0, 0].tolist() == [[-1, 0, 0, 0], [-1, 0, 1, 0], [-1, 0, 0, 0], [-1, -1, -1, -1]]
    assert torch.equal(slide_picture(picture, torch.zeros(1, 2)), picture)


@pytest.mark.parametrize(
    ("crop", "spec", "message"),
    [
        (
            RandomCrop(),
            _spec(overhead=False),
            r"'top_image' is the picture of a tilted camera.*random_crop.*overhead=true",
        ),
        (RandomCrop(), _spec(), r"how many metres does a side of 'top_image' cover\? Set side.top_image=\.\.\."),
        (RandomCrop(side={"voxel": 1.0}), _spec(), "did you mean 'voxels'"),
        (
            RandomCrop(0.05, {"top_image": 0.8, "top_depth": 0.8, "voxels": 0.8}),
            _spec(),
            r"0.05 m is less than a cell of 'top_image', 0.1 m",
        ),
        (
            RandomCrop(body=0),
            Spec(Space((RelativePosition("cube", "eef"),)), Space(relative_action())),
            "nothing would move",
        ),
    ],
)
def test_crops_that_cannot_be_consistent_are_refused(crop: RandomCrop, spec: Spec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop.check(spec)


@pytest.mark.parametrize(
    "arguments", [{"shift": 0.0}, {"shift": math.nan}, {"body": -1}, {"body": 0.5}, {"side": {"voxels": -1.0}}]
)
def test_settings_of_a_crop_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"RandomCrop\..*expected"):
        RandomCrop(**arguments)


def _published_voxels(*words: str) -> Any:
    groups = ["experiment=equidiff_voxel_abs", "task=stack_d1", "augment=crop", "data.path=none"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree = compose(
            "train", [*groups, "obs.fields.wrist=[]", "~encoder.encoders.wrist", "encoder.channels=16", *words]
        )
    return make_policy(policy_tree(tree), make_spec(tree))


def test_a_second_crop_that_leaves_the_poses_is_refused() -> None:
    """Small enough to be built: 32 cells and a denoiser of two narrow levels."""
    small = ("obs.fields.size=32", "encoder.encoders.voxels.crop=26", "denoiser.widths=[8,16]")
    side, still = "+augment.side.voxels=0.8", "encoder.encoders.voxels.random_crop=false"
    with pytest.raises(
        ValueError, match=r"encoder of 'voxels' \(encoders.voxels\) has random_crop=true.*random_crop=false"
    ):
        _published_voxels(*small, side)
    assert _published_voxels(*small, side, still).augment.side == {"voxels": 0.8}
    with pytest.raises(ValueError, match=r"side.voxels: got 0.3 m, but .* 0.8 m.*task.bounds"):
        _published_voxels(*small, "+augment.side.voxels=0.3", still)
    with pytest.raises(ValueError, match=r"Set side.voxels=0.8"):
        _published_voxels(*small, still)


def test_colours_change_per_sample_and_turns_can_be_exchanged() -> None:
    spec = _spec()
    observation, arrays, action = _decoded(spec, _batch(spec))
    arrays = {name: x.float() for name, x in arrays.items()}
    jitter = ColourJitter()
    torch.manual_seed(0)
    _, changed, _ = jitter(spec, observation, arrays, action)
    turned = {"top_image": torch.rot90(arrays["top_image"], 1, (-2, -1))}
    torch.manual_seed(0)
    _, first, _ = jitter(spec, observation, {"top_image": arrays["top_image"]}, action)
    torch.manual_seed(0)
    _, after, _ = jitter(spec, observation, turned, action)
    torch.testing.assert_close(after["top_image"], torch.rot90(first["top_image"], 1, (-2, -1)), rtol=0, atol=1e-6)
    for name in ("top_depth", "voxels", "near"):
        assert torch.equal(changed[name], arrays[name])
    assert changed["wrist_image"].min() >= -1
    assert changed["wrist_image"].max() <= 1
    same = arrays["top_image"][:1].expand(6, -1, -1, -1, -1)
    _, different, _ = jitter(spec, observation, {"top_image": same}, action)
    assert len({float(x.mean()) for x in different["top_image"]}) == 6
    with pytest.raises(ValueError, match="no colour picture is observed"):
        jitter.check(make_spec(config()))


def test_several_augmentations_one_after_another() -> None:
    spec = _spec()
    parts = {"crop": RandomCrop(0.2, {"top_image": 0.8, "top_depth": 0.8, "voxels": 0.8}), "turn": None}
    both = Compose({**parts, "turn": RandomRotation(order=4)})
    both.check(spec)
    decoded = _decoded(spec, _batch(spec))
    torch.manual_seed(0)
    got = both(spec, *decoded)
    torch.manual_seed(0)
    want = RandomRotation(order=4)(spec, *parts["crop"](spec, *decoded))
    _assert_same(got, want, atol=0)
    with pytest.raises(ValueError, match="tilted"):
        both.check(_spec(overhead=False))
    assert list(Compose(parts).parts) == ["crop"]
    with pytest.raises(ValueError, match=r"Compose.parts.x: expected an augmentation, got 3"):
        Compose({"x": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(("action", "order"), [*((action, 8) for action in ACTIONS), ("absolute", 4)])
def test_an_equivariant_policy_cannot_tell_turned_samples(
    action: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the angles of its group and noise that turns along, its loss is the same; a plain policy's is not."""
    rotation, draw = RandomRotation(order=order), torch.randn
    angles = rotation.angles(16)
    monkeypatch.setattr(rotation, "angles", lambda count, device: angles)

    def loss(policy: Any, turned: bool) -> float:
        irreps, batch = policy.spec.action.irreps, random_batch(policy.spec, 16, dtype=torch.float64)
        policy.augment = rotation if turned else None

        def noise(*size: Any, **options: Any) -> Tensor:
            drawn = draw(*size, **options)
            return irreps.rotate(drawn, angles[:, None]) if turned else drawn

        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr("equidiff.diffusion.torch.randn", noise)
            torch.manual_seed(3)
            return float(policy.loss(batch))

    equivariant, plain = make(8, action=action).double().train(), make(1, action=action).double().train()
    assert loss(equivariant, True) == pytest.approx(loss(equivariant, False), rel=1e-9)
    assert loss(plain, True) != pytest.approx(loss(plain, False), rel=1e-3)


@pytest.mark.parametrize("name", ["quarter_turns", "rotation", "crop", "rotation_crop"])
def test_config_groups(name: str) -> None:
    policy = make(4, ["obs.fields.absolute=true"], augment=name).train()
    assert float(policy.loss(random_batch(policy.spec)).detach()) > 0
    if name == "crop":
        with pytest.raises(ValueError, match="nothing would move"):
            make(4, augment=name, action="relative_trajectory")


def test_pictures_config() -> None:
    composed = config(augment="pictures", obs="image", encoder="plain_image", overrides=["symmetry.order=1"])
    policy = make_policy(policy_tree(composed), make_spec(composed))
    assert isinstance(policy.augment, Compose)
    assert list(policy.augment.parts) == ["colour", "rotation"]
