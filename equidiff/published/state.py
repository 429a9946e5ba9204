"""The published tensors, each taken once; what is missing, unknown or of another shape is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from equidiff.config import did_you_mean
from equidiff.denoisers import FibrewiseUNet
from equidiff.encoders import SceneImageEncoder, VoxelEncoder
from equidiff.published.order import PublishedError

__all__ = ["State"]


class State:
    """Published tensors by name. scene, denoiser: ours, to say which settings would fit."""

    def __init__(
        self, state: Mapping[str, Tensor], *, scene: SceneImageEncoder | VoxelEncoder, denoiser: FibrewiseUNet
    ) -> None:
        self._left = dict(state)
        if not self._left:
            raise PublishedError("state_dict: holds no tensors")
        self._check_kind(scene)
        self._check_sizes(scene, denoiser)

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor, which is then used up; `shape`: what it must have."""
        if name not in self._left:
            raise PublishedError(f"state_dict: {name!r} is missing{did_you_mean(name, self._left)}")
        value = self._left[name]
        if shape is not None and tuple(value.shape) != shape:
            raise PublishedError(f"state_dict: {name!r} is {tuple(value.shape)}, the policy needs {shape}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise PublishedError(f"state_dict: {name!r} has values that are not finite numbers ({value.dtype})")
        del self._left[name]
        return value.detach().cpu()

    def copy(self, name: str, target: Tensor) -> None:
        """Take a tensor that is stored alike into `target`."""
        value = self.take(name, tuple(target.shape))
        with torch.no_grad():
            target.copy_(value)

    def finish(self, known: Callable[[str], bool]) -> None:
        """Raise PublishedError if something is left that is not `known` to be of no use."""
        unknown = sorted(name for name in self._left if not known(name))
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise PublishedError(
                f"state_dict: {unknown[0]!r}{more}: no part of this policy has it; is it of another experiment or size?"
            )

    def _check_kind(self, scene: SceneImageEncoder | VoxelEncoder) -> None:
        """Pictures or voxels, absolute or relative control: said before a key is missing somewhere."""
        wrappers = ("model.", "module.", "ema_model.", "_orig_mod.")
        wrapped = [p for p in wrappers if all(name.startswith(p) for name in self._left)]
        if wrapped:
            raise PublishedError(
                f"state_dict: every name starts with {wrapped[0]!r}; export the policy's own state dict"
            )
        voxels = any(name.startswith("normalizer.params_dict.voxels.") for name in self._left)
        if voxels != isinstance(scene, VoxelEncoder) and "enc.enc_obs.conv.0.weights" in self._left:
            kind, fit = ("voxels", "equidiff_voxel_...") if voxels else ("pictures", "equidiff_image_...")
            raise PublishedError(f"state_dict: is of a policy that sees {kind}; use experiment={fit}")

    def _check_sizes(self, scene: SceneImageEncoder | VoxelEncoder, denoiser: FibrewiseUNet) -> None:
        """The sizes that a policy is most often built with, as overrides that would fit."""
        channels = self._left.get("enc.enc_ih.spatial_softmax.nets.weight")
        if channels is not None and 2 * len(channels) != scene.channels:
            raise PublishedError(
                f"state_dict: has {2 * len(channels)} channels per observation, the policy {scene.channels}; add "
                f"encoder.channels={2 * len(channels)}"
            )
        name = "diff.unet.down_modules.{}.0.blocks.0.block.0.weight"
        found: list[int] = []
        while name.format(len(found)) in self._left:
            found.append(len(self._left[name.format(len(found))]))
        ours = [int(level[0].first[0].out_channels) for level in denoiser.unet.down]  # type: ignore[index]
        if found and found != ours:
            raise PublishedError(
                f"state_dict: its U-Net has widths {found}, the policy {ours}; add "
                f"denoiser.widths=[{','.join(map(str, found))}]"
            )
