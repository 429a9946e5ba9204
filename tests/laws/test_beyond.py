"""Laws of what goes beyond C_N: continuous features, strict and soft symmetry, frame averaging."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from law_toys import ACTIONS, config, make, random_batch
from test_sampler import _error
from torch import nn

from equidiff.checkpoint import load_policy, save_checkpoint
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.denoisers import SO2MLP
from equidiff.encoders import FrameAveraged, ObservationEncoder, SceneImageEncoder, SO2StateEncoder, StateEncoder
from equidiff.encoders import PointCloudEncoder as Points
from equidiff.encoders import VoxelEncoder as Grid
from equidiff.encoders import WristImageEncoder as Ordinary
from equidiff.fields import Displacement, Image, PointCloud, Position, Scalars, Voxels
from equidiff.nn import band
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Horizon, Space, Spec
from equidiff.symmetry import Symmetry
from equidiff.testing import assert_equivariant

SO2 = {"encoder": "so2_state", "denoiser": "so2_mlp"}
ANY_ANGLE = [math.pi / 4, 0.1234, -2.7]


def _policy(order: int, overrides: Sequence[str] = (), **groups: str) -> DiffusionPolicy:
    composed = config(order, overrides, **groups)
    return make_policy(policy_tree(composed), make_spec(composed))


# -- continuous features -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4, 8, 16])
def test_so2_denoiser_after_an_encoder_of_a_finite_group(order: int) -> None:
    for history in (1, 2):
        denoiser = _policy(order, [f"obs.horizon={history}"], denoiser="so2_mlp").denoiser
        assert_equivariant(denoiser)
    assert_equivariant(denoiser, dtype=torch.float32)


@pytest.mark.parametrize("action", ACTIONS)
def test_so2_denoiser_at_any_angle(action: str) -> None:
    """The condition as samples of functions that turn by any angle."""
    policy = _policy(16, action=action, **SO2)
    denoiser, irreps = policy.denoiser, policy.spec.action.irreps
    assert isinstance(denoiser, SO2MLP)

    class OfCoefficients(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = denoiser

        def forward(self, noisy: torch.Tensor, step: torch.Tensor, functions: torch.Tensor) -> torch.Tensor:
            values = self.inner.fourier.values(functions.unflatten(-1, (denoiser.condition_channels, -1)))
            return self.inner(noisy, step, values.transpose(-1, -2))

    law = band(denoiser.fourier.frequencies, denoiser.condition_channels)
    inputs = [torch.randn(3, 8, irreps.size), torch.tensor([1, 50, 99]), torch.randn(3, 1, law.size)]
    assert_equivariant(
        OfCoefficients(), [irreps, "invariant", law], irreps, policy.symmetry, inputs=inputs, angles=ANY_ANGLE
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_a_whole_policy_at_any_angle(action: str) -> None:
    policy = make(16, ["encoder.encoders.state.layers=1"], action=action, **SO2)
    for angle in (math.pi / 4, 1.234):
        assert _error(policy, angle) < 1e-8


def test_so2_encoder_and_what_breaks_the_continuity() -> None:
    encoder = make(16, **SO2).encoder
    assert_equivariant(encoder)
    assert_equivariant(encoder.encoders["state"])
    # an encoder of C_8 in front, or a pointwise activation of the samples: its own angles only
    for overrides, groups in (([], {"denoiser": "so2_mlp"}), (["encoder.activation=silu"], SO2)):
        policy = make(16, overrides, **groups)
        assert _error(policy, math.pi / 8) < 1e-8
        assert _error(policy, 1.234) > 1e-6


def test_the_fourier_nonlinearity_in_a_policy() -> None:
    policy = make(16, ["denoiser.nonlinearity=fourier", "denoiser.samples=16"], **SO2)
    assert _error(policy, math.pi / 8) < 1e-8
    assert 1e-9 < _error(policy, 1.234) < 0.2


def test_so2_parts_refuse_what_they_cannot_hold() -> None:
    spec = make_spec(config())
    with pytest.raises(ValueError, match=r"symmetry.order to 9 or more, e.g. symmetry=c16"):
        SO2StateEncoder(spec, Symmetry(8))
    with pytest.raises(ValueError, match=r"observations have blocks of frequency 4, which would be lost"):
        SO2StateEncoder(spec, Symmetry(16), frequencies=3)
    with pytest.raises(ValueError, match=r"without symmetry \(order 1\)"):
        SO2MLP(spec, Symmetry(1), 4)
    relative = make_spec(config(action="relative_matrix"))
    with pytest.raises(ValueError, match=r"blocks of frequency 2; set it to 2 or more, got 1"):
        SO2MLP(relative, Symmetry(8), 4, frequencies=1)
    with pytest.raises(ValueError, match="blocks: expected at least 1"):
        SO2MLP(spec, Symmetry(8), 4, blocks=0)


def test_so2_learns() -> None:
    policy = _policy(16, **SO2)
    policy.fit([random_batch(policy.spec, 20, seed=1)])
    losses = _train(policy, 60)
    assert losses[-1] < 0.6 * losses[0]


def _train(policy: DiffusionPolicy, steps: int, rate: float = 5e-3) -> list[float]:
    """Losses on one batch; of the first and the last ten steps."""
    batch, optimizer = random_batch(policy.spec, 16), torch.optim.Adam(policy.parameters(), lr=rate)
    torch.manual_seed(0)
    policy.train()
    losses = []
    for _ in range(steps):
        loss = policy.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return [sum(losses[:10]) / 10, sum(losses[-10:]) / 10]


# -- reload --------------------------------------------------------------------------------------------

BEYOND = {
    "so2": (16, SO2),
    "so2 after c8": (8, {"denoiser": "so2_mlp"}),
    "soft denoiser": (8, {"denoiser": "soft_group_mlp"}),
    "soft encoder": (8, {"encoder": "soft_state"}),
}


@pytest.mark.parametrize("name", BEYOND)
def test_reload_is_bit_exact(tmp_path: Path, name: str) -> None:
    order, groups = BEYOND[name]
    few = ["diffusion.inference_steps=2"]
    policy = make(order, few, **groups)
    save_checkpoint(tmp_path / "last", policy, policy_tree(config(order, few, **groups)))
    loaded = load_policy(tmp_path / "last", spec=policy.spec)
    saved, read = policy.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[key], read[key]) for key in saved)
    obs = random_batch(policy.spec)["obs"]
    noise = torch.randn(5, *policy.noise_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(policy.act(obs, noise=noise).predicted, loaded.act(obs, noise=noise).predicted)


# -- frame averaging -----------------------------------------------------------------------------------

FRAMED = {
    "resnet": partial(Ordinary, key="top_image", channels=8),
    "scene": partial(SceneImageEncoder, key="top_image", channels=8, widths=(4, 4), pools=(4, 2), blocks=1, stem=9),
    "voxels": partial(Grid, channels=8, widths=(4, 6), paddings=((1,), (1, 1))),
    "points": partial(Points, channels=8, widths=(6, 8)),
    "state": partial(StateEncoder, channels=8),
}


def _seen(side: int = 40) -> Spec:
    fields = (
        Image("top_image", height=side, width=side),
        Image("wrist_image", height=40, width=48, view="body"),
        Voxels("voxels", size=16),
        PointCloud("point_cloud", points=20, origin="eef_pos"),
        Position("eef_pos"),
    )
    return Spec(Space(fields), Space((Displacement("a"), Scalars("g"))), Horizon())


@pytest.mark.parametrize(("order", "mean"), [(1, False), (2, False), (4, False), (8, False), (4, True)])
@pytest.mark.parametrize("name", FRAMED)
def test_any_encoder_becomes_equivariant(name: str, order: int, mean: bool) -> None:
    framed = FrameAveraged(_seen(), Symmetry(order), FRAMED[name], mean=mean)
    assert framed.invariant == mean
    assert_equivariant(framed, samples=1)


def test_frames_are_the_encoder_of_the_turned_input() -> None:
    torch.manual_seed(0)
    framed = FrameAveraged(_seen(), Symmetry(4), FRAMED["resnet"]).eval()
    picture = torch.randn(2, 1, 3, 40, 40)
    with torch.no_grad():
        out = framed(picture)
        assert out.shape == (2, 1, 4, 8)
        for n in range(4):  # entry n: turned back by n quarter turns
            torch.testing.assert_close(out[:, :, n], framed.encoder(torch.rot90(picture, -n, (-2, -1))))
        assert (out[:, :, 0] - out[:, :, 1]).abs().max() > 1e-4


def test_between_quarter_turns_pictures_are_interpolated_and_points_are_not() -> None:
    eighth = [math.pi / 4]
    assert_equivariant(FrameAveraged(_seen(), Symmetry(8), FRAMED["points"]), angles=eighth)
    with pytest.raises(AssertionError, match=r"not equivariant at 45\.0 degrees"):
        assert_equivariant(FrameAveraged(_seen(), Symmetry(8), FRAMED["resnet"]), angles=eighth)


class _Net(nn.Sequential):
    """A network that knows nothing of specs, with batch statistics."""

    def __init__(self, colours: int = 3, channels: int = 6, flat: bool = True) -> None:
        layers = [nn.Conv2d(colours, 4, 5, stride=3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, channels, 3)]
        super().__init__(*layers, *([nn.AdaptiveAvgPool2d(1), nn.Flatten()] if flat else []))


@pytest.mark.parametrize("mean", [False, True])
def test_any_network_of_a_picture_becomes_equivariant(mean: bool) -> None:
    framed = FrameAveraged(_seen(), Symmetry(4), _Net, mean=mean, key="top_image")
    assert framed.channels == 6
    assert framed.encoder.training
    assert int(framed.encoder[1].num_batches_tracked) == 0
    assert_equivariant(framed, samples=1)
    assert_equivariant(
        ObservationEncoder(
            Spec(Space((_seen().observation.fields[0],)), Space((Displacement("a"),)), Horizon()),
            Symmetry(4),
            {"scene": partial(FrameAveraged, encoder=_Net, key="top_image", channels=6, mean=mean)},
        )
    )


def test_a_network_of_torchvision_keeps_its_weights() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    trained = resnet18(num_classes=5).eval()

    def pretrained() -> nn.Module:
        net = resnet18(num_classes=5)
        net.load_state_dict(trained.state_dict())
        return net

    framed = FrameAveraged(_seen(), Symmetry(2), pretrained, key="top_image", channels=5).eval()
    picture = torch.randn(2, 1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(framed(picture)[:, 0, 1], trained(torch.rot90(picture[:, 0], 2, (-2, -1))))


def test_pretrained_trunks_are_loaded_through_the_wrapper(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from equidiff.encoders.pretrained import load_pretrained

    path = tmp_path / "resnet18.safetensors"
    make = partial(Ordinary, key="top_image", channels=8, norm="batch", weights=str(path))
    torch.manual_seed(0)
    source = make(spec=_seen(), symmetry=Symmetry(1))
    save_file({key: value.detach().clone() for key, value in source.named_trunk().items()}, path)
    framed = FrameAveraged(_seen(), Symmetry(4), make)
    assert load_pretrained(framed) == ["encoder"]
    assert all(torch.equal(value, source.named_trunk()[key]) for key, value in framed.encoder.named_trunk().items())


@pytest.mark.parametrize(
    ("encoder", "change", "message"),
    [
        (partial(ObservationEncoder, encoders={"state": StateEncoder}), {}, "round each entry of encoder.encoders"),
        (_Net(), {"key": "top_image"}, "got a built _Net; .* _partial_: true"),
        (_Net, {}, r"key: _Net knows no spec, .* got None; there are: top_image"),
        (_Net, {"key": "topp"}, r"got 'topp'; there are: top_image"),
        (_Net, {"key": "wrist_image"}, "'wrist_image' is a camera on the gripper"),
        (_Net, {"key": "top_image", "channels": 5}, r"_Net gives \(1, 6\), expected \(1, 5\)"),
        (partial(_Net, flat=False), {"key": "top_image"}, r"gives \(1, 6, 10, 10\), expected .* flattens"),
        (partial(_Net, colours=1), {"key": "top_image"}, r"does not take top_image of shape \(3, 40, 40\)"),
        (FRAMED["resnet"], {"key": "voxels"}, "reads 'top_image', got 'voxels'; set the key there"),
        (FRAMED["resnet"], {"channels": 5}, "has 8, got 5; leave it out"),
    ],
)
def test_what_cannot_be_averaged_is_refused_when_built(encoder, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameAveraged(_seen(), Symmetry(4), encoder, **change)


def test_frame_averaging_in_an_observation_encoder_and_from_a_config() -> None:
    spec = _seen()
    parts = {
        "scene": partial(FrameAveraged, encoder=FRAMED["resnet"]),
        "voxels": partial(FrameAveraged, encoder=FRAMED["voxels"], mean=True),
        "points": partial(FrameAveraged, encoder=FRAMED["points"]),
        "wrist": partial(Ordinary, key="wrist_image", channels=8),
    }
    assert_equivariant(ObservationEncoder(spec, Symmetry(4), parts, channels=5, direct=True))
    with pytest.raises(ValueError, match="'wrist_image' is a camera on the gripper"):
        FrameAveraged(spec, Symmetry(4), partial(Ordinary, key="wrist_image"))
    encoder = _policy(4, obs="image", encoder="frame_averaged_image").encoder
    assert isinstance(encoder.encoders["scene"], FrameAveraged)
    assert sum(p.numel() for p in encoder.encoders["scene"].parameters()) < 12_000_000
