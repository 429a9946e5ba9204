"""A file in robomimic's layout as an exporter reads it: one state vector, one action vector, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import refuse_non_finite
from equidiff.data.formats.mapping import ACTION_PARTS
from equidiff.data.robomimic import ACTIONS, DemoFile

__all__ = ["ExportSource"]

_PARTS = {"position": ("x", "y", "z"), "rotation": ("x", "y", "z"), "gripper": ("opening",)}


class ExportSource:
    """A file opened read-only. names: demonstrations, those of mask/valid last; fps: whole steps per second."""

    def __init__(self, path: Path, control: str, obs: Sequence[str] | None, control_hz: float | None) -> None:
        self._demos = DemoFile(path)
        self.path = path
        try:
            if control not in ACTIONS:
                raise DataError(f"control={control}: expected absolute or relative{did_you_mean(control, ACTIONS)}")
            self._action = ACTIONS[control]
            valid = self._demos.masks.get("valid", ())
            train = [name for name in self._demos.names if name not in valid]
            self.names = (*train, *valid)
            self.splits = {"train": f"0:{len(train)}"}
            if valid:
                self.splits["valid"] = f"{len(train)}:{len(self.names)}"
            self.fps = self._rate(control_hz)
            env_args = self._demos.env_args
            self.env_name = str(env_args.get("env_name") or "imported")
            self.task = self.env_name
            self._file = h5py.File(path, "r")
            self._choose(obs)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ExportSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._demos.close()
        if hasattr(self, "_file"):
            self._file.close()

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the entries of the state vector: key.0, key.1, ..."""
        return tuple(f"{key}.{i}" for key, size in self._vectors.items() for i in range(size))

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the entries of the action vector."""
        return tuple(f"{part}.{axis}" for part, axes in _PARTS.items() for axis in axes)

    def episode(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[np.uint8]]]:
        """State (T, D), action (T, 7) and {key: (T, H, W, 3)} of one demonstration, checked."""
        at, demo = f"{self.path}: {name}", self._file["data"][name]
        keys = [self._action, *(f"obs/{key}" for key in (*self._vectors, *self.pictures))]
        missing = [key for key in keys if key not in demo]
        if missing:
            raise DataError(f"{at}: has no {missing[0]!r}, which {self._demos.names[0]} has; repair or drop it")
        arrays = {}
        for key in keys:
            try:
                arrays[key] = np.asarray(demo[key][()])
            except OSError as error:
                raise DataError(f"{at}: {key!r} cannot be read, perhaps damaged ({error})") from error
            refuse_non_finite(arrays[key], key, at)
        lengths = {key: len(values) for key, values in arrays.items()}
        if len(set(lengths.values())) != 1 or not lengths[self._action]:
            raise DataError(f"{at}: expected arrays of one length > 0, got {lengths}")
        for key, size in self._vectors.items():
            if arrays[f"obs/{key}"].shape[1:] != (size,):
                raise DataError(f"{at}: obs/{key} has shape {arrays[f'obs/{key}'].shape}, expected (T, {size})")
        for key, shape in self.pictures.items():
            if arrays[f"obs/{key}"].shape[1:] != shape:
                raise DataError(f"{at}: obs/{key} has shape {arrays[f'obs/{key}'].shape}, expected (T, *{shape})")
        parts = [arrays[f"obs/{key}"].astype(np.float32) for key in self._vectors]
        count = lengths[self._action]
        state = np.concatenate(parts, 1) if parts else np.zeros((count, 0), np.float32)
        pictures = {key: arrays[f"obs/{key}"] for key in self.pictures}
        return state, arrays[self._action].astype(np.float32), pictures

    def mapping(self, state: str, action: str, cameras: Mapping[str, str]) -> dict[str, Any]:
        """Content of a mapping file that leads back to this file."""
        obs: dict[str, Any] = {}
        at = 0
        for key, size in self._vectors.items():
            # scalars: already in our units, storage and frame, so nothing may touch them
            obs[key] = {"from": state, "slice": [at, at + size], "kind": "scalars"}
            at += size
        obs |= {key: {"from": camera, "kind": "image"} for camera, key in cameras.items()}
        parts: dict[str, Any] = {}
        at = 0
        for part, kind in ACTION_PARTS[self._action].items():
            size = len(_PARTS[part])
            parts[part] = {"from": action, "slice": [at, at + size]}
            if "rotation" in kind:
                parts[part]["storage"] = "rotvec"
            if kind == "gripper":
                parts[part] |= {"open": -1.0, "closed": 1.0}
            at += size
        return {"obs": obs, self._action: parts}

    def _rate(self, control_hz: float | None) -> int:
        kwargs = self._demos.env_args.get("env_kwargs")
        stored = kwargs.get("control_freq") if isinstance(kwargs, Mapping) else None
        if stored is not None and control_hz is not None and float(stored) != float(control_hz):
            raise DataError(f"{self.path}: was recorded at {stored:g} Hz, control_hz={control_hz:g} was given")
        rate = control_hz or stored
        if rate is None:
            raise DataError(f"{self.path}: does not say its control rate; give it: control_hz=...")
        if float(rate) != round(float(rate)) or rate < 1:
            raise DataError(f"{self.path}: runs at {rate:g} Hz; LeRobot's fps is a whole number")
        return round(float(rate))

    def _choose(self, obs: Sequence[str] | None) -> None:
        """Sort the keys of the first demonstration: vectors, pictures, and what LeRobot has no place for."""
        first = self._file["data"][self.names[0]]
        have = list(first["obs"]) if isinstance(first.get("obs"), h5py.Group) else []
        for key in obs or ():
            if key not in have:
                raise DataError(
                    f"{self.path}: no observation {key!r}{did_you_mean(key, have)}; it has {', '.join(have) or 'none'}"
                )
        if self._action not in first:
            other = [name for name in ACTION_PARTS if name in first]
            raise DataError(
                f"{self.path}: has no {self._action!r}; it has {', '.join(other) or 'no actions'}. Choose control="
                "absolute or relative"
            )
        if first[self._action].shape[1:] != (7,):
            raise DataError(f"{self.path}: {self._action} has shape {first[self._action].shape}, expected (T, 7)")
        self._vectors: dict[str, int] = {}
        self.pictures: dict[str, tuple[int, int, int]] = {}
        self.left_out: dict[str, str] = {}
        for key in have:
            stored = first["obs"][key]
            if obs is not None and key not in obs:
                self.left_out[f"obs/{key}"] = "not chosen"
            elif stored.ndim == 2 and stored.dtype.kind == "f":
                self._vectors[key] = stored.shape[1]
            elif stored.ndim == 4 and stored.dtype == np.uint8 and stored.shape[-1] == 3:
                self.pictures[key] = stored.shape[1:]
            else:
                self.left_out[f"obs/{key}"] = f"{stored.dtype} {stored.shape[1:]} is neither a vector nor a picture"
        for key in first:
            if key not in ("obs", self._action):
                self.left_out[key] = "LeRobot has no place for it"
        if not self._vectors and not self.pictures:
            raise DataError(
                f"{self.path}: has no observations to export; scripts/prepare_data.py makes them from states"
            )
