"""Keypoints of a picture of the scene are regular features: they turn with it, and tell where something is."""

import math

import pytest
import torch

from equidiff.encoders import SceneKeypointEncoder
from equidiff.fields import Depth, Displacement, Image
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant


def _spec(side: int = 24) -> Spec:
    fields = (
        Image("top_image", height=side, width=side),
        Depth("top_depth", height=side, width=side),
        Image("wrist_image", height=40, width=40, view="body"),
    )
    return Spec(Space(fields), Space((Displacement("a"),)), Horizon(obs=2))


@pytest.mark.parametrize("order", [1, 2, 3, 4, 8])
def test_they_turn_with_the_scene(order: int) -> None:
    encoder = SceneKeypointEncoder(
        _spec(), Symmetry(order), "top_image" if order < 8 else "top_depth", channels=6, widths=(2, 2, 3), keypoints=4
    )
    assert_equivariant(encoder)


@pytest.mark.parametrize(("side", "stem", "pool"), [(24, 5, 2), (25, 5, 3), (20, 3, 1), (32, 5, 4)])
def test_any_size_that_works_is_equivariant(side: int, stem: int, pool: int) -> None:
    make = SceneKeypointEncoder(_spec(side), Symmetry(4), "top_image", widths=(2,), keypoints=3, stem=stem, pool=pool)
    assert_equivariant(make)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [6, 100])
def test_positions_are_nearly_exact_at_an_eighth_turn_too(seed: int, sharpness: int) -> None:
    """At 45 degrees maps are interpolated, but where something round is, in the right frames, stays as it should."""
    torch.manual_seed(seed)
    encoder = SceneKeypointEncoder(
        _spec(44), Symmetry(8), "top_image", widths=(2,), keypoints=3, stem=5, pool=1
    ).double()
    found: list[torch.Tensor] = []
    encoder.mix.register_forward_pre_hook(lambda _, given: found.append(given[0].detach()[..., :6]))
    for angle in (0.0, math.pi / 4):
        x, y = 0.5 * math.cos(angle + 0.3), 0.5 * math.sin(angle + 0.3)
        line = torch.linspace(-1, 1, 44, dtype=torch.float64)
        rows, columns = torch.meshgrid(-line, line, indexing="ij")
        blob = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.02)
        encoder((sharpness * blob).expand(1, 1, 3, 44, 44))
    want = Symmetry(8).act(found[0], 1)
    assert (found[1] - want).abs().max() < 0.15 * (found[0] - want).abs().max()


def test_places_are_seen_in_the_frame_of_each_rotation() -> None:
    encoder = SceneKeypointEncoder(_spec(), Symmetry(4), "top_image", widths=(1,), keypoints=1)
    maps = torch.zeros(1, 4, 1, 100)
    maps[..., 15] = 50.0  # row 1, column 5 of 10
    found = maps.softmax(-1) @ encoder.frames
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([1 / 9, 7 / 9]))
    torch.testing.assert_close(found[0, 1, 0], torch.tensor([7 / 9, -1 / 9]))  # seen from the frame at 90 degrees


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("wrist_image", {}, "cameras that watch the scene"),
        ("top_image", {"pool": 3}, "sizes that work near it: 22, 25"),
        ("top_image", {"widths": ()}, r"widths=\[\]"),
        ("top_image", {"keypoints": 0}, "keypoints=0"),
    ],
)
def test_what_cannot_work_is_refused(key: str, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneKeypointEncoder(_spec(), Symmetry(4), key, **change)
