"""Keypoints of the gripper's camera: they do not change when the scene turns, and tell where something is."""

import pytest
import torch

from equidiff.encoders import KeypointEncoder, ObservationEncoder
from equidiff.fields import Depth, Displacement, Image
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant


def _spec(side: int = 28) -> Spec:
    fields = (
        Image("top_image", height=side, width=side),
        Image("wrist_image", height=40, width=24, view="body"),
        Depth("wrist_depth", height=40, width=24, view="body"),
    )
    return Spec(Space(fields), Space((Displacement("a"),)), Horizon(obs=2))


@pytest.mark.parametrize("key", ["wrist_image", "wrist_depth"])
def test_keypoints_are_invariant_and_see_where_something_is(key: str) -> None:
    encoder = KeypointEncoder(_spec(), Symmetry(8), key, channels=6, widths=(4, 8))
    assert_equivariant(encoder)
    left = torch.zeros(1, 2, *encoder.field.features)
    left[..., 8:16, 2:8] = 1
    with torch.no_grad():
        for layer in (*encoder.layers, encoder.keypoints.maps):  # bright things attract keypoints
            layer.weight.fill_(20 / layer.weight[0].numel())
        x_left, x_right = (encoder(p).view(1, 2, 3, 2)[..., 0] for p in (left, left.flip(-1)))
    assert encoder(left).shape == (1, 2, 6)
    assert (x_right > x_left + 0.1).all()


def test_keypoints_join_other_encoders() -> None:
    spec = Spec(Space((Image("w", height=32, width=32, view="body"),)), Space((Displacement("a"),)), Horizon())
    fused = ObservationEncoder(spec, Symmetry(4), {"w": lambda **k: KeypointEncoder(**k, key="w")}, channels=3)
    assert fused(torch.zeros(2, 1, 0), {"w": torch.randn(2, 1, 3, 32, 32)}).shape == (2, 1, 4, 3)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("top_image", {}, "camera on the gripper"),
        ("wrist_image", {"channels": 5}, "an even number of channels"),
        ("wrist_image", {"kernel": 4}, "an odd kernel"),
        ("wrist_image", {"widths": ()}, "widths >= 1"),
        ("wrist_image", {"widths": (2,) * 5}, "40 x 24 pixels halved 5 times are a single cell"),
        ("wrist", {}, "there are: top_image, wrist_image, wrist_depth"),
    ],
)
def test_what_cannot_work_is_refused(key: str, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeypointEncoder(_spec(), Symmetry(4), key, **change)
