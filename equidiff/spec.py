"""`Spec`: what goes into a policy, what comes out, how it turns, over which horizon and workspace."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from equidiff.fields import ArrayField, Field, Source, field_from_json
from equidiff.symmetry import Irreps

__all__ = ["Batch", "Horizon", "Space", "Spec", "SpecError", "Workspace"]

Batch = dict[str, Any]
"""{"obs": {key: (B, To, *shape)}, "action": (B, T, A)}: raw arrays as stored, most of them float32."""


_LONGEST = 10_000  # steps; beyond it a file is damaged or hostile


class SpecError(ValueError):
    """A batch or an observation that does not fit the spec; the message names the key and the fix."""


@dataclass(frozen=True)
class Horizon:
    """Lengths in control steps.

    A window starts with its first observation; of the `predict` actions, number `obs - 1` belongs to the
    current (last) observation, and `execute` of them are executed from there on.

    >>> Horizon(obs=2, predict=16, execute=8).executed
    slice(1, 9, None)
    """

    obs: int = 1
    predict: int = 16
    execute: int = 8
    latency: int = 0

    def __post_init__(self) -> None:
        lengths = dataclasses.astuple(self)
        if not all(isinstance(n, int) and n <= _LONGEST for n in lengths):
            raise SpecError(f"Horizon: lengths are integers up to {_LONGEST}, got {self}")
        if min(self.obs, self.predict, self.execute) < 1 or self.latency < 0:
            raise SpecError(f"Horizon: obs, predict and execute must be >= 1 and latency >= 0, got {self}")
        if self.start + self.execute > self.predict:
            raise SpecError(
                f"Horizon: obs - 1 + latency + execute = {self.start + self.execute} actions are needed but only "
                f"predict = {self.predict} are predicted; raise horizon.predict or lower horizon.execute"
            )

    @property
    def start(self) -> int:
        """Index of the first executed action."""
        return self.obs - 1 + self.latency

    @property
    def executed(self) -> slice:
        """The part of a predicted chunk that is executed."""
        return slice(self.start, self.start + self.execute)


@dataclass(frozen=True)
class Workspace:
    """Axis of the symmetry (x, y), metres, world frame, and optional bounds ((x0, x1), (y0, y1), (z0, z1))."""

    centre: tuple[float, float] = (0.0, 0.0)
    bounds: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        try:
            x, y = (float(v) for v in self.centre)
        except (TypeError, ValueError):
            raise SpecError(f"Workspace.centre: expected (x, y) in metres, got {self.centre!r}") from None
        if not (math.isfinite(x) and math.isfinite(y)):
            raise SpecError(f"Workspace.centre: expected finite (x, y) in metres, got {self.centre!r}")
        object.__setattr__(self, "centre", (x, y))
        if self.bounds is not None:
            try:
                bounds = tuple((float(low), float(high)) for low, high in self.bounds)
            except (TypeError, ValueError):
                bounds = ()
            if len(bounds) != 3 or not all(low < high for low, high in bounds):
                raise SpecError(
                    "Workspace.bounds: expected ((x0, x1), (y0, y1), (z0, z1)) in metres, every lower bound below the "
                    f"upper, got {self.bounds}"
                )
            object.__setattr__(self, "bounds", bounds)

    @property
    def square(self) -> float | None:
        """Metres along a side of the largest square about the centre within the bounds: what a voxel grid covers."""
        if self.bounds is None:
            return None
        ends = zip(self.centre, self.bounds[:2], strict=True)
        return 2 * min(min(at - low, high - at) for at, (low, high) in ends)


@dataclass(frozen=True)
class Space:
    """An ordered set of fields."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if not self.fields:
            raise SpecError("Space: at least one field is needed")
        names = [f.name for f in self.fields]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise SpecError(f"Space: field {sorted(twice)[0]!r} is declared twice")
        _ = self.sources  # raises if two fields disagree about an array

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Every stored array that the fields read, by key."""
        found: dict[str, Source] = {}
        for field in self.fields:
            for source in field.sources:
                other = found.setdefault(source.key, source)
                same_law = type(other) is type(source) and other.shape == source.shape
                if not same_law or getattr(other, "storage", None) != getattr(source, "storage", None):
                    raise SpecError(f"Space: {source.key!r} is declared both as {other} and as {source}")
        return found

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the stored arrays."""
        return tuple(self.sources)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each stored array without batch and time."""
        return {key: source.shape for key, source in self.sources.items()}

    @cached_property
    def arrays(self) -> dict[str, ArrayField]:
        """Fields that are pictures, grids or clouds, by name."""
        return {f.name: f for f in self.fields if isinstance(f, ArrayField)}

    @cached_property
    def irreps(self) -> Irreps:
        """Law of the concatenated features of the vector fields."""
        return Irreps(tuple(k for f in self.fields for k in f.irreps.frequencies))

    @cached_property
    def entries(self) -> Tensor | None:
        """Orthogonal (size, size), float64: features = entries @ what clip="entries" clips; None: the same numbers."""
        maps = [(field.irreps.size, field.entries) for field in self.fields]
        if all(entries is None for _, entries in maps):
            return None
        with torch.inference_mode(False):
            blocks = [torch.eye(n, dtype=torch.float64) if m is None else m.double() for n, m in maps]
            joined: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
            return joined

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        """{key: (..., *shape)} -> (..., irreps.size): features of all vector fields, concatenated in order."""
        parts = [f.decode(raw) for f in self.fields if f.vector]
        if parts:
            return torch.cat(parts, -1)
        key, source = next(iter(self.sources.items()))
        leading = raw[key].shape[: raw[key].ndim - len(source.shape)]
        return torch.zeros((*leading, 0), device=raw[key].device)

    def decode_arrays(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{key: (..., *shape)} -> {name: (..., *features)} of the fields in `arrays`."""
        return {name: f.decode(raw) for name, f in self.arrays.items()}

    def slices(self) -> tuple[slice, ...]:
        """Where each field's features lie in the concatenation; empty for pictures, grids and clouds."""
        out, at = [], 0
        for f in self.fields:
            out.append(slice(at, at + f.irreps.size))
            at += f.irreps.size
        return tuple(out)


@dataclass(frozen=True)
class Spec:
    """The contract between data, policy, simulation and robot. Immutable; JSON round trip.

    `action` fields are concatenated in order to the environment's action vector (..., A). An action
    field may refer to an observation key: it then reads the current (last) observation.
    """

    observation: Space
    action: Space
    horizon: Horizon = Horizon()
    workspace: Workspace = Workspace()
    control_hz: float = 20.0

    def __post_init__(self) -> None:
        for name in ("observation", "action"):
            space = getattr(self, name)
            fields = space.fields if isinstance(space, Space) else tuple(space)
            object.__setattr__(self, name, Space(tuple(f.with_centre(self.workspace.centre) for f in fields)))
        for field in self.action.fields:
            if not field.invertible:
                raise SpecError(f"Spec.action: {field.name!r} ({type(field).__name__}) can only be an observation")
            for source in field.sources[1:]:
                if source.key not in self.observation.sources:
                    raise SpecError(
                        f"Spec.action: {field.name!r} refers to the observation {source.key!r}, which no observation "
                        f"field reads; observed keys: {', '.join(self.observation.keys)}"
                    )
        if not (self.control_hz > 0 and math.isfinite(self.control_hz)):
            raise SpecError(f"Spec.control_hz: expected a rate in Hz > 0, got {self.control_hz}")

    # -- actions -----------------------------------------------------------------------------------

    @cached_property
    def action_slices(self) -> tuple[slice, ...]:
        """Where each action field is stored in the action vector."""
        out, at = [], 0
        for f in self.action.fields:
            width = f.sources[0].shape[0]
            out.append(slice(at, at + width))
            at += width
        return tuple(out)

    @cached_property
    def action_size(self) -> int:
        """Width A of the stored action vector."""
        return sum(f.sources[0].shape[0] for f in self.action.fields)

    @cached_property
    def action_centred(self) -> tuple[Source, ...]:
        """The stored part of each action field, with the workspace centre set."""
        return tuple(f.sources[0].with_centre(self.workspace.centre) for f in self.action.fields)  # type: ignore[misc]

    def decode_action(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, T, A) stored actions and {key: (B, To, ...)} observations -> (B, T, features)."""
        raw = self._current(obs)
        parts = []
        for field, at in zip(self.action.fields, self.action_slices, strict=True):
            parts.append(field.decode({**raw, field.sources[0].key: action[..., at]}))
        return torch.cat(parts, -1)

    def encode_action(self, features: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, T, features) -> (B, T, A) stored actions; inverse of `decode_action`."""
        raw = self._current(obs)
        slices = self.action.slices()
        return torch.cat([f.encode(features[..., s], raw) for f, s in zip(self.action.fields, slices, strict=True)], -1)

    def _current(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        keys = {s.key for f in self.action.fields for s in f.sources[1:]}
        return {key: obs[key][:, -1:] for key in keys}

    # -- checks ------------------------------------------------------------------------------------

    def check(self, batch: Mapping[str, Any], *, where: str = "batch") -> None:
        """Raise SpecError unless `batch` has the keys, shapes, dtype and finite values of the spec."""
        if "obs" not in batch:
            raise SpecError(f"{where}: needs 'obs', got {sorted(batch)}")
        obs = batch["obs"]
        self.check_observation(obs, where=where)
        if "action" in batch:
            action, size = batch["action"], (self.horizon.predict, self.action_size)
            _check_tensor("action", action, where)
            if action.ndim != 3 or tuple(action.shape[1:]) != size:
                parts = zip(self.action.fields, self.action_slices, strict=True)
                names = ", ".join(f"{f.key} {s.stop - s.start}" for f, s in parts)
                raise SpecError(
                    f"{where}: 'action' has shape {tuple(action.shape)}, expected (B, {size[0]}, {size[1]}) = "
                    f"(batch, horizon.predict, {names})"
                )
            _check_values("action", action, None, where)
            samples = obs[self.observation.keys[0]].shape[0]
            if action.shape[0] != samples:
                raise SpecError(f"{where}: batch sizes differ: 'action' has {action.shape[0]}, 'obs' has {samples}")

    def check_observation(self, obs: Mapping[str, Tensor], *, where: str = "observation") -> None:
        """Raise SpecError unless {key: (B, To, *shape)} fits; names the key, what came and the fix."""
        if not isinstance(obs, Mapping):
            raise SpecError(f"{where}: expected a mapping {{key: tensor}}, got {type(obs).__name__}")
        batches = {}
        for key, source in self.observation.sources.items():
            if key not in obs:
                close = difflib.get_close_matches(key, list(obs), n=1)
                hint = f"; did you mean to rename {close[0]!r}?" if close else ""
                raise SpecError(f"{where}: {key!r} {source.shape} is missing{hint} Got: {', '.join(sorted(obs))}")
            value, want = obs[key], (self.horizon.obs, *source.shape)
            _check_tensor(key, value, where)
            if value.ndim != len(want) + 1 or tuple(value.shape[1:]) != want:
                sizes = ", ".join(map(str, want))
                raise SpecError(
                    f"{where}: {key!r} has shape {tuple(value.shape)}, expected (B, {sizes}) = "
                    "(batch, horizon.obs, *shape)"
                )
            _check_values(key, value, source.dtype, where)
            batches[key] = value.shape[0]
        if len(set(batches.values())) > 1:
            raise SpecError(f"{where}: batch sizes differ: {batches}")

    # -- symmetry ----------------------------------------------------------------------------------

    def rotate(self, batch: Mapping[str, Any], angle: Tensor | float) -> Batch:
        """A new batch, turned by `angle` (radians; scalar or (B,)) about the workspace centre. Storage form."""
        out: Batch = {"obs": self.rotate_observation(batch["obs"], angle)}
        if "action" in batch:
            out["action"] = self.rotate_action(batch["action"], angle)
        return out

    def rotate_observation(self, obs: Mapping[str, Tensor], angle: Tensor | float) -> dict[str, Tensor]:
        """Turn {key: (B, To, *shape)}; keys the spec does not read are dropped."""
        turned = {}
        for key, source in self.observation.sources.items():
            centred = source.with_centre(self.workspace.centre)
            assert isinstance(centred, Source)
            turned[key] = centred.rotate(obs[key], _per_sample(angle, obs[key]))
        return turned

    def rotate_action(self, action: Tensor, angle: Tensor | float) -> Tensor:
        """Turn stored actions (B, T, A)."""
        turn = _per_sample(angle, action)
        parts = zip(self.action_centred, self.action_slices, strict=True)
        return torch.cat([source.rotate(action[..., at], turn) for source, at in parts], -1)

    # -- JSON --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A JSON tree from which `from_json` builds an equal spec."""
        return {
            "observation": [f.to_json() for f in self.observation.fields],
            "action": [f.to_json() for f in self.action.fields],
            "horizon": dataclasses.asdict(self.horizon),
            "workspace": {"centre": list(self.workspace.centre), "bounds": self.workspace.bounds},
            "control_hz": self.control_hz,
        }

    @classmethod
    def from_json(cls, node: Mapping[str, Any]) -> Spec:
        """Build a spec from `to_json`; raises SpecError or FieldError with the entry that does not fit."""
        try:
            return cls(
                observation=Space(_fields(node["observation"])),
                action=Space(_fields(node["action"])),
                horizon=Horizon(**node["horizon"]),
                workspace=Workspace(**node["workspace"]),
                control_hz=node["control_hz"],
            )
        except (KeyError, TypeError) as error:
            raise SpecError(f"spec: {error} (expected observation, action, horizon, workspace, control_hz)") from error


def _fields(nodes: Iterable[Mapping[str, Any]]) -> tuple[Field, ...]:
    return tuple(field_from_json(node) for node in nodes)


def _per_sample(angle: Tensor | float, like: Tensor) -> Tensor | float:
    if isinstance(angle, Tensor) and angle.ndim == 1:
        return angle[:, None].expand(like.shape[0], like.shape[1])
    return angle


def _check_tensor(key: str, value: Any, where: str) -> None:
    if not isinstance(value, Tensor):
        raise SpecError(f"{where}: {key!r} is a {type(value).__name__}, expected a tensor; use torch.as_tensor")


def _check_values(key: str, value: Tensor, stored: torch.dtype | None, where: str) -> None:
    if stored is not None and value.dtype == stored:  # whole numbers are finite
        return
    if not value.is_floating_point():
        kind = "floating point (float32)" if stored is None else f"{stored} or floating point with the same values"
        raise SpecError(f"{where}: {key!r} has dtype {value.dtype}, expected {kind}")
    finite = torch.isfinite(value)
    if not finite.all():
        index = tuple(int(i) for i in (~finite).nonzero()[0])
        raise SpecError(f"{where}: {key!r} is {value[index].item()} at index {index}; repair or drop this sample")
