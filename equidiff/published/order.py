"""The order in which the published policies hold poses and actions, as matrices from and to ours.

A matrix here is orthogonal unless said otherwise, and every one of them commutes with turning the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equidiff.fields import Displacement, Field, Position, Rotation, RotationDelta, Scalars
from equidiff.spec import Space, Spec

__all__ = ["HAND_TO_SITE", "ActionOrder", "PublishedError", "action_order", "observation_order"]

HAND_TO_SITE = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
"""Orientation of the grip site in the frame of the Panda's hand: robosuite mounts the gripper turned by -90 degrees."""

# relative rotation, row by row: p @ (m00, m01, ... m22) gives three scalars, two pairs of frequency 1, one of 2
_P = (
    (1, 0, 0, 0, 1, 0, 0, 0, 0),
    (0, -1, 0, 1, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 0, 0, 1),
    (0, 0, 1, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 1, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 1, 0, 0),
    (0, 0, 0, 0, 0, 0, 0, 1, 0),
    (0, 1, 0, 1, 0, 0, 0, 0, 0),
    (-1, 0, 0, 0, 1, 0, 0, 0, 0),
)


class PublishedError(ValueError):
    """A state dict that does not fit the policy it is to be brought into; names the key and the fix."""


@dataclass(frozen=True)
class ActionOrder:
    """How the published policies write an action of the given spec.

    entries (D, D): ours = entries @ theirs, with theirs = (x, y, z, first two rows of the rotation, gripper) for
    absolute control and (x, y, z, the nine entries of the matrix row by row, gripper) for relative control.
    layers (D, D): what enters their network = layers @ ours. For relative control it is not orthogonal.
    back (D, D): ours = back @ what leaves their network. For relative control it is not the inverse of `layers`: their
    network takes (m20, m21) before (m02, m12) and gives them the other way round, which keeps the symmetry.
    relative: whether it is relative control.
    """

    entries: Tensor
    layers: Tensor
    back: Tensor
    relative: bool


def action_order(spec: Spec) -> ActionOrder:
    """Raises PublishedError unless the actions are those of the published absolute or relative control."""
    place, turn, opening = _three(spec.action, "actions", (Position, Displacement), (Rotation, RotationDelta), 1)
    slices = dict(zip(spec.action.fields, spec.action.slices(), strict=True))
    size = spec.action.irreps.size
    x, r, g = slices[place].start, slices[turn].start, slices[opening].start
    if isinstance(place, Position) and isinstance(turn, Rotation):
        theirs = [x, x + 1, x + 2, r, r + 2, r + 4, r + 1, r + 3, r + 5, g]
        layers = [x, x + 1, r, r + 1, r + 2, r + 3, r + 4, r + 5, x + 2, g]
        order = _pick(layers, size)
        return ActionOrder(_pick(theirs, size).T.contiguous(), order, order.T.contiguous(), relative=False)
    if not (isinstance(place, Displacement) and isinstance(turn, RotationDelta) and turn.irreps.size == 9):
        raise PublishedError(
            f"the actions {place} and {turn} are not those of a published policy; use action=absolute or "
            "action=relative_matrix"
        )
    basis = turn.entries  # features = basis @ (m00, m01, ...)
    assert basis is not None
    entries = torch.zeros(size, 13, dtype=torch.float64)
    entries[[x, x + 1, x + 2, g], [0, 1, 2, 12]] = 1
    entries[r : r + 9, 3:12] = basis
    v = torch.tensor(_P, dtype=torch.float64) @ basis.T  # from our nine features
    layers_ = torch.zeros(13, size, dtype=torch.float64)
    layers_[[2, 3, 11, 12], [x, x + 1, x + 2, g]] = 1
    layers_[[0, 1, 4, 5, 6, 7, 8, 9, 10], r : r + 9] = v[[7, 8, 5, 6, 3, 4, 0, 1, 2]]
    leaving = layers_[[0, 1, 2, 3, 6, 7, 4, 5, 8, 9, 10, 11, 12]]
    return ActionOrder(entries, layers_, torch.linalg.inv(leaving), relative=True)


def observation_order(spec: Spec, hand: bool) -> Tensor:
    """(11, 11): what enters their network = this @ our normalised vector features.

    hand: their robot0_eef_quat is the orientation of the hand's body (robosuite), ours that of the grip site.
    """
    place, turn, fingers = _three(spec.observation, "vector observations", (Position,), (Rotation,), 2)
    slices = dict(zip(spec.observation.fields, spec.observation.slices(), strict=True))
    x, r, g = slices[place].start, slices[turn].start, slices[fingers].start
    size = spec.observation.irreps.size
    order = _pick([x, x + 1, *range(r, r + 6), x + 2, g, g + 1], size)
    if not hand:
        return order
    turned = torch.eye(size, dtype=torch.float64)
    # R_hand = R_site @ HAND_TO_SITE^T, so each column of R_hand is a mixture of the columns of R_site
    mix = torch.tensor(HAND_TO_SITE, dtype=torch.float64)
    turned[r : r + 6, r : r + 6] = torch.kron(mix, torch.eye(2, dtype=torch.float64))
    return order @ turned


def _three(
    space: Space, what: str, places: tuple[type[Field], ...], turns: tuple[type[Field], ...], scalars: int
) -> tuple[Field, Field, Field]:
    """Exactly one place, one rotation and `scalars` scalars."""
    fields = [f for f in space.fields if f.vector]
    found: list[list[Field]] = [
        [f for f in fields if type(f) in places],
        [f for f in fields if type(f) in turns],
        [f for f in fields if type(f) is Scalars and f.irreps.size == scalars],
    ]
    if len(fields) != 3 or any(len(f) != 1 for f in found):
        raise PublishedError(
            f"the {what} of a published policy are a position, a rotation and {scalars} gripper value(s); this spec "
            f"has {', '.join(map(str, fields))}"
        )
    return found[0][0], found[1][0], found[2][0]


def _pick(order: list[int], size: int) -> Tensor:
    """Matrix with row i picking entry order[i]."""
    return torch.eye(size, dtype=torch.float64)[order]
