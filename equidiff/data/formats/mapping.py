"""Mapping files: which array of a foreign dataset is which field of ours. Plain YAML, no code in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from collections.abc import Mapping as Tree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError

__all__ = ["ACTION_PARTS", "KINDS", "STORAGES", "Entry", "Frame", "Mapping", "read_mapping"]

KINDS = ("position", "displacement", "rotation", "rotation_delta", "gripper", "image", "depth", "scalars")
STORAGES = {
    "quat_xyzw": 4,
    "quat_wxyz": 4,
    "rotvec": 3,
    "rot6d": 6,
    "rot6d_columns": 6,
    "matrix": 9,
    "euler_xyz": 3,
}
"""Storage forms of a foreign rotation and their sizes. rot6d: first two rows of the matrix, one after the other."""

ACTION_PARTS = {
    "actions_abs": {"position": "position", "rotation": "rotation", "gripper": "gripper"},
    "actions": {"position": "displacement", "rotation": "rotation_delta", "gripper": "gripper"},
}
"""Parts of our action vectors, in order, and the kind of each."""

_ALLOWED = {
    "position": {"scale"},
    "displacement": {"scale"},
    "rotation": {"storage", "scale"},
    "rotation_delta": {"storage", "scale"},
    "gripper": {"open", "closed"},
    "image": {"scale", "crop", "size", "bgr"},
    "depth": {"scale", "crop", "size"},
    "scalars": {"scale"},
}


@dataclass(frozen=True)
class Frame:
    """Pose of the foreign world frame in ours: position (m) and rotation vector (rad)."""

    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    rotation: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Entry:
    """Where one of our arrays comes from.

    source: foreign key. slice: [first, end) of the last axis of a vector. scale: factor into metres, radians (rotvec,
    euler_xyz), grey levels 0..255 (images) or metres (depth). open, closed: foreign values of the gripper. crop:
    (top, left, height, width) pixels. size: (height, width) after cropping. bgr: the picture's channels are reversed.
    """

    source: str
    kind: str
    slice: tuple[int, int] | None = None
    storage: str | None = None
    scale: float = 1.0
    open: float | None = None
    closed: float | None = None
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    bgr: bool = False


@dataclass(frozen=True)
class Mapping:
    """A mapping file: observations and actions by our names, the frame and the control rate."""

    obs: Tree[str, Entry]
    actions: Tree[str, Tree[str, Entry]]
    frame: Frame = field(default_factory=Frame)
    control_hz: float | None = None
    name: str = "imported"

    @property
    def entries(self) -> tuple[tuple[str, Entry], ...]:
        """(our name, entry) of everything that is read."""
        parts = [(f"{kind}.{part}", e) for kind, entries in self.actions.items() for part, e in entries.items()]
        return (*((f"obs.{key}", entry) for key, entry in self.obs.items()), *parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """Foreign keys that are read."""
        return tuple(dict.fromkeys(entry.source for _, entry in self.entries))

    def to_json(self) -> dict[str, Any]:
        """What an imported file keeps of the mapping."""
        return dataclasses.asdict(self)


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping file. Raises DataError that names the entry, what came and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: no readable mapping file ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file") from error
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    return parse_mapping(tree, str(path))


def parse_mapping(tree: Any, at: str) -> Mapping:
    """Check the content of a mapping file."""
    _keys(tree, {"name", "control_hz", "frame", "obs", *ACTION_PARTS}, at)
    obs = {key: _entry(node, f"{at}: obs.{key}") for key, node in _tree(tree.get("obs") or {}, f"{at}: obs").items()}
    actions = {kind: _action(kind, tree[kind], f"{at}: {kind}") for kind in ACTION_PARTS if tree.get(kind)}
    if not obs or not actions:
        raise DataError(f"{at}: needs 'obs' and at least one of {', '.join(ACTION_PARTS)}; docs/formats.md shows one")
    hz = tree.get("control_hz")
    if hz is not None and not (_number(hz) and hz > 0):
        raise DataError(f"{at}: control_hz: expected a rate in Hz > 0 or null, got {hz!r}")
    frame = _keys(tree.get("frame") or {}, {"position", "rotation"}, f"{at}: frame")
    values = {key: _numbers(value, 3, f"{at}: frame.{key}") for key, value in frame.items()}
    return Mapping(obs, actions, Frame(**values), hz, str(tree.get("name") or "imported"))


def _action(kind: str, node: Any, at: str) -> dict[str, Entry]:
    parts = ACTION_PARTS[kind]
    _keys(node, set(parts), at)
    missing = [part for part in parts if part not in node]
    if missing:
        raise DataError(f"{at}: needs {', '.join(parts)}, has no {missing[0]!r}")
    made = {}
    for part, expected in parts.items():
        here = f"{at}.{part}"
        given = _tree(node[part], here).get("kind", expected)
        if given != expected:
            raise DataError(f"{here}: kind is {given!r}, expected {expected!r} (or leave it out)")
        made[part] = _entry({**node[part], "kind": expected}, here)
    return made


def _entry(node: Any, at: str) -> Entry:
    common = {"from", "kind", "slice"}
    _keys(node, common | set().union(*_ALLOWED.values()), at)
    if not isinstance(node.get("from"), str):
        raise DataError(f"{at}: 'from' must name a key of the dataset, got {node.get('from')!r}")
    kind = node.get("kind")
    if kind not in KINDS:
        raise DataError(f"{at}: kind is {kind!r}{did_you_mean(str(kind), KINDS)}; there are: {', '.join(KINDS)}")
    _keys(node, common | _ALLOWED[kind], f"{at} (kind {kind})")
    given: dict[str, Any] = {"source": node["from"], "kind": kind}
    if kind in ("rotation", "rotation_delta"):
        storage = node.get("storage")
        if storage not in STORAGES:
            hint = did_you_mean(str(storage), STORAGES)
            raise DataError(f"{at}: storage is {storage!r}{hint}; there are: {', '.join(STORAGES)}")
        given["storage"] = storage
    if kind == "gripper":
        for name in ("open", "closed"):
            if not _number(node.get(name)):
                raise DataError(f"{at}: {name!r} must be the foreign value of a gripper that is {name}")
            given[name] = float(node[name])
        if given["open"] == given["closed"]:
            raise DataError(f"{at}: open and closed are both {given['open']}")
    if "scale" in node:
        given["scale"] = _numbers([node["scale"]], 1, f"{at}: scale")[0]
    for name, size in (("slice", 2), ("crop", 4), ("size", 2)):
        if node.get(name) is not None:
            values = node[name]
            if (
                not isinstance(values, list)
                or len(values) != size
                or not all(type(v) is int and v >= 0 for v in values)
            ):
                raise DataError(f"{at}: {name}: expected {size} whole numbers >= 0, got {values!r}")
            given[name] = tuple(values)
    if "slice" in given and not given["slice"][0] < given["slice"][1]:
        raise DataError(f"{at}: slice: expected [first, end) with first < end, got {node['slice']}")
    for name in ("crop", "size"):
        if name in given and min(given[name][-2:]) < 1:
            raise DataError(f"{at}: {name}: height and width must be at least one pixel, got {node[name]}")
    if not isinstance(node.get("bgr", False), bool):
        raise DataError(f"{at}: bgr: expected true or false, got {node['bgr']!r}")
    return Entry(**given, bgr=node.get("bgr", False))


def _tree(node: Any, at: str) -> Tree[str, Any]:
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        raise DataError(f"{at}: expected a table 'name: value', got {type(node).__name__}")
    return node


def _keys(node: Any, known: Iterable[str], at: str) -> Tree[str, Any]:
    known = sorted(known)
    for key in _tree(node, at):
        if key not in known:
            raise DataError(f"{at}: no setting {key!r}{did_you_mean(key, known)}; there are: {', '.join(known)}")
    return _tree(node, at)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any, size: int, at: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != size or not all(_number(v) for v in value):
        shown = value[0] if size == 1 and isinstance(value, list) else value
        raise DataError(f"{at}: expected {'a finite number' if size == 1 else f'{size} finite numbers'}, got {shown!r}")
    return tuple(float(v) for v in value)
