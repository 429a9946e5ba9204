"""Names of the published policies' parameters for the parameters of ours that are stored alike."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from equidiff.denoisers.fibrewise_unet import ConditionalUNet1D
from equidiff.encoders import SceneImageEncoder, VoxelEncoder
from equidiff.nn import SteerableConv

__all__ = ["is_derived", "scene_convolutions", "unet_names", "wrist_names"]

_DERIVED = re.compile(
    r"(^|\.)(_dummy_variable|bias_expansion|filter|matrix|expanded_bias|_basisexpansion\..*)$"  # computed by escnn
    r"|^normalizer\.params_dict\.[^.]+\.input_stats\."  # statistics of the data, not used
    r"|^normalizer\.params_dict\.(pos_vecs|crops)\."  # of inputs that no policy reads
    r"|\.spatial_softmax\.(temperature|pos_x|pos_y)$"
)


def is_derived(name: str) -> bool:
    """Whether a published tensor holds nothing that was learned or is needed."""
    return _DERIVED.search(name) is not None


def scene_convolutions(encoder: SceneImageEncoder | VoxelEncoder) -> Iterator[tuple[str, SteerableConv]]:
    """(published prefix, our layer) of each steerable convolution of the scene's encoder."""
    prefix, at = "enc.enc_obs.conv", 0
    if isinstance(encoder, SceneImageEncoder):
        yield f"{prefix}.0", encoder.stem
        at = 2  # theirs counts activations and pools, too
        for stage in encoder.stages:
            for block in stage:  # type: ignore[attr-defined]
                yield f"{prefix}.{at}.layer1.0", block.first
                yield f"{prefix}.{at}.layer2.0", block.second
                if not isinstance(block.skip, nn.Identity):
                    yield f"{prefix}.{at}.upscale.0", block.skip
                at += 1
            at += 1
    else:
        for stage in encoder.stages:
            for convolution in stage:  # type: ignore[attr-defined]
                yield f"{prefix}.{at}", convolution
                at += 2
            at += 1
    yield f"{prefix}.{at}", encoder.last


def wrist_names(names: list[str]) -> dict[str, str]:
    """{our name in the wrist's encoder: published name}."""
    renamed = {}
    for name in names:
        published = re.sub(r"^trunk\.", "resnet.", re.sub(r"^keypoints\.maps\.", "spatial_softmax.nets.", name))
        renamed[name] = f"enc.enc_ih.{published}"
    return renamed


def unet_names(unet: ConditionalUNet1D) -> dict[str, str]:
    """{our name in the U-Net: published name}."""
    return {name: f"diff.unet.{_unet_name(name)}" for name in unet.state_dict()}


def _unet_name(ours: str) -> str:
    for pattern, published in _UNET:
        found = re.fullmatch(pattern, ours)
        if found:
            return _block(found.expand(published))
    raise AssertionError(f"no published name for {ours!r}")


_UNET = (
    (r"embedding\.(.*)", r"diffusion_step_encoder.\1"),
    (r"down\.(.*)", r"down_modules.\1"),
    (r"up\.(.*)", r"up_modules.\1"),
    (r"shrink\.(\d+)\.(.*)", r"down_modules.\1.2.conv.\2"),
    (r"grow\.(\d+)\.(.*)", r"up_modules.\1.2.conv.\2"),
    (r"middle\.(.*)", r"mid_modules.\1"),
    (r"last\.0\.(.*)", r"final_conv.0.block.\1"),
    (r"last\.1\.(.*)", r"final_conv.1.\1"),
)


def _block(name: str) -> str:
    """Inside a residual block."""
    name = re.sub(r"\.first\.(\d)", r".blocks.0.block.\1", name)
    name = re.sub(r"\.second\.(\d)", r".blocks.1.block.\1", name)
    return re.sub(r"\.film\.1", ".cond_encoder.1", name).replace(".skip.", ".residual_conv.")
