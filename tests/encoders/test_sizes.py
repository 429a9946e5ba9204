"""Sizes that are refused: every size that the message names can be built."""

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from equidiff.encoders import SceneImageEncoder, SceneKeypointEncoder, VoxelEncoder, WristImageEncoder
from equidiff.fields import Displacement, Image, Voxels
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant

C4 = Symmetry(4)


def _spec(side: int) -> Spec:
    fields = (
        Image("top", height=side, width=side),
        Image("wrist", height=side, width=side, view="body"),
        Voxels("voxels", size=side),
    )
    return Spec(Space(fields), Space((Displacement("a"),)), Horizon())


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _named(message: str, side: int) -> list[tuple[int, int | None]]:
    """(side, crop) pairs that a refusal recommends."""
    fix = message.rsplit("; ", 1)[1]
    if "with crop" in fix:
        return [tuple(_numbers(fix))]  # type: ignore[list-item]
    if fix.startswith("use"):
        return [(side, crop) for crop in _numbers(fix)]
    assert fix.startswith("sizes that work near it"), fix
    return [(n, None) for n in _numbers(fix)]


SCENE = partial(SceneImageEncoder, key="top", channels=8)
VOXELS = partial(VoxelEncoder, key="voxels", channels=16, paddings=((0,), (1, 1), (0, 1), (1, 1)))
WRIST = partial(WristImageEncoder, key="wrist", channels=4)


@pytest.mark.parametrize(
    ("make", "sides", "crops"),
    [
        (SCENE, (28, 84, 85), (None, 1, 27, 28, 74, 75, 76)),
        (VOXELS, (33, 64), (None, 25, 26, 57, 58, 63)),
        (partial(SceneKeypointEncoder, key="top", pool=3), (5, 8, 9, 24, 64), ()),
    ],
)
def test_every_size_that_is_named_can_be_built(make: Callable[..., nn.Module], sides, crops) -> None:
    build = lambda side, crop: make(spec=_spec(side), symmetry=C4, **({"crop": crop} if crops else {}))
    refused = {}
    for side in sides:
        for crop in crops or (None,):
            try:
                build(side, crop)
            except ValueError as error:
                refused[side, crop] = str(error)
    assert len(refused) >= 3
    for (side, _), message in refused.items():
        named = _named(message, side)
        assert named, message
        for size, part in named:
            build(size, part)


@pytest.mark.parametrize(
    ("make", "side", "message"),
    [
        (partial(SCENE, crop=76), 85, r"crop=76 of 85 would move.*no crop of 85 works.*use 84 cells with crop=76$"),
        (partial(SCENE, crop=74), 84, r"crop=74 of 84 cells breaks.*; use 28 or 76$"),
        (partial(WRIST, crop=31), 84, r"crop=31 of 84 would move the middle.*; use 34 or 36$"),
        (partial(WRIST, crop=30), 84, r"crop=30 of 84 cells are a single cell.*; use 34 or 36$"),
        (partial(SCENE, stem=2), 81, r"SceneImageEncoder\('top'\).stem: expected 1 or at least 3 cells.*got 2$"),
        (partial(SceneKeypointEncoder, key="top", stem=2), 25, r"SceneKeypointEncoder\('top'\).stem: .*got 2$"),
    ],
)
def test_what_is_refused_and_why(make: Callable[..., nn.Module], side: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(spec=_spec(side), symmetry=C4)


@pytest.mark.parametrize("stem", [1, 3, 4])
def test_other_stems_are_equivariant(stem: int) -> None:
    encoder = SceneKeypointEncoder(_spec(16 + stem - 1), C4, "top", channels=3, widths=(2, 2), keypoints=2, stem=stem)
    assert_equivariant(encoder)
    assert torch.isfinite(encoder(torch.randn(1, 1, 3, 15 + stem, 15 + stem))).all()
