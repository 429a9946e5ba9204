"""Pictures, grids and clouds: storage, laws, and what turning means."""

import math

import pytest
import torch

from equidiff.fields import Depth, FieldError, Image, PointCloud, Position, Scalars, Voxels, field_from_json
from equidiff.fields.grids import turn_picture
from equidiff.spec import Space, Spec, SpecError


def test_a_picture_turns_counter_clockwise() -> None:
    picture = torch.zeros(1, 5, 5)
    picture[0, 2, 4] = 1  # right of the middle
    assert turn_picture(picture, math.pi / 2)[0, 0, 2] == 1  # above it
    half = turn_picture(picture.double(), math.pi / 4 * torch.ones(()))
    row, column = divmod(int(half.argmax()), 5)
    assert (row, column) == (1, 3)


def test_angles_between_are_close_to_the_exact_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, 9, 9, generator=generator, dtype=torch.float64)
    angles = torch.tensor([math.pi / 2, -math.pi / 2], dtype=torch.float64)
    turned = turn_picture(picture, angles)  # one angle each: the interpolating path
    torch.testing.assert_close(turned[0], torch.rot90(picture[0], 1, (-2, -1)))
    torch.testing.assert_close(turned[1], torch.rot90(picture[1], -1, (-2, -1)))


def test_what_comes_from_outside_is_black_or_far() -> None:
    image, depth = Image("image", height=6, width=6), Depth("depth", height=6, width=6)
    bright = image.turn(image.decode({image.key: torch.full(image.shape, 255, dtype=torch.uint8)}), math.pi / 4)
    assert bright.amin() < -0.4
    near = depth.turn(depth.decode({depth.key: torch.full(depth.shape, 1000, dtype=torch.uint16)}), math.pi / 4)
    assert near.amax() > 0.4
    nothing = depth.decode({depth.key: torch.zeros(depth.shape, dtype=torch.uint16)})
    assert bool((nothing == 1).all())


def test_a_cloud_turns_about_the_workspace_centre_or_its_origin() -> None:
    cloud = PointCloud("c", points=1, origin="p", scale=0.5).with_centre((1.0, 0.0))
    raw = {"c": torch.tensor([[[2.0, 0.0, 0.3, 0.0, 0.5, 1.0]]]), "p": torch.tensor([[1.5, 0.0, 0.1]])}
    seen = cloud.decode(raw)
    torch.testing.assert_close(seen, torch.tensor([[[1.0, 0.0, 0.4, -1.0, 0.0, 1.0]]]))
    stored, position = cloud.sources
    assert isinstance(position, Position)
    turned = stored.rotate(raw["c"], math.pi / 2)
    torch.testing.assert_close(turned[0, 0, :3], torch.tensor([1.0, 1.0, 0.3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Image("a", height=4, width=5), "must be square to turn, got height 4, width 5"),
        (lambda: Image("a", height=0, width=5, view="body"), "height must be an integer from 1 to 4096"),
        (lambda: Image("a", view="scnee"), "view must be 'scene'"),
        (lambda: Depth("a", near=2.0, far=1.0), "0 <= near < far"),
        (lambda: Voxels("a", size=100000), "size must be an integer from 1 to 512"),
        (lambda: PointCloud("a", points=-1), "points must be an integer"),
        (lambda: PointCloud("a", scale=0.0), "scale must be > 0"),
        (lambda: field_from_json({"kind": "Image", "key": "a", "hieght": 3}), "did you mean 'height'"),
    ],
)
def test_bad_declarations_say_what_is_wrong(make, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        make()


def test_a_spec_with_pictures_checks_what_is_stored() -> None:
    spec = Spec(
        observation=Space((Image("cam_image", height=4, width=4), Scalars("grip"))), action=Space((Scalars("a"),))
    )
    assert spec.observation.irreps.size == 1
    assert list(spec.observation.arrays) == ["cam_image"]
    good = {"cam_image": torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8), "grip": torch.zeros(2, 1, 1)}
    spec.check_observation(good)
    spec.check_observation({**good, "cam_image": good["cam_image"].float()})
    with pytest.raises(SpecError, match=r"'cam_image' has dtype torch.int64, expected torch.uint8 or floating point"):
        spec.check_observation({**good, "cam_image": good["cam_image"].long()})
    with pytest.raises(SpecError, match=r"'cam_image' has shape \(2, 1, 3, 4, 4\), expected \(B, 1, 4, 4, 3\)"):
        spec.check_observation({**good, "cam_image": good["cam_image"].permute(0, 1, 4, 2, 3)})
    assert Spec.from_json(spec.to_json()) == spec
    turned = spec.rotate_observation(good, torch.tensor([0.1, math.pi]))
    assert turned["cam_image"].dtype == torch.uint8


def test_pictures_alone_are_an_observation_too() -> None:
    space = Space((Image("cam_image", height=4, width=4),))
    raw = {"cam_image": torch.zeros(3, 2, 4, 4, 3, dtype=torch.uint8)}
    assert space.decode(raw).shape == (3, 2, 0)
    assert space.decode_arrays(raw)["cam_image"].shape == (3, 2, 3, 4, 4)


def test_a_picture_cannot_be_an_action() -> None:
    with pytest.raises(SpecError, match="can only be an observation"):
        Spec(observation=Space((Scalars("a"),)), action=Space((Image("cam_image"),)))
