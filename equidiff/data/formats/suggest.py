"""A draft of a mapping file from what a dataset holds."""

from __future__ import annotations

from collections.abc import Mapping as Tree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.formats.foreign import Feature, ForeignDataset

__all__ = ["suggest_mapping"]


def suggest_mapping(source: ForeignDataset) -> str:
    """YAML text with every array of `source`: a guess where its name or size says what it is, to be checked."""
    numbers = [key for key, f in source.features.items() if not f.picture and f.dtype not in ("string", "object")]
    sample = source.read(0, numbers) if numbers else {}
    lines = [
        f"# Draft for {source.where.name}: {len(source.lengths)} episodes, {sum(source.lengths)} steps. The guesses",
        "# are marked 'check'; the kinds and their settings are in docs/formats.md. Ranges are of the first episode.",
        "name: imported",
        f"control_hz: {source.hz:g}" if source.hz else "control_hz:                  # fill in: steps per second",
        "frame: {position: [0, 0, 0], rotation: [0, 0, 0]}   # of the foreign world in ours: metres, rotation vector",
        "obs:",
    ]
    action = [key for key in source.features if key in ("action", "actions")]
    for key, feature in source.features.items():
        if key in action:
            continue
        lines += _describe(key, feature, sample)
        lines += [f"  {line}" for line in _observation(key, feature, sample)]
    if not action:
        lines.append("# the dataset has no array called action; fill in where the actions come from")
    key = action[0] if action else "???"
    if action:
        lines += _describe(key, source.features[key], sample)
    size = int(np.prod(source.features[key].shape, dtype=int)) if action else 7
    storage, width = {10: ("rot6d", 6), 8: ("quat_xyzw", 4)}.get(size, ("rotvec", 3))
    lines += [
        "actions_abs:                 # absolute targets; or 'actions': displacements and rotation deltas",
        f"  position: {{from: {key}, slice: [0, 3]}}                              # check",
        f"  rotation: {{from: {key}, slice: [3, {3 + width}], storage: {storage}}}             # check",
        f"  gripper: {{from: {key}, slice: [{3 + width}, {4 + width}], open: -1, closed: 1}}     # check",
    ]
    return "\n".join(lines) + "\n"


def _describe(key: str, feature: Feature, sample: Tree[str, NDArray[Any]]) -> list[str]:
    names = f", entries: {', '.join(feature.names)}" if feature.names and not feature.picture else ""
    lines = [f"  # {key}: {feature}{names}"]
    if key in sample and sample[key].ndim <= 2 and sample[key].size:
        values = sample[key].reshape(len(sample[key]), -1)
        low, high = (" ".join(f"{v:.3g}" for v in f(0)[:12]) for f in (values.min, values.max))
        lines.append(f"  #   from [{low}] to [{high}]")
    return lines


def _observation(key: str, feature: Feature, sample: Tree[str, NDArray[Any]]) -> list[str]:
    short = key.rpartition(".")[2].rpartition("/")[2]
    if feature.picture:
        name = short if short.endswith("image") else f"{short}_image"
        floats = feature.dtype.startswith("float")
        return [f"{name}: {{from: {key}, kind: image}}" + ("   # check: scale: 255 if it is in 0..1" if floats else "")]
    if feature.dtype in ("string", "object"):
        return []
    groups = _groups(feature)
    if groups:
        return [_line(name, key, (low, high)) for name, low, high in groups]
    return [_line(short, key, None, feature, sample.get(key))]


def _groups(feature: Feature) -> list[tuple[str, int, int]]:
    """Entries of a vector named `<group>.<i>`, as the exporter of this project writes them: [(group, first, end)]."""
    parts = [name.rpartition(".") for name in feature.names]
    if not parts or not all(head and tail.isdigit() for head, _, tail in parts):
        return []
    groups: list[tuple[str, int, int]] = []
    for i, (head, _, _) in enumerate(parts):
        if groups and groups[-1][0] == head:
            groups[-1] = (head, groups[-1][1], i + 1)
        else:
            groups.append((head, i, i + 1))
    return groups


def _line(
    name: str,
    key: str,
    cut: tuple[int, int] | None,
    feature: Feature | None = None,
    values: NDArray[Any] | None = None,
) -> str:
    size = cut[1] - cut[0] if cut else int(np.prod(feature.shape, dtype=int)) if feature else 0
    chosen = f", slice: [{cut[0]}, {cut[1]}]" if cut else ""
    unit = values is None or bool(np.allclose(np.linalg.norm(values.reshape(len(values), -1), axis=1), 1, atol=0.02))
    if size == 3 and "pos" in name:
        kind, note = "position", "check"
    elif size == 4 and (unit or "quat" in name):
        kind, note = "rotation, storage: quat_xyzw", "check the order: xyzw or wxyz"
    else:
        kind, note = "scalars", "check"
    return f"{name}: {{from: {key}{chosen}, kind: {kind}}}   # {note}"
