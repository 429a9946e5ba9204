"""Augmentation from the spec: random rotation, crops that move the poses too, colours. Never changes its input.

Everything acts on decoded features, which is the same as acting on the stored arrays (law 1) and cheaper.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from equidiff.fields import Image, Voxels
from equidiff.fields.grids import Picture
from equidiff.spec import Space, Spec

__all__ = ["Augmentation", "ColourJitter", "Compose", "RandomCrop", "RandomRotation"]


@runtime_checkable
class Augmentation(Protocol):
    """Changes decoded training samples."""

    def check(self, spec: Spec, encoder: nn.Module | None = None) -> None:
        """Raise ValueError if it cannot be used with this spec and encoder; called when the policy is built."""

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(B, To, D), {name: (B, To, *features)} and (B, T, E) -> the same shapes, new tensors where changed."""


class Compose:
    """Augmentations one after another, by name; null leaves one out (augment.parts.colour=null)."""

    def __init__(self, parts: Mapping[str, Augmentation | None]) -> None:
        self.parts = {name: part for name, part in parts.items() if part is not None}
        wrong = [name for name, part in self.parts.items() if not isinstance(part, Augmentation)]
        if wrong:
            raise ValueError(f"Compose.parts.{wrong[0]}: expected an augmentation, got {self.parts[wrong[0]]!r}")

    def check(self, spec: Spec, encoder: nn.Module | None = None) -> None:
        for part in self.parts.values():
            part.check(spec, encoder)

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        arrays = dict(arrays)
        for part in self.parts.values():
            observation, arrays, action = part(spec, observation, arrays, action)
        return observation, arrays, action


class RandomRotation:
    """Turns each sample by its own random angle about the workspace centre.

    maximum: radians; the angle is uniform in [-maximum, maximum]. order: only multiples of 2*pi/order (4: quarter
    turns, which move pixels and cells without interpolation); null: any angle.
    """

    def __init__(self, maximum: float = math.pi, order: int | None = None) -> None:
        if not 0 < maximum <= math.pi:
            raise ValueError(f"RandomRotation.maximum: expected 0 < maximum <= pi radians, got {maximum}")
        if order is not None and (order < 2 or 2 * math.pi / order > maximum + 1e-9):
            raise ValueError(
                f"RandomRotation.order: expected at least 2 and steps of 2*pi/order within maximum, got order={order}, "
                f"maximum={maximum}"
            )
        self.maximum, self.order = maximum, order

    def check(self, spec: Spec, encoder: nn.Module | None = None) -> None:
        """Every spec can turn."""

    def angles(self, count: int, device: torch.device | None = None) -> Tensor:
        """(count,) random angles in radians, float64 so that a quarter turn is recognised as one."""
        if self.order is None:
            return (2 * torch.rand(count, device=device, dtype=torch.float64) - 1) * self.maximum
        step = 2 * math.pi / self.order
        most = int(self.maximum / step + 1e-9)
        lowest = -most + (2 * most == self.order)  # half a turn either way is the same one
        return torch.randint(lowest, most + 1, (count,), device=device).double() * step

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        angle = self.angles(action.shape[0], action.device)[:, None]
        turned = {name: spec.observation.arrays[name].turn(x, angle.expand(x.shape[:2])) for name, x in arrays.items()}
        return spec.observation.irreps.rotate(observation, angle), turned, spec.action.irreps.rotate(action, angle)


class RandomCrop:
    """Moves each sample's scene by its own random distance: a random crop with poses and actions that follow.

    The content of pictures and grids is moved by up to `shift` metres along x and y and what comes from outside is
    empty; an encoder that then cuts out the middle (`crop`, without its `random_crop`) sees a random crop. Absolute
    positions and clouds, observed or as actions, are moved by the same metres, whatever is relative stays, and the
    axis of the symmetry stays in the middle.

    side: {name of a grid or picture of the scene: metres that one of its sides covers}, for pictures in the plane
    where the objects are; for grids what the workspace's bounds say, if it has any. The distance is a whole number of
    cells of the coarsest of them; others are interpolated.
    body: pixels by which pictures of cameras on the gripper are moved, each on its own: they are no map of the scene.

    A picture of a tilted camera does not move with the scene as a whole, so it is refused, and so is an encoder whose
    own random crop would move the content again, without the poses.
    """

    def __init__(self, shift: float = 0.03, side: Mapping[str, float] | None = None, body: int = 0) -> None:
        self.side = dict(side or {})
        if not (shift > 0 and math.isfinite(shift)):
            raise ValueError(f"RandomCrop.shift: expected metres > 0, got {shift}")
        if not isinstance(body, int) or body < 0:
            raise ValueError(f"RandomCrop.body: expected pixels >= 0, got {body!r}")
        for name, metres in self.side.items():
            if not (metres > 0 and math.isfinite(metres)):
                raise ValueError(f"RandomCrop.side.{name}: expected metres > 0, got {metres}")
        self.shift, self.body = shift, body

    def check(self, spec: Spec, encoder: nn.Module | None = None) -> None:
        space = spec.observation
        moving = _maps(space)
        for name in self.side:
            if name not in moving:
                close = difflib.get_close_matches(name, moving, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(moving) or 'none'}"
                raise ValueError(f"RandomCrop.side: {name!r} is not a grid or picture of the scene{hint}")
        for name in moving:
            field = space.arrays[name]
            if isinstance(field, Picture) and not field.overhead:
                raise ValueError(
                    f"RandomCrop: {name!r} is the picture of a tilted camera, in which a crop is not a movement of the "
                    "scene, so poses cannot follow. Use the encoder's own random_crop (as published; it moves the axis "
                    "of the symmetry), or a camera that looks straight down, declared with overhead=true"
                )
            known = spec.workspace.square if isinstance(field, Voxels) else None
            if name not in self.side:
                value = "..." if known is None else f"{known:g}, which the workspace's bounds give"
                raise ValueError(
                    f"RandomCrop.side: how many metres does a side of {name!r} cover? Set side.{name}={value}"
                )
            if known is not None and abs(self.side[name] - known) > 1e-6:
                raise ValueError(
                    f"RandomCrop.side.{name}: got {self.side[name]:g} m, but the workspace's bounds give the grid "
                    f"{known:g} m, so that grid and poses would move by different distances; set "
                    f"side.{name}={known:g}, or, for a grid with bounds of its own, task.bounds to them"
                )
            _refuse_second_crop(name, encoder)
        for name in self.side:
            cell = self.side[name] / space.arrays[name].features[-1]
            if self.shift < cell:
                raise ValueError(
                    f"RandomCrop.shift: {self.shift} m is less than a cell of {name!r}, {cell:.4g} m; raise it"
                )
        body = self.body > 0 and any(isinstance(f, Picture) and f.view == "body" for f in space.arrays.values())
        if not (moving or body or _moves(space) or _moves(spec.action)):
            raise ValueError(
                "RandomCrop: nothing in this spec depends on where the scene lies, so nothing would move; leave it out"
            )

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        space = spec.observation
        count = action.shape[0]
        metres = (2 * torch.rand(count, 2, device=action.device, dtype=torch.float64) - 1) * self.shift
        cells = [self.side[name] / space.arrays[name].features[-1] for name in self.side]
        if cells:
            coarsest = max(cells)
            metres = torch.trunc(metres / coarsest) * coarsest
        moved: dict[str, Tensor] = {}
        for name, x in arrays.items():
            field = space.arrays[name]
            steps = metres[:, None].expand(*x.shape[:2], 2)
            if name in self.side:
                moved[name] = field.slide(x, steps * (x.shape[-1] / self.side[name]))  # type: ignore[attr-defined]
            elif isinstance(field, Picture):
                pixels = torch.randint(-self.body, self.body + 1, (*x.shape[:2], 2), device=x.device)
                moved[name] = field.slide(x, pixels) if self.body else x
            else:
                moved[name] = field.translate(x, steps)
        return _translated(space, observation, metres), moved, _translated(spec.action, action, metres)


class ColourJitter:
    """Changes the colours of each sample's pictures: torchvision's ColorJitter, drawn anew for every sample.

    The pictures that a camera took of one sample share a draw. brightness, contrast, saturation: factors from
    1 - x to 1 + x; hue: up to x turns of the colour circle, at most 0.5. No pixel moves, so that turning and
    jittering can be exchanged. Depth, voxels and clouds stay.
    """

    def __init__(
        self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, hue: float = 0.05
    ) -> None:
        from torchvision.transforms.v2 import ColorJitter  # not needed for loading a policy without it

        self.jitter = ColorJitter(brightness, contrast, saturation, hue)

    def check(self, spec: Spec, encoder: nn.Module | None = None) -> None:
        if not any(isinstance(field, Image) for field in spec.observation.arrays.values()):
            raise ValueError("ColourJitter: no colour picture is observed; set augment=none, or obs=image")

    def __call__(
        self, spec: Spec, observation: Tensor, arrays: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        changed = {}
        for name, x in arrays.items():
            if isinstance(spec.observation.arrays[name], Image):
                x = torch.stack([self.jitter((sample + 1) / 2) for sample in x]) * 2 - 1
            changed[name] = x
        return observation, changed, action


def _maps(space: Space) -> list[str]:
    """Names of the grids and pictures that show the scene."""
    return [
        name
        for name, field in space.arrays.items()
        if isinstance(field, Voxels) or (isinstance(field, Picture) and field.view == "scene")
    ]


def _refuse_second_crop(name: str, encoder: nn.Module | None) -> None:
    """ValueError if the encoder of a picture or grid of the scene crops at random, too."""
    for where, module in () if encoder is None else encoder.named_modules():
        crop: Any = getattr(module, "crop", None)
        if getattr(module, "key", None) == name and getattr(crop, "random", False) and crop.size < crop.full:
            raise ValueError(
                f"RandomCrop: the encoder of {name!r} ({where}) has random_crop=true, a second crop that would move "
                "the axis of the symmetry without the poses; set its random_crop=false: it then cuts out the middle of "
                "what was moved, or leave this augmentation out"
            )


def _translated(space: Space, features: Tensor, metres: Tensor) -> Tensor:
    """Concatenated features (B, steps, D) of a scene moved by metres (B, 2)."""
    steps = metres[:, None].expand(*features.shape[:2], 2)
    parts = [
        field.translate(features[..., at], steps)
        for field, at in zip(space.fields, space.slices(), strict=True)
        if field.vector
    ]
    return torch.cat(parts, -1) if parts else features


def _moves(space: Space) -> bool:
    """Whether any vector or cloud depends on where the scene lies."""
    for field in space.fields:
        if isinstance(field, Picture | Voxels):
            continue
        shape = field.features if hasattr(field, "features") else (field.irreps.size,)
        zero = torch.zeros(1, *shape)
        if not torch.equal(field.translate(zero, torch.ones(1, 2)), zero):
            return True
    return False
