"""Looking through a file of demonstrations, one at a time, without changing it or loading it whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.inspect_arrays import KeyStats, is_big
from equidiff.data.inspect_checks import Finding, Limits, check_demo, digest
from equidiff.data.inspect_keys import kind_of
from equidiff.data.inspect_poses import DemoPoses, poses_of
from equidiff.data.inspect_success import success_of
from equidiff.data.inspect_views import Views, check_view, choose
from equidiff.data.robomimic import DemoFile

__all__ = ["Inspection", "inspect_file"]

_SAMPLE = 20_000  # steps kept for histograms
_FRAMES = 8  # read of each demonstration's pictures, grids and clouds
_UNREAD = ("next_obs",)  # a copy of obs, one step later: no need to read it twice


@dataclass
class Inspection:
    """What `inspect_file` found. lengths and success by demonstration; success None where the file does not say."""

    path: Path
    bytes: int
    env: str
    control_hz: float
    hz_from: str
    masks: dict[str, tuple[str, ...]]
    attributes: dict[str, Any]
    env_args: dict[str, Any]
    lengths: dict[str, int] = field(default_factory=dict)
    success: dict[str, bool | None] = field(default_factory=dict)
    keys: dict[str, KeyStats] = field(default_factory=dict)
    poses: list[DemoPoses] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    views: Views = field(default_factory=Views)

    @property
    def problems(self) -> list[Finding]:
        """Findings that are not merely worth a look."""
        return [f for f in self.findings if f.severity == "problem"]

    def add(self, severity: str, topic: str, demo: str, message: str) -> None:
        """Append a finding; demo "" for the whole file."""
        self.findings.append(Finding(severity, topic, demo, message))


def inspect_file(
    path: str | Path,
    task: Mapping[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    episodes: int = 6,
    progress: bool = False,
) -> Inspection:
    """Look through every demonstration of a file.

    task: a node of configs/task, for the control rate where the file has none. episodes: how many are kept to be
    drawn. Arrays of over 2048 values a step are sampled at 8 steps of each demonstration, all others are read whole.
    Raises DataError for what is not a file of demonstrations; faults inside become findings.
    """
    limits = limits or Limits()
    _refuse_other_formats(Path(path))
    with DemoFile(path) as file, h5py.File(path, "r") as raw:
        names = file.names
        env_args, early = _env_args(file)
        hz, hz_from = _rate(env_args, task, early)
        env = str(env_args.get("env_name", "unknown"))
        found = Inspection(Path(path), Path(path).stat().st_size, env, hz, hz_from, {}, _metadata(raw, early), env_args)
        found.findings += early
        found.masks = _masks(raw, names, found)
        shown, seen = set(choose(names, episodes)), dict[str, str]()
        quota = max(1, _SAMPLE // len(names))
        for name in tqdm(names, desc="looking at demonstrations", unit="demo", disable=not progress, leave=False):
            _demo(raw[f"data/{name}"], name, found, limits, quota, name in shown, seen)
    _across(found)
    return found


def _demo(
    group: Any, name: str, found: Inspection, limits: Limits, quota: int, shown: bool, seen: dict[str, str]
) -> None:
    datasets: dict[str, Any] = {}
    group.visititems(lambda key, item: datasets.update({key: item}) if isinstance(item, h5py.Dataset) else None)
    length = _length(group, datasets)
    found.lengths[name] = length
    found.success[name] = success_of(group, found.env_args)
    _check_lengths(group, name, datasets, length, found)
    small: dict[str, NDArray[Any]] = {}
    kinds: dict[str, str] = {}
    for key, stored in datasets.items():
        if stored.dtype.kind not in "fiub" or not stored.ndim or key.startswith(_UNREAD):
            continue
        if stored.shape[0] != length and not key.startswith(("obs/", "actions", "states")):
            continue  # notes about the demonstration, such as MimicGen's src_demo_inds
        shape = tuple(stored.shape[1:])
        kind = kind_of(key, shape)
        stats = found.keys.setdefault(key, KeyStats(key, kind))
        stats.present.append(name)
        stats.shapes.setdefault(shape, []).append(name)
        stats.dtypes[str(stored.dtype)] += 1
        stats.steps += stored.shape[0]
        stats.bytes_stored += stored.id.get_storage_size()
        big = is_big(shape)
        stats.sampled |= big
        try:
            values = stored[_steps(stored.shape[0])] if big else stored[()]
        except (OSError, ValueError, TypeError) as error:
            first = (str(error).splitlines() or ["unreadable"])[0]
            found.add("problem", "unreadable", name, f"{key} cannot be read ({first}); copy or generate the file again")
            continue
        stats.add(name, values, quota if key.startswith(("obs/", "actions")) else 0)
        if name in stats.non_finite:
            found.add("problem", "not finite", name, f"{key} has {stats.non_finite[name]} values that are not finite")
        if not len(values):
            continue
        if kind in ("image", "depth", "voxels", "cloud") and key.startswith("obs/"):
            found.findings += check_view(name, key, kind, values)
            if shown:
                found.views.keep(name, key, kind, values)
        if not big:
            small[key], kinds[key] = values, kind
        if kind == "poses" and key.startswith("obs/") and key.endswith("_pose"):
            found.views.keep_pose(key, values)
    found.findings += list(check_demo(name, small, kinds, limits, found.control_hz))
    found.poses.append(poses_of(name, small))
    mark = digest(small)
    if mark is not None and length:
        if mark in seen:
            found.add("problem", "duplicate", name, f"equal to {seen[mark]} in actions and gripper path")
        seen.setdefault(mark, name)


def _across(found: Inspection) -> None:
    """Findings that need all demonstrations."""
    n = len(found.lengths)
    for key, stats in found.keys.items():
        if len(stats.present) < n:
            lacking = sorted(set(found.lengths) - set(stats.present), key=list(found.lengths).index)
            where = f"{_some(lacking)} lack{'s' if len(lacking) == 1 else ''} it"
            found.add("problem", "missing key", "", f"{key} is in {len(stats.present)} of {n} demonstrations; {where}")
        if len(stats.shapes) > 1:
            counts = ", ".join(f"{_size(s)} in {len(d)} ({_some(d, 2)})" for s, d in stats.shapes.items())
            topic = "picture size" if stats.kind in ("image", "depth") else "shape"
            found.add("problem", topic, "", f"{key} has different shapes a step: {counts}")
        if len(stats.dtypes) > 1:
            found.add("note", "dtype", "", f"{key} is stored as {' and '.join(sorted(stats.dtypes))}")
        if key.startswith(("obs/", "actions")):
            odd = stats.outliers() if stats.kind != "quaternion" else []  # their length is checked instead
            for demo, i, value in odd[:20]:
                found.add("note", "outlier", demo, f"{key}[{i}] reaches {value:.4g}, far from the rest")
            still = stats.kind != "poses" and len(stats.constant) == len(stats.present)
            if still and stats.low is not None and (stats.low == stats.high).all():
                found.add("note", "constant", "", f"{key} never changes in the whole file")
    _grippers(found)
    if found.keys.keys().isdisjoint(("actions", "actions_abs")):
        have = sorted({k.partition("/")[0] for k in found.keys})
        near = did_you_mean("actions", have)
        found.add("problem", "missing key", "", f"no actions in any demonstration{near}; it has {', '.join(have)}")
    if not any(k.startswith("obs/") for k in found.keys):
        found.add("note", "missing key", "", "no observations (obs/...): derive them from the states first")
    unsolved = [name for name, success in found.success.items() if success is False]
    if unsolved:
        found.add("note", "success", "", f"{len(unsolved)} demonstrations end unsolved: {_some(unsolved)}")


def _grippers(found: Inspection) -> None:
    """Demonstrations whose gripper command never changes."""
    for key in ("actions", "actions_abs"):
        stats = found.keys.get(key)
        if stats is None:
            continue
        still = stats.last_constant()
        if still and len(still) == len(stats.present):
            found.add("note", "gripper", "", f"the gripper's command (last of {key}) never changes in the whole file")
        elif still:
            found.add(
                "problem", "gripper", "", f"the gripper's command (last of {key}) never changes in {_some(still)}"
            )
        return


def _check_lengths(group: Any, name: str, datasets: Mapping[str, Any], length: int, found: Inspection) -> None:
    if not length:
        found.add("problem", "empty", name, "has no steps")
        return
    told = group.attrs.get("num_samples")
    if told is not None and int(told) != length:
        found.add("problem", "length", name, f"attribute num_samples says {int(told)}, the arrays have {length} steps")
    for key, stored in datasets.items():
        if key.startswith(("obs/", "actions", "states")) and stored.ndim and stored.shape[0] != length:
            found.add("problem", "length", name, f"{key} has {stored.shape[0]} steps, expected {length}")
    if length < 10:
        found.add("note", "length", name, f"has only {length} steps")


def _length(group: Any, datasets: Mapping[str, Any]) -> int:
    for key in ("actions", "actions_abs", *datasets):
        if key in datasets and datasets[key].ndim:
            return int(datasets[key].shape[0])
    return 0


def _steps(length: int) -> list[int]:
    return sorted(set(np.linspace(0, length - 1, min(_FRAMES, length)).round().astype(int).tolist())) if length else []


def _env_args(file: DemoFile) -> tuple[dict[str, Any], list[Finding]]:
    try:
        env_args = file.env_args
    except DataError as error:
        return {}, [Finding("problem", "metadata", "", str(error).removeprefix(f"{file.path}: "))]
    if not isinstance(env_args, dict):
        return {}, [Finding("problem", "metadata", "", "attribute env_args of 'data' is not a JSON object")]
    return env_args, []


def _rate(env_args: Mapping[str, Any], task: Mapping[str, Any] | None, early: list[Finding]) -> tuple[float, str]:
    hz, where = (env_args.get("env_kwargs") or {}).get("control_freq"), "file"
    configured = None if task is None else task.get("control_hz")
    if hz is None:
        hz, where = (configured, "task") if configured else (20.0, "assumed: neither file nor task says")
    elif configured and float(hz) != float(configured):
        early.append(Finding("problem", "rate", "", f"made at {hz} Hz, but the task says {configured} Hz"))
    return float(hz), where


def _metadata(raw: Any, early: list[Finding]) -> dict[str, Any]:
    """Attributes of 'data' but the long ones; JSON texts as trees."""
    out: dict[str, Any] = {}
    for key, value in raw["data"].attrs.items():
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str) and value[:1] in "{[":
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                if key != "env_args":  # reported already
                    early.append(Finding("problem", "metadata", "", f"attribute {key} of 'data' is not JSON ({error})"))
        out[key] = value
    return out


def _masks(raw: Any, names: tuple[str, ...], found: Inspection) -> dict[str, tuple[str, ...]]:
    group, out = raw.get("mask"), dict[str, tuple[str, ...]]()
    for mask in group if isinstance(group, h5py.Group) else ():
        members = [m.decode() if isinstance(m, bytes) else str(m) for m in np.asarray(group[mask]).ravel()]
        for member in members:
            if member not in names:
                found.add("problem", "mask", "", f"mask/{mask} names {member!r}, which is not in 'data'")
        if not members:
            found.add("problem", "mask", "", f"mask/{mask} is empty")
        out[mask] = tuple(members)
    both = set(out.get("train", ())) & set(out.get("valid", ()))
    if both:
        found.add(
            "problem", "mask", "", f"{len(both)} demonstrations are in both train and valid: {_some(sorted(both))}"
        )
    total = raw["data"].attrs.get("total")
    counted = sum(int(raw[f"data/{n}"].attrs.get("num_samples", 0)) for n in names)
    if total is not None and counted and int(total) != counted:
        found.add(
            "note", "metadata", "", f"attribute total of 'data' says {int(total)} steps, the demonstrations {counted}"
        )
    return out


def _refuse_other_formats(path: Path) -> None:
    for marker, what in (
        ("meta/info.json", "a LeRobot dataset"),
        (".zgroup", "a zarr store"),
        ("zarr.json", "a zarr store"),
    ):
        if (path / marker).is_file():
            raise DataError(f"{path}: is {what}, not a file of demonstrations: scripts/import_data.py makes one")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")
