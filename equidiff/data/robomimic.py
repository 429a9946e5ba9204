"""Reading demonstrations in robomimic's HDF5 layout.

    data                attrs env_args (JSON), total
    data/demo_i         attrs num_samples, model_file
      states            (T, S)  simulator states
      actions           (T, 7)  relative OSC_POSE deltas in [-1, 1]
      actions_abs       (T, 7)  absolute targets (world): position m, rotation vector rad, gripper -1 open, +1 close
      obs/<key>         (T, *shape)
    mask/<name>         names of demonstrations, e.g. train and valid

Files are opened read-only and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError, Episode
from equidiff.data.needed import ACTIONS, Needed, action_key, as_stored, how_to_get, mixed, needed_arrays
from equidiff.spec import Spec

__all__ = ["ACTIONS", "DemoFile", "changed_at", "content_mark", "fingerprint", "load_episodes"]

_WHOLE = 256 * 2**20  # bytes up to which a file is hashed whole
_BLOCK = 2**20


class DemoFile:
    """A file of demonstrations, opened read-only. Raises DataError if it is missing, damaged or another layout.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            beside = self.path.parent
            near = did_you_mean(self.path.name, [p.name for p in beside.iterdir()] if beside.is_dir() else [])
            kind = "is a directory, expected an HDF5 file" if self.path.is_dir() else f"no such file{near}"
            raise DataError(
                f"{self.path}: {kind} (scripts/generate_demos.py makes demonstrations of the built-in tasks)"
            )
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(
                f"{self.path}: not a readable HDF5 file, perhaps truncated ({_first_line(error)}); "
                "copy or generate it again"
            ) from error
        if not isinstance(self._file.get("data"), h5py.Group):
            groups = sorted(self._file)
            self._file.close()
            raise DataError(
                f"{self.path}: has no group 'data', so it is not in robomimic's layout; it has {_some(groups)}"
            )

    def __enter__(self) -> DemoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    # -- contents ----------------------------------------------------------------------------------

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all demonstrations, demo_2 before demo_10."""
        names = [n for n in self._file["data"] if isinstance(self._file["data"][n], h5py.Group)]
        if not names:
            raise DataError(f"{self.path}: 'data' holds no demonstrations")
        return tuple(sorted(names, key=_natural))

    @cached_property
    def masks(self) -> dict[str, tuple[str, ...]]:
        """{mask: names of its demonstrations in natural order}."""
        found = self._file.get("mask")
        if not isinstance(found, h5py.Group):
            return {}
        masks = {}
        for mask in found:
            members = [m.decode() if isinstance(m, bytes) else str(m) for m in np.asarray(found[mask]).ravel()]
            unknown = sorted(set(members) - set(self.names))
            if unknown:
                raise DataError(
                    f"{self.path}: mask/{mask} names {unknown[0]!r}, which is not in 'data'"
                    f"{did_you_mean(unknown[0], self.names)}"
                )
            masks[mask] = tuple(sorted(members, key=_natural))
        return masks

    @property
    def env_args(self) -> dict[str, Any]:
        """What the environment was made from; {} if the file does not say."""
        text = self._file["data"].attrs.get("env_args")
        if text is None:
            return {}
        try:
            parsed: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path}: attribute env_args of 'data' is not JSON ({error})") from error
        return parsed

    @property
    def perception(self) -> dict[str, Any] | None:
        """How pictures, grids and clouds were made (scripts/prepare_data.py), None if there are none."""
        text = self._file["data"].attrs.get("perception")
        try:
            return None if text is None else dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path}: attribute perception of 'data' is not JSON ({error})") from error

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of 'data'."""
        return dict(self._file["data"].attrs)

    def keys(self, name: str) -> tuple[str, ...]:
        """Observation keys of one demonstration."""
        obs = self._demo(name).get("obs")
        return tuple(sorted(obs)) if isinstance(obs, h5py.Group) else ()

    def missing(self, spec: Spec, control: str) -> tuple[str, ...]:
        """What `episode` needs and the first demonstration lacks, e.g. ("actions_abs", "obs/cube_pos")."""
        demo = self._demo(self.names[0])
        return tuple(name for name in sorted(needed_arrays(spec, control)) if name not in demo)

    def check_control(self, control: str) -> None:
        """Raise DataError if the file says that its `actions` are not those of this control.

        `actions_abs` are absolute in every file, so only relative control can be wrong.
        """
        if control == "relative" and self._controller.get("control_delta") is False:
            raise DataError(
                f"{self.path}: its 'actions' are absolute targets (env_args: control_delta is false), expected "
                "relative ones; train with action=absolute, or on the copy that is made by: python "
                f"scripts/convert_actions.py data={self.path} control=relative"
            )

    @property
    def _controller(self) -> Mapping[str, Any]:
        """The controller's settings in env_args; {} if the file does not say."""
        node: Any = self.env_args
        for key in ("env_kwargs", "controller_configs"):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) else {}

    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.path)

    # -- reading -----------------------------------------------------------------------------------

    def select(self, n_demo: int | None = None, mask: str | None = None) -> tuple[str, ...]:
        """The first `n_demo` (None: all) demonstrations of a mask, in natural order.

        mask=None: mask/train if the file has one, else everything that is not in mask/valid.
        """
        if mask is not None:
            if mask not in self.masks:
                have = ", ".join(sorted(self.masks)) or "none"
                raise DataError(f"{self.path}: no mask {mask!r}{did_you_mean(mask, self.masks)}; it has: {have}")
            names = self.masks[mask]
        elif "train" in self.masks:
            names = self.masks["train"]
        else:
            held_out = set(self.masks.get("valid", ()))
            names = tuple(n for n in self.names if n not in held_out)
        if not names:
            raise DataError(f"{self.path}: mask {mask or 'train'!r} is empty; choose another by data.mask=...")
        if n_demo is None:
            return names
        if n_demo < 1:
            raise DataError(f"data.n_demo: expected a number >= 1 or null for all, got {n_demo}")
        if n_demo > len(names):
            raise DataError(
                f"{self.path}: data.n_demo={n_demo}, but only {len(names)} demonstrations are there; "
                "lower it or generate more (scripts/generate_demos.py)"
            )
        return names[:n_demo]

    def episode(self, name: str, spec: Spec, control: str) -> Episode:
        """One demonstration with the arrays the spec reads, checked for shape, length, type and finite values."""
        arrays = needed_arrays(spec, control)
        self.check([name], arrays)
        values = {key: self.read(name, key, need) for key, need in arrays.items()}
        obs = {key.removeprefix("obs/"): value for key, value in values.items() if key.startswith("obs/")}
        return Episode(name, obs, values[action_key(control)])

    def check(self, names: Sequence[str], arrays: Mapping[str, Needed]) -> dict[str, int]:
        """{name: steps} of demonstrations that have all `arrays` in their shape; reads no values. Raises DataError."""
        return {name: self._steps(name, arrays, names[0]) for name in names}

    def read(self, name: str, key: str, need: Needed, steps: slice = slice(None)) -> NDArray[Any]:
        """Steps of one array of a demonstration, checked for type and finite values. Raises DataError."""
        at = f"{self.path}: {name}: {key!r}"
        try:
            values = np.asarray(self._demo(name)[key][steps])
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{at} cannot be read ({_first_line(error)}); copy or generate the file again") from error
        return as_stored(values, need, at, steps.start or 0)

    def _steps(self, name: str, arrays: Mapping[str, Needed], first: str) -> int:
        demo, at = self._demo(name), f"{self.path}: {name}"
        lengths = {"action": 0}
        for key, need in arrays.items():
            stored = demo.get(key)
            if not isinstance(stored, h5py.Dataset):
                have = [f"obs/{k}" for k in demo.get("obs", ())] if key.startswith("obs/") else list(demo)
                fix = how_to_get(need) if name == first else mixed(name, first)
                raise DataError(f"{at}: has no {key!r}{did_you_mean(key, have)}; it has {_some(sorted(have))}. {fix}")
            if tuple(stored.shape[1:]) != need.shape or not stored.ndim:
                want = ", ".join(["T", *map(str, need.shape)])
                fix = f". {how_to_get(need)}" if need.perceived else ""
                if name != first:
                    fix = f"; {mixed(name, first)}"
                raise DataError(f"{at}: {key!r} has shape {tuple(stored.shape)}, expected ({want}){fix}")
            lengths[key.removeprefix("obs/") if key.startswith("obs/") else "action"] = len(stored)
        if "num_samples" in demo.attrs:
            lengths["num_samples"] = int(demo.attrs["num_samples"])
        if len(set(lengths.values())) != 1:
            raise DataError(
                f"{at}: lengths differ: {lengths}; expected as many actions as observations. Drop or repair it"
            )
        return lengths["action"]

    def _demo(self, name: str) -> Any:
        demos = self._file["data"]
        if name not in demos:
            raise DataError(f"{self.path}: no demonstration {name!r}{did_you_mean(name, self.names)}")
        return demos[name]


def load_episodes(
    path: str | os.PathLike[str], spec: Spec, control: str, n_demo: int | None = None, mask: str | None = None
) -> list[Episode]:
    """The first `n_demo` demonstrations of a mask (see DemoFile.select). Raises DataError."""
    with DemoFile(path) as file:
        return [file.episode(name, spec, control) for name in file.select(n_demo, mask)]


def fingerprint(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's size and content; of files over 256 MiB, of 256 blocks of 1 MiB spread evenly over it."""
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with Path(path).open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            for offset in np.linspace(0, size - _BLOCK, 256).astype(int):
                file.seek(int(offset))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def changed_at(path: str | os.PathLike[str]) -> int | None:
    """Time of change (ns) of a file that `fingerprint` does not read whole, so that a change may escape it; else None.

    A copy of a file has another one.
    """
    about = Path(path).stat()
    return None if about.st_size <= _WHOLE else about.st_mtime_ns


def content_mark(path: str | os.PathLike[str]) -> str:
    """`fingerprint` and, of a large file, the time of change: the name of what is made from the file and made again.

    Not for what is refused when it differs: the copy of a large file has another mark.
    """
    mark, changed = fingerprint(path), changed_at(path)
    return mark if changed is None else hashlib.sha256(f"{mark} {changed}".encode()).hexdigest()


def describe(file: DemoFile, names: tuple[str, ...]) -> Mapping[str, Any]:
    """What a manifest keeps about the data: path, fingerprint, number and names of the demonstrations."""
    return {"path": str(file.path), "fingerprint": file.fingerprint(), "n_demo": len(names), "demos": list(names)}


def _natural(name: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def _some(names: list[str]) -> str:
    return (", ".join(names[:12]) + (f", ... ({len(names)})" if len(names) > 12 else "")) or "nothing"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
