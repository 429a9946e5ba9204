"""Encoders of pictures, grids and clouds: law 3 at every order and size, law 6, and the published sizes."""

import math
import warnings
from functools import partial

import pytest
import torch

from equidiff.encoders import (
    ObservationEncoder,
    PointCloudEncoder,
    SceneImageEncoder,
    StateEncoder,
    VoxelEncoder,
    WristImageEncoder,
)
from equidiff.encoders.pretrained import WeightsError, load_pretrained
from equidiff.fields import Depth, Displacement, Image, PointCloud, Position, Scalars, Voxels
from equidiff.matching import count_parameters
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant

ORDERS = (1, 2, 3, 4, 5, 8, 16)


def _spec(side: int = 24, cells: int = 16, steps: int = 1) -> Spec:
    fields = (
        Image("top_image", height=side, width=side),
        Depth("top_depth", height=side, width=side),
        Image("wrist_image", height=40, width=48, view="body"),
        Voxels("voxels", size=cells),
        PointCloud("point_cloud", points=40, origin="eef_pos"),
        Position("eef_pos"),
        Scalars("gripper", size=2),
    )
    return Spec(Space(fields), Space((Displacement("a"), Scalars("g"))), Horizon(obs=steps))


SCENE = partial(SceneImageEncoder, key="top_image", channels=8, widths=(4, 6), pools=(2, 2), blocks=1)
ENCODERS = {
    "scene": SCENE,
    "scene cropped": partial(SCENE, crop=20),
    "depth": partial(SCENE, key="top_depth"),
    "wrist": partial(WristImageEncoder, key="wrist_image", channels=8),
    "voxels": partial(VoxelEncoder, channels=8, widths=(4, 6), paddings=((1,), (1, 1))),
    "points": partial(PointCloudEncoder, channels=8, widths=(6, 8)),
    "points near": partial(PointCloudEncoder, channels=8, widths=(6,), near=(0.2, 1.0)),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_equivariant(name: str, order: int) -> None:
    assert_equivariant(ENCODERS[name](spec=_spec(steps=2), symmetry=Symmetry(order)))


@pytest.mark.parametrize(("side", "cells"), [(24, 16), (28, 20), (32, 12)])
@pytest.mark.parametrize("name", ["scene", "voxels"])
def test_any_size_that_works_is_equivariant(name: str, side: int, cells: int) -> None:
    assert_equivariant(ENCODERS[name](spec=_spec(side, cells), symmetry=Symmetry(4)))


def test_points_are_exact_between_quarter_turns_too() -> None:
    encoder = ENCODERS["points near"](spec=_spec(), symmetry=Symmetry(8))
    assert_equivariant(encoder, angles=[math.pi / 4, -3 * math.pi / 4])


@pytest.mark.parametrize("order", [1, 4, 8])
@pytest.mark.parametrize("direct", [True, False])
def test_several_encoders_together(order: int, direct: bool) -> None:
    encoders = {name: ENCODERS[name] for name in ("scene", "depth", "wrist", "voxels", "points")}
    if not direct:
        encoders["state"] = partial(StateEncoder, channels=6)
    fused = ObservationEncoder(_spec(steps=2), Symmetry(order), encoders, channels=5, direct=direct)
    assert_equivariant(fused)


def test_a_scene_picture_is_not_invariant_nor_a_plain_network_equivariant() -> None:
    plain = SCENE(spec=_spec(), symmetry=Symmetry(1))
    with pytest.raises(AssertionError, match=r"not equivariant at 90\.0 degrees"):
        assert_equivariant(plain, plain.field, "invariant", Symmetry(4), inputs=[torch.randn(2, 1, 3, 24, 24)])
    order = Symmetry(4)
    encoder = SCENE(spec=_spec(), symmetry=order)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(encoder, encoder.field, "invariant", order, inputs=[torch.randn(2, 1, 3, 24, 24)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            partial(SCENE, pools=(2, 3)),
            r"SceneImageEncoder\('top_image'\): a side of 24 cells .* near it: 10, 22, 28, 34",
        ),
        (partial(SCENE, crop=21), "crop=21 of 24 would move the middle"),
        (partial(SCENE, key="wrist_image"), "cameras that watch the scene"),
        (partial(SCENE, key="top"), "key='top' is not an observed Image or Depth; there are: top_image"),
        (partial(SCENE, pools=(2,)), "as many pools as widths"),
        (partial(ENCODERS["voxels"], crop=13), "crop=13 of 16"),
        (partial(ENCODERS["voxels"], paddings=((0,), (1, 1))), "sizes that work near it: 6, 14, 18, 22"),
        (partial(ENCODERS["voxels"], paddings=((0,),)), "a list of paddings for each width"),
        (partial(ENCODERS["wrist"], key="top_image"), "camera on the gripper"),
        (partial(ENCODERS["wrist"], weights="imagenet"), "need norm=batch"),
        (partial(ENCODERS["wrist"], crop=16), "crop needs a square picture, got 40 x 48"),
        (partial(ENCODERS["wrist"], trunk="resnet81"), "expected trunk in"),
        (partial(ENCODERS["points"], widths=()), "expected one or more numbers of at least 1, got"),
        (partial(ENCODERS["points"], near=(0.0,)), "radii must be > 0"),
    ],
)
def test_what_cannot_work_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(spec=_spec(), symmetry=Symmetry(4))


def test_everything_observed_is_read_and_everything_read_is_observed() -> None:
    spec, order = _spec(), Symmetry(4)
    everything = {name: ENCODERS[name] for name in ("scene", "depth", "wrist", "voxels", "points")}
    state = {"state": partial(StateEncoder, channels=4)}
    with pytest.raises(ValueError, match="nothing reads the observation 'voxels'"):
        ObservationEncoder(spec, order, {k: v for k, v in everything.items() if k != "voxels"}, direct=True)
    with pytest.raises(ValueError, match="nothing reads the vector observations; add an encoder of vectors"):
        ObservationEncoder(spec, order, everything)
    with pytest.raises(ValueError, match="the vectors have an encoder already"):
        ObservationEncoder(spec, order, {**everything, **state}, direct=True)
    with pytest.raises(ValueError, match=r"encoder.activation: expected one of \['none', 'silu'\], got 'relu6'"):
        ObservationEncoder(spec, order, everything, direct=True, activation="relu6")


def test_a_picture_too_small_for_keypoints_is_refused() -> None:
    """A soft maximum over one cell is always in its middle: the features would be constant."""
    spec = Spec(Space((Image("w", height=32, width=32, view="body"),)), Space((Displacement("a"),)), Horizon())
    with pytest.raises(ValueError, match="32 x 32 pixels are a single cell after the trunk"):
        WristImageEncoder(spec, Symmetry(4), "w")


def test_a_single_invariant_encoder_is_an_observation_too() -> None:
    spec = Spec(
        Space((Image("wrist_image", height=40, width=40, view="body"),)), Space((Displacement("a"),)), Horizon()
    )
    encoder = ObservationEncoder(spec, Symmetry(4), {"wrist": ENCODERS["wrist"]}, channels=3)
    assert encoder(torch.zeros(2, 1, 0), {"wrist_image": torch.randn(2, 1, 3, 40, 40)}).shape == (2, 1, 4, 3)


def test_pretrained_weights_come_from_safetensors_and_are_not_asked_for_again(tmp_path) -> None:
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18().eval()
    path = tmp_path / "resnet18.safetensors"
    save_file({k: v for k, v in net.state_dict().items() if "num_batches" not in k}, path)
    make = partial(WristImageEncoder, _spec(), Symmetry(4), "wrist_image", channels=8, norm="batch")
    encoder = make(weights=str(path)).eval()
    assert load_pretrained(torch.nn.ModuleDict({"wrist": encoder})) == ["wrist"]
    picture = torch.rand(1, 3, 40, 48)
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (picture - mean[:, None, None]) / spread[:, None, None]
    want = encoder.keypoints(torch.nn.Sequential(*list(net.children())[:-2])(normal))
    torch.testing.assert_close(encoder(picture[:, None] * 2 - 1)[:, 0], want)
    assert load_pretrained(torch.nn.ModuleDict({"wrist": make()})) == []
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"wrist.weights: .* does not fit a resnet18: 'bn1.bias' is missing"):
        load_pretrained(torch.nn.ModuleDict({"wrist": encoder}))
    with pytest.raises(WeightsError, match="no such file"):
        load_pretrained(torch.nn.ModuleDict({"wrist": make(weights="nowhere.safetensors")}))
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsError, match=r"wrist.weights: .* cannot be read .*; expected safetensors"):
        load_pretrained(torch.nn.ModuleDict({"wrist": make(weights=str(path))}))


def test_pretrained_weights_without_a_network_are_explained(monkeypatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub\nMore about it: ...")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    encoder = WristImageEncoder(_spec(), Symmetry(4), "wrist_image", channels=4, norm="batch", weights="imagenet")
    with pytest.raises(WeightsError, match=r"wrist.weights=imagenet: .*\(ConnectionError: no route to the hub\)"):
        load_pretrained(torch.nn.ModuleDict({"wrist": encoder}))


def _published(**fields) -> Spec:
    return Spec(Space((*fields.values(), Position("p"))), Space((Displacement("a"),)), Horizon())


def test_the_published_scene_encoder_is_the_plain_composition_in_escnn() -> None:
    """A quarter of the published width, otherwise its layers, written with escnn; and its full size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from escnn import gspaces
        from escnn import nn as en

        spec, n = _published(a=Image("a", height=84, width=84)), 32
        ours = SceneImageEncoder(spec, Symmetry(8), "a", channels=n, widths=(n // 8, n // 4, n // 2, n), crop=76).eval()
        space = gspaces.rot2dOnR2(8)

        def regular(count: int) -> en.FieldType:
            return en.FieldType(space, [space.regular_repr] * count)

        def conv(inside: en.FieldType, layer) -> en.R2Conv:
            theirs = en.R2Conv(
                inside,
                regular(layer.outputs),
                layer.kernel,
                padding=layer.padding,
                bias=layer.bias is not None,
                initialize=False,
            )
            with torch.no_grad():
                theirs.weights.copy_(layer.weight.flatten())
                if layer.bias is not None:
                    theirs.bias.copy_(layer.bias.normal_() * math.sqrt(8))
            return theirs

        torch.manual_seed(0)
        picture = torch.rand(1, 3, 84, 84) * 2 - 1
        colours = en.FieldType(space, [space.trivial_repr] * 3)
        x = conv(colours, ours.stem)(en.GeometricTensor(picture[..., 4:80, 4:80], colours))
        x = en.ReLU(x.type)(x)
        for stage, pool in zip(ours.stages, (2, 2, 2, 3), strict=True):
            for block in stage:
                y = conv(x.type, block.first)(x)
                y = conv(y.type, block.second)(en.ReLU(y.type)(y))
                x = y + (x if isinstance(block.skip, torch.nn.Identity) else conv(x.type, block.skip)(x))
                x = en.ReLU(x.type)(x)
            x = en.PointwiseMaxPool2D(x.type, pool)(x)
        x = conv(x.type, ours.last)(x)
        want = en.ReLU(x.type)(x).tensor.view(1, 1, n, 8).transpose(-1, -2)
    got, want = ours(picture[:, None]).detach(), want.detach()
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))
    assert count_parameters(SceneImageEncoder(spec, Symmetry(8), "a", crop=76)) == 4_535_904


def test_published_sizes_of_the_others() -> None:
    spec = _published(v=Voxels("v"), w=Image("w", height=84, width=84, view="body"))
    cropped = VoxelEncoder(spec, Symmetry(8), "v", paddings=((0,), (1, 1), (0, 1), (1, 1)), crop=58)
    assert cropped(torch.rand(1, 1, 4, 64, 64, 64)).shape == (1, 1, 8, 128)
    assert count_parameters(cropped) == count_parameters(VoxelEncoder(spec, Symmetry(8), "v")) == 1_301_160
    assert count_parameters(WristImageEncoder(spec, Symmetry(8), "w", crop=76)) == 11_199_744


@pytest.mark.parametrize("order", [1, 4])
@pytest.mark.parametrize("kind", ["picture", "voxels"])
def test_every_size_is_built_or_refused_with_those_that_work(kind: str, order: int) -> None:
    built = []
    for side in range(8, 101):
        try:
            if kind == "picture":
                SceneImageEncoder(_spec(side=side), Symmetry(order), "top_image", channels=8)
            else:
                VoxelEncoder(_spec(cells=side), Symmetry(order), "voxels", channels=16)
        except ValueError as error:
            words = str(error)
            assert "sizes that work near it" in words or "no size works" in words, (side, words)
            continue
        built.append(side)
    assert len(built) > 1
