"""Training data as a config's node `data` names it: chosen demonstrations, split, and prepared where needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equidiff.config import did_you_mean
from equidiff.data.cache import cached_bytes, open_cache
from equidiff.data.episode import DataError, Episode
from equidiff.data.needed import Needed, needed_arrays
from equidiff.data.robomimic import DemoFile, content_mark
from equidiff.data.steps import CachedEpisode
from equidiff.data.windows import split_episodes
from equidiff.perception import check_overhead
from equidiff.spec import Spec

__all__ = ["DataSource", "first_poses", "load_training_data"]

_SETTINGS = {"path", "n_demo", "mask", "valid_mask", "val_ratio", "pad", "cache", "cache_dir"}
_KINDS = ("auto", "memory", "disk")
_IN_MEMORY = 512 * 2**20  # bytes up to which cache="auto" reads into memory; joining the arrays takes twice as much


@dataclass(frozen=True)
class DataSource:
    """Demonstrations to train on and to validate with; `about` is what a manifest keeps of them."""

    train: list[Episode] | list[CachedEpisode]
    valid: list[Episode] | list[CachedEpisode]
    about: Mapping[str, Any]


def load_training_data(
    node: Mapping[str, Any], spec: Spec, control: str, task: Mapping[str, Any], prepared: Path, seed: int = 0
) -> DataSource:
    """Read what `node` (path, n_demo, mask, valid_mask, val_ratio, cache, cache_dir) names.

    cache: "memory", or "disk" for a cache beside the file (see `open_cache`); "auto" takes the disk above 512 MiB.
    A file without the poses or actions the spec reads (one made elsewhere) is prepared by the simulator into the
    folder `prepared`, once; the original is not changed. Raises DataError, or PerceptionError for a picture declared
    overhead whose camera, by its stored pose, is not.
    """
    for key in node:
        if key not in _SETTINGS:
            raise DataError(f"data: no setting {key!r}{did_you_mean(str(key), _SETTINGS)}")
    kind = str(node.get("cache") or "auto")
    if kind not in _KINDS:
        raise DataError(f"data.cache: expected one of {', '.join(_KINDS)}, got {kind!r}{did_you_mean(kind, _KINDS)}")
    original, arrays = Path(node["path"]), needed_arrays(spec, control)
    with DemoFile(original) as file:
        file.check_control(control)
        mark = file.fingerprint()
        missing = file.missing(spec, control)
        seen = {key: need for key, need in arrays.items() if need.perceived}
        unseen = {key: need for key, need in seen.items() if key in missing}
        if unseen:  # pictures are made by a script, not in passing: raises
            file.check(file.names[:1], unseen)
    if missing and seen:
        raise DataError(
            f"{_lacking(original, missing)}. What training derives from the states has poses only, not the "
            f"{', '.join(seen)} that the policy sees; make all of them: {_command(original, task, seen)}"
        )
    path = _prepare(original, missing, task, prepared) if missing else original
    with DemoFile(path) as file:
        names = file.select(node.get("n_demo"), node.get("mask"))
        held_out = [n for n in file.masks.get(node.get("valid_mask") or "", ()) if n not in names]
        perception = file.perception
        if any(getattr(field, "overhead", False) for field in spec.observation.fields):
            check_overhead(spec.observation.arrays, first_poses(file, names[0]), spec.workspace.centre)
        everything = [*names, *held_out]
        steps = sum(file.check(everything, arrays).values())
        episodes: list[Any]
        if kind == "disk" or (kind == "auto" and cached_bytes(steps, arrays) > _IN_MEMORY):
            episodes = open_cache(file, arrays, everything, node.get("cache_dir"))
        else:
            episodes = [file.episode(name, spec, control) for name in everything]
    train, valid = episodes[: len(names)], episodes[len(names) :]
    if not valid:
        train, valid = split_episodes(train, float(node.get("val_ratio", 0.0)), seed)
    about = {
        "perception": perception,
        "path": str(original),
        "fingerprint": mark,
        "n_demo": len(names),
        "demos": [e.name for e in train],
        "valid_demos": [e.name for e in valid],
    }
    return DataSource(train, valid, about)


def first_poses(file: DemoFile, name: str) -> dict[str, Any]:
    """{camera: (4, 4) pose at the first step of a demonstration}, of the cameras whose pose is stored."""
    need = Needed((4, 4), np.dtype(np.float32))
    keys = [key for key in file.keys(name) if key.endswith("_pose")]
    poses = {key.removesuffix("_pose"): file.read(name, f"obs/{key}", need, slice(0, 1))[0] for key in keys}
    return {camera: pose for camera, pose in poses.items() if pose.shape == need.shape}


def _prepare(path: Path, missing: tuple[str, ...], task: Mapping[str, Any], folder: Path) -> Path:
    lacking = _lacking(path, missing)
    if importlib.util.find_spec("robosuite") is None:
        raise DataError(
            f"{lacking}. They can be derived from the stored states with the simulator: pip install 'equidiff[sim]', "
            "then run this command again"
        )
    from equidiff.sim.prepare import prepare_states

    out = folder / f"{path.stem}_{task['name']}_{content_mark(path)[:12]}.hdf5"
    if not out.exists():
        print(f"{lacking}\nderiving them from its states, once: {out}", flush=True)
        prepare_states(path, task, out, progress=True)
    return out


def _lacking(path: Path, missing: tuple[str, ...]) -> str:
    return f"{path}: has no {', '.join(missing)}"


def _command(path: Path, task: Mapping[str, Any], seen: Mapping[str, Needed]) -> str:
    """What makes what is seen, and poses and absolute actions with it."""
    pictures = {key.removeprefix("obs/").removesuffix("_image"): need for key, need in seen.items()}
    (height, width, *_), *others = {need.shape for need in pictures.values()}
    what = f"obs=[image] size={height} cameras=[{','.join(pictures)}]"
    if others or height != width or not pictures.keys() <= set(task.get("cameras", {}).get("image", ())):
        what = "like=NAME, where obs=NAME is what you train with"  # a grid, a cloud, a camera of one's own
    return f"python scripts/prepare_data.py data={path} task={task['name']} {what}"
