"""From a state dict of the published policies (Wang et al. 2024, pointW/equidiff) to a policy of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from equidiff.config import did_you_mean
from equidiff.denoisers import FibrewiseUNet
from equidiff.encoders import ObservationEncoder, SceneImageEncoder, VoxelEncoder, WristImageEncoder
from equidiff.nn import SteerableConv
from equidiff.policy import DiffusionPolicy
from equidiff.published.linear import load_fusion, load_lift, load_projection
from equidiff.published.names import is_derived, scene_convolutions, unet_names, wrist_names
from equidiff.published.order import PublishedError, action_order, observation_order
from equidiff.published.scales import load_normalizer
from equidiff.published.state import State

__all__ = ["convert_policy", "read_state"]


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises PublishedError if it is anything else; no pickle is opened."""
    path = Path(path)
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise PublishedError(f"state_dict: no such file {path}{near}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise PublishedError(
            f"state_dict: {path} is not a safetensors file ({error}). A checkpoint of the published code is a pickle, "
            "which could run anything: its owner exports the weights from it (see the documentation of the import)"
        ) from error


def convert_policy(state: Mapping[str, Tensor], policy: DiffusionPolicy, *, hand: bool = True) -> list[str]:
    """Load the published `state` {name: tensor} into `policy`, normaliser included; remarks on what was found.

    The policy must have the published architecture (experiment=equidiff_image_abs, ...) at the size of the state.
    hand: the published policy saw robosuite's robot0_eef_quat, the orientation of the Panda's hand; False if it saw
    that of the grip site, as ours does. Raises PublishedError that names the missing, unknown or mis-shaped key.
    """
    scene, wrist, denoiser = _parts(policy)
    given = State(state, scene=scene, denoiser=denoiser)
    for name, conv in scene_convolutions(scene):
        _load_convolution(given, name, conv)
    own = wrist.state_dict(keep_vars=True)
    for ours, published in wrist_names(list(own)).items():
        given.copy(published, own[ours])
    own = denoiser.unet.state_dict(keep_vars=True)
    for ours, published in unet_names(denoiser.unet).items():
        given.copy(published, own[ours])
    action = action_order(policy.spec)
    load_fusion(given, policy.encoder, observation_order(policy.spec, hand))
    load_lift(given, denoiser, action)
    load_projection(given, denoiser, action)
    remarks = load_normalizer(given, policy, scene, wrist, action)
    given.finish(is_derived)
    return remarks


def _parts(policy: DiffusionPolicy) -> tuple[SceneImageEncoder | VoxelEncoder, WristImageEncoder, FibrewiseUNet]:
    encoder, denoiser = policy.encoder, policy.denoiser
    if not isinstance(encoder, ObservationEncoder) or not isinstance(denoiser, FibrewiseUNet):
        raise PublishedError(f"the policy is not a published one: {type(encoder).__name__}, {type(denoiser).__name__}")
    found = list(encoder.encoders.values())
    scenes = [one for one in found if isinstance(one, SceneImageEncoder | VoxelEncoder)]
    wrists = [one for one in found if isinstance(one, WristImageEncoder)]
    if len(found) != 2 or len(scenes) != 1 or len(wrists) != 1:
        raise PublishedError(
            "a published policy has one encoder of the scene (a picture or voxels) and one of a wrist picture; this "
            f"one has {', '.join(type(one).__name__ for one in found)}"
        )
    settings = {
        "encoder.direct": (encoder.lift is not None, True),
        "encoder.activation": (encoder.activation, "none"),
        "denoiser.activation": (denoiser.activation, "relu"),
        "diffusion.prediction": (policy.diffusion.prediction, "epsilon"),
    }
    for name, (value, wanted) in settings.items():
        if value != wanted:
            raise PublishedError(f"{name}: the published policies have {wanted!r}, this one {value!r}")
    if policy.symmetry.order < 2:
        raise PublishedError("symmetry: the published policies are equivariant (symmetry=c8), this one has none")
    return scenes[0], wrists[0], denoiser


def _load_convolution(given: State, name: str, conv: SteerableConv) -> None:
    """escnn's weights are a flat list of our (outputs, inputs, basis); its bias is sqrt(N) times ours."""
    weight = given.take(f"{name}.weights", (conv.weight.numel(),))
    with torch.no_grad():
        conv.weight.copy_(weight.view(conv.weight.shape))
        if conv.bias is not None:
            bias = given.take(f"{name}.bias", tuple(conv.bias.shape))
            conv.bias.copy_(bias / conv.symmetry.order**0.5)
