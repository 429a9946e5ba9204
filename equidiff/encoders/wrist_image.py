"""Encoder of pictures from a camera on the gripper, which do not change when the scene turns with the gripper."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from equidiff.encoders.base import ArrayEncoder
from equidiff.fields import ArrayField, Depth, Image
from equidiff.nn import Crop, check_size
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["SpatialSoftmax", "WristImageEncoder"]

_BLOCKS = {"resnet18": 512, "resnet34": 512}
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]


class WristImageEncoder(ArrayEncoder):
    """Picture (B, To, 1 or 3, H, W) -> invariant features (B, To, channels).

    torchvision's ResNet (He et al. 2016) without its head, then `channels / 2` keypoints. norm: "none" as in the
    published equivariant policies, "group" (16 channels each) as in Diffusion Policy, or "batch" (fixed statistics),
    which pretrained weights need. weights: null for random ones, "imagenet", or the path of a safetensors file with
    torchvision's names; loaded before training (equidiff.encoders.pretrained), the last two with norm="batch". Without
    symmetry (order 1) it reads the scene's cameras, too.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (Image, Depth)
    invariant: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec,
        symmetry: Symmetry,
        key: str,
        channels: int = 128,
        trunk: str = "resnet18",
        norm: str = "none",
        weights: str | None = None,
        crop: int | None = None,
        random_crop: bool = False,
    ) -> None:
        super().__init__(spec, symmetry, key, channels)
        what = f"{type(self).__name__}({key!r})"
        if self.field.view != "body" and symmetry.order > 1:  # type: ignore[attr-defined]
            raise ValueError(f"{what}: is for a camera on the gripper (view=body); the scene's cameras need another")
        if trunk not in _BLOCKS or norm not in _NORMS or channels % 2:
            raise ValueError(
                f"{what}: expected trunk in {sorted(_BLOCKS)}, norm in {sorted(_NORMS)}, an even number of channels, "
                f"got trunk={trunk!r}, norm={norm!r}, channels={channels}"
            )
        if weights is not None and norm != "batch":
            raise ValueError(f"{what}: pretrained weights={weights!r} need norm=batch, which they were trained with")
        from torchvision import models

        colours, rows, columns = self.field.features
        if weights is not None and colours != 3:
            raise ValueError(f"{what}: pretrained weights are for colour pictures, this one has {colours} channel")
        self.crop: nn.Module = nn.Identity()
        if crop is not None:
            if rows != columns:
                raise ValueError(f"{what}: crop needs a square picture, got {rows} x {columns}")
            why = "are a single cell after the trunk, which has no place to tell"
            check_size(rows, crop, lambda size: _through(size) >= 2, what, why)
            self.crop = Crop(rows, crop, 2, random_crop, what)
            rows = columns = crop
        cells = (_through(rows), _through(columns))
        if max(cells) < 2:
            raise ValueError(
                f"{what}: {rows} x {columns} pixels are a single cell after the trunk, which has no place to tell; use "
                "pictures of at least 33 pixels"
            )
        net = getattr(models, trunk)(norm_layer=_NORMS[norm])
        if colours != 3:
            net.conv1 = nn.Conv2d(colours, 64, 7, stride=2, padding=3, bias=False)
        self.trunk_name, self.weights = trunk, weights
        self.trunk = nn.Sequential(*list(net.children())[:-2])
        self.keypoints = SpatialSoftmax(_BLOCKS[trunk], channels // 2, cells)

    def named_trunk(self) -> dict[str, Tensor]:
        """Weights and statistics of the trunk by torchvision's names, for loading pretrained ones."""
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        state = self.trunk.state_dict(keep_vars=True)
        return {f"{names[int(key.split('.')[0])]}.{key.split('.', 1)[1]}": value for key, value in state.items()}

    def forward(self, picture: Tensor) -> Tensor:
        leading = picture.shape[:2]
        x = self.crop(picture.flatten(0, 1))
        if self.weights is not None:
            mean, spread = x.new_tensor(_MEAN)[:, None, None], x.new_tensor(_SPREAD)[:, None, None]
            x = ((x + 1) / 2 - mean) / spread
        out: Tensor = self.keypoints(self.trunk(x))
        return out.view(*leading, self.channels)


class SpatialSoftmax(nn.Module):
    """Expected positions of `keypoints` soft maxima (Finn et al. 2016, arXiv 1509.06113): (B, C, H, W) -> (B, 2K).

    Coordinates run from -1 to 1, x before y for each keypoint.
    """

    grid: Tensor

    def __init__(self, channels: int, keypoints: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, 1)
        rows, columns = torch.linspace(-1, 1, shape[0]), torch.linspace(-1, 1, shape[1])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        share = self.maps(x).flatten(2).softmax(-1)
        return (share @ self.grid.to(share)).flatten(1)


class _Nothing(nn.Identity):
    """In the place of a normalisation."""


def _fixed_batch_norm(channels: int) -> nn.Module:
    from torchvision.ops import FrozenBatchNorm2d

    layer: nn.Module = FrozenBatchNorm2d(channels)
    return layer


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(max(channels // 16, 1), channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: _Nothing(),
    "batch": _fixed_batch_norm,
    "group": _group_norm,
}


def _through(side: int) -> int:
    """Side after the trunk, which halves five times and rounds up."""
    for _ in range(5):
        side = -(-side // 2)
    return side
