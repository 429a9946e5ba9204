"""The published normaliser (x -> scale * x + offset, per key) into ours."""

from __future__ import annotations

import torch
from torch import Tensor

from equidiff.encoders import SceneImageEncoder, VoxelEncoder, WristImageEncoder
from equidiff.fields import Field, Position, Rotation, RotationDelta, Scalars
from equidiff.policy import DiffusionPolicy
from equidiff.published.order import ActionOrder, PublishedError
from equidiff.published.state import State

__all__ = ["load_normalizer"]

_EEF_ROTATION = {"robot0_eef_quat_site": "robot0_eef_quat"}


def load_normalizer(
    given: State,
    policy: DiffusionPolicy,
    scene: SceneImageEncoder | VoxelEncoder,
    wrist: WristImageEncoder,
    order: ActionOrder,
) -> list[str]:
    """Fill the buffers of the policy's normaliser; remarks where it does not commute with turning the scene."""
    for encoder, wanted in ((scene, (1.0, 0.0) if isinstance(scene, VoxelEncoder) else (2.0, -1.0)), (wrist, (2, -1))):
        _identical(given, encoder.key, *wanted)
    ours, space, remarks = policy.normalizer, policy.spec.observation, []
    for field, at in zip(space.fields, space.slices(), strict=True):
        if not field.vector:
            continue
        if isinstance(field, Rotation):
            _identical(given, _EEF_ROTATION.get(field.key, field.key), 1.0, 0.0)
            offset, scale = torch.zeros(6), torch.ones(6)
        else:
            offset, scale = _affine(given, field.key, field.irreps.size)
            offset = offset - _centre(field, offset)
        ours.observation_offset[at], ours.observation_scale[at] = offset.to(scale.dtype), scale
        remarks += _asymmetry(field, offset, scale)
    width = 7 if order.relative else 10
    offset, scale = _affine(given, "action", width)
    turn = slice(3, width - 1)
    if not (_close(offset[turn], 0.0) and _close(scale[turn], 1.0)):
        raise PublishedError("state_dict: 'normalizer.params_dict.action' scales rotations, which cannot be imported")
    acted, slices = policy.spec.action, policy.spec.action.slices()
    for field, at in zip(acted.fields, slices, strict=True):
        if isinstance(field, Rotation | RotationDelta):
            part = torch.zeros(field.irreps.size), torch.ones(field.irreps.size)
        else:
            where = slice(width - 1, width) if isinstance(field, Scalars) else slice(0, 3)
            part = offset[where] - _centre(field, offset[where]), scale[where]
            remarks += _asymmetry(field, *part)
        ours.action_offset[:, at], ours.action_scale[:, at] = part
    frequencies = torch.tensor(acted.irreps.frequencies)
    ours.bound.copy_(torch.where(frequencies == 0, 1.0, 2.0**0.5).expand_as(ours.bound))  # what is clipped to [-1, 1]
    ours.fitted.fill_(True)
    return remarks


def _affine(given: State, key: str, size: int) -> tuple[Tensor, Tensor]:
    """(offset, scale) of ours, (x - offset) / scale, for `size` entries."""
    scale = given.take(f"normalizer.params_dict.{key}.scale", (size,)).double()
    offset = given.take(f"normalizer.params_dict.{key}.offset", (size,)).double()
    if bool((scale <= 0).any()):
        raise PublishedError(f"state_dict: 'normalizer.params_dict.{key}.scale' must be > 0, got {scale.tolist()}")
    return -offset / scale, 1 / scale


def _identical(given: State, key: str, scale: float, offset: float) -> None:
    """What we do to pictures, grids and quaternions is fixed: the published numbers must say the same."""
    for name, want in (("scale", scale), ("offset", offset)):
        value = given.take(f"normalizer.params_dict.{key}.{name}")
        if not _close(value, want):
            raise PublishedError(
                f"state_dict: 'normalizer.params_dict.{key}.{name}' is {value.flatten()[:4].tolist()}, the published "
                f"policies have {want}"
            )


def _close(value: Tensor, want: float) -> bool:
    return bool(((value - want).abs() < 1e-5).all())


def _centre(field: Field, like: Tensor) -> Tensor:
    """Ours sees positions about the workspace centre, theirs in the world."""
    return like.new_tensor([*field.centre, 0.0]) if isinstance(field, Position) else torch.zeros_like(like)


def _asymmetry(field: Field, offset: Tensor, scale: Tensor) -> list[str]:
    if field.irreps.frequencies[:1] != (1,):
        return []
    found = []
    if float(offset[:2].abs().max()) > 1e-3:
        x, y = (round(v, 3) + 0.0 for v in offset[:2].tolist())  # no -0.000
        found.append(
            f"{field.key}: the weights turn about a point ({x:+.3f}, {y:+.3f}) m from this task's centre; "
            "was it trained for this task, or with task.centre=[0,0]?"
        )
    if abs(float(scale[0] / scale[1]) - 1) > 1e-3:
        found.append(
            f"{field.key}: x and y have different scales ({float(scale[0]):.4g}, {float(scale[1]):.4g} m), so the "
            "policy is not exactly equivariant"
        )
    return found
