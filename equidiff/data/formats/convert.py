"""Foreign arrays of one episode -> ours, as a mapping says."""

from __future__ import annotations

from collections.abc import Mapping as Tree
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import Feature
from equidiff.data.formats.mapping import STORAGES, Entry, Frame, Mapping
from equidiff.data.formats.pictures import convert_depth, convert_picture
from equidiff.rotations import from_matrix, to_matrix

__all__ = ["check_mapping", "convert_episode", "picture_shape", "rotation_matrices", "unread"]

FINGER = 0.04
"""Opening of one finger of an open gripper, metres: robot0_gripper_qpos holds (opening, -opening)."""

Array = NDArray[Any]


def unread(mapping: Mapping, features: Tree[str, Feature]) -> list[str]:
    """Foreign arrays, and entries of vectors, that the mapping does not read."""
    left = []
    for key, feature in features.items():
        entries = [e for _, e in mapping.entries if e.source == key]
        if not entries:
            left.append(key)
        elif len(feature.shape) == 1 and all(e.slice for e in entries):
            read = {i for e in entries if e.slice for i in range(*e.slice)}
            rest = [i for i in range(feature.shape[0]) if i not in read]
            left += [f"{key}[{feature.names[i] if feature.names else i}]" for i in rest]
    return left


def check_mapping(mapping: Mapping, features: Tree[str, Feature], where: str) -> None:
    """Raise DataError where an entry names what the dataset has not, or a shape that does not fit."""
    for name, entry in mapping.entries:
        at = f"{where}: {name}"
        if entry.source not in features:
            have = ", ".join(sorted(features)) or "nothing"
            hint = did_you_mean(entry.source, features)
            raise DataError(f"{at}: the dataset has no {entry.source!r}{hint}; it has {have}")
        feature = features[entry.source]
        if entry.kind in ("image", "depth"):
            picture_shape(feature, at) if entry.kind == "image" else _depth_shape(feature, at)
            continue
        if feature.picture:
            raise DataError(f"{at}: {entry.source!r} is a picture; expected kind image, got {entry.kind}")
        if feature.dtype in ("string", "object"):
            raise DataError(f"{at}: {entry.source!r} holds {feature.dtype}, expected numbers")
        size = feature.shape[-1] if feature.shape else 1
        flat = len(feature.shape) <= 1 or (entry.storage == "matrix" and feature.shape == (3, 3))
        if entry.kind != "scalars" and not flat:
            raise DataError(f"{at}: {entry.source!r} has shape {feature.shape}, expected a vector")
        if entry.slice and entry.slice[1] > size:
            raise DataError(f"{at}: slice {list(entry.slice)} reaches beyond {entry.source!r}, which has {size} values")
        width = entry.slice[1] - entry.slice[0] if entry.slice else int(np.prod(feature.shape, dtype=int))
        expected = {"position": 3, "displacement": 3, "gripper": 1}.get(entry.kind, STORAGES.get(entry.storage or ""))
        if expected is not None and width != expected:
            chosen = f"slice {list(entry.slice)} of " if entry.slice else ""
            as_what = f" stored as {entry.storage}" if entry.storage else ""
            raise DataError(
                f"{at}: {chosen}{entry.source!r} has {width} values, a {entry.kind}{as_what} needs {expected}; "
                "choose them with slice: [first, end]"
            )


def picture_shape(feature: Feature, at: str) -> tuple[int, int, bool]:
    """(height, width, channels first?) of a colour picture."""
    if len(feature.shape) == 3 and feature.shape[-1] == 3:
        return (*feature.shape[:2], False)
    if len(feature.shape) == 3 and feature.shape[0] == 3:
        return (*feature.shape[1:], True)
    raise DataError(f"{at}: a picture has shape (height, width, 3) or (3, height, width), got {feature.shape}")


def _depth_shape(feature: Feature, at: str) -> None:
    if len(feature.shape) not in (2, 3) or (len(feature.shape) == 3 and 1 not in (feature.shape[0], feature.shape[2])):
        raise DataError(f"{at}: a depth picture has shape (height, width), got {feature.shape}")


def convert_episode(
    mapping: Mapping, arrays: Tree[str, Array], features: Tree[str, Feature], at: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """({obs key: (T, *shape)}, {"actions" and/or "actions_abs": (T, 7)}) of one episode; float32 or picture dtypes."""
    obs: dict[str, Array] = {}
    for key, entry in mapping.obs.items():
        here = f"{at}: obs.{key}"
        if entry.kind == "image":
            _, _, first = picture_shape(features[entry.source], here)
            obs[key] = convert_picture(arrays[entry.source], entry, first, here)
        elif entry.kind == "depth":
            obs[key] = convert_depth(arrays[entry.source], entry, here)
        elif entry.kind == "gripper":
            opening = _gripper(_vector(arrays, entry), entry)
            obs[key] = (FINGER * np.concatenate([opening, -opening], 1)).astype(np.float32)
        else:
            obs[key] = _convert(arrays, entry, mapping.frame, "quat_xyzw", here)
    actions = {}
    for kind, parts in mapping.actions.items():
        columns = []
        for part, entry in parts.items():
            if entry.kind == "gripper":  # open 1, closed 0 -> open -1, closed +1
                values = _vector(arrays, entry)
                ours = (entry.open, entry.closed) == (-1.0, 1.0)
                columns.append((np.clip(values, -1, 1) if ours else 1 - 2 * _gripper(values, entry)).astype(np.float32))
            else:
                columns.append(_convert(arrays, entry, mapping.frame, "rotvec", f"{at}: {kind}.{part}"))
        actions[kind] = np.concatenate(columns, 1)
    return obs, actions


def _vector(arrays: Tree[str, Array], entry: Entry) -> Array:
    values = arrays[entry.source]
    flat = values.reshape(len(values), -1)
    return flat[:, slice(*entry.slice)] if entry.slice else flat


def _gripper(values: Array, entry: Entry) -> Array:
    """(T, 1) foreign values -> share that it is open, within [0, 1]."""
    assert entry.open is not None
    assert entry.closed is not None
    share: Array = np.clip((values.astype(np.float64) - entry.closed) / (entry.open - entry.closed), 0, 1)
    return share


def _convert(arrays: Tree[str, Array], entry: Entry, frame: Frame, storage: str, at: str) -> Array:
    if entry.kind == "scalars":
        raw = arrays[entry.source]
        if entry.slice is None and raw.ndim > 2:  # grids and clouds keep their shape and, if not scaled, their dtype
            return raw if entry.scale == 1.0 else (raw * entry.scale).astype(np.float32)
        values = _vector(arrays, entry)
        return values.astype(np.float32) if entry.scale == 1.0 else (values * entry.scale).astype(np.float32)
    values = _vector(arrays, entry)
    moved = frame != Frame()
    if entry.kind in ("position", "displacement"):
        if not moved and entry.scale == 1.0:
            return values.astype(np.float32)
        turn = roma.rotvec_to_rotmat(torch.tensor(frame.rotation, dtype=torch.float64)).numpy()
        placed = values.astype(np.float64) * entry.scale @ turn.T
        if entry.kind == "position":
            placed = placed + np.asarray(frame.position)
        return placed.astype(np.float32)
    assert entry.storage is not None
    if entry.storage == storage and not moved and entry.scale == 1.0:
        return values.astype(np.float32)  # nothing to do: not even rounding
    matrices = rotation_matrices(values, entry.storage, entry.scale, at)
    if moved:
        turn = roma.rotvec_to_rotmat(torch.tensor(frame.rotation, dtype=torch.float64))
        matrices = turn @ matrices if entry.kind == "rotation" else turn @ matrices @ turn.T
    return from_matrix(matrices, storage).numpy().astype(np.float32)


def rotation_matrices(values: Array, storage: str, scale: float, at: str) -> torch.Tensor:
    """(T, size) stored rotations -> (T, 3, 3) float64; DataError for what cannot be a rotation."""
    x = torch.from_numpy(values.astype(np.float64))
    if storage in ("rotvec", "euler_xyz"):
        x = x * scale
    if storage == "euler_xyz":  # about the fixed axes x, then y, then z
        matrices: torch.Tensor = roma.euler_to_rotmat("xyz", x)
        return matrices
    if storage == "rot6d_columns":
        x, storage = x.reshape(-1, 2, 3), "rot6d"
        third = torch.linalg.cross(x[:, 0], x[:, 1])
        x = torch.stack([x[:, 0], x[:, 1], third], -1)[:, :2].reshape(-1, 6)
    if storage.startswith("quat"):
        length = x.norm(dim=-1)
        odd = (length - 1).abs() > 0.05
        if odd.any():
            step = int(odd.nonzero()[0, 0])
            raise DataError(f"{at}: the quaternion of step {step} has length {float(length[step]):.3f}, expected 1")
    if storage == "matrix":
        matrices = x.reshape(-1, 3, 3)
        odd = (matrices @ matrices.mT - torch.eye(3, dtype=x.dtype)).abs().amax((1, 2)) > 0.05
        odd |= torch.linalg.det(matrices) < 0
        if odd.any():
            raise DataError(f"{at}: the matrix of step {int(odd.nonzero()[0, 0])} is not a rotation")
    return to_matrix(x, storage)
