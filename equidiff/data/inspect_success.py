"""Whether a demonstration ends solved, by what is stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

__all__ = ["success_of"]


def success_of(demo: h5py.Group, env_args: Mapping[str, Any]) -> bool | None:
    """Solved in the final state or not; None where the file does not say.

    The attribute `success` decides. Else robomimic's `rewards`, if they are sparse: robosuite's are `reward_scale` (1)
    in a solved state. Else `dones`: 0 at the end means not solved; 1 may only mean that the demonstration ends there.
    """
    told = demo.attrs.get("success")
    if told is not None:
        return bool(told)
    kwargs = env_args.get("env_kwargs")
    settings = kwargs if isinstance(kwargs, Mapping) else {}
    reward, done = _last(demo, "rewards"), _last(demo, "dones")
    if reward is not None and not settings.get("reward_shaping"):
        return reward >= (settings.get("reward_scale") or 1.0) - 1e-6
    return False if done == 0 else None


def _last(demo: h5py.Group, key: str) -> float | None:
    stored = demo.get(key)
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 1 or not len(stored) or stored.dtype.kind not in "fiub":
        return None
    try:
        return float(stored[-1])
    except OSError:  # a damaged piece, which is told where all arrays are read
        return None
