"""Statistics of one key over many demonstrations, one after the other: memory does not grow with their length."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.inspect_keys import BIG, law_of

__all__ = ["KeyStats"]

_COMPONENTS = 64  # arrays with more values per step get one range for all of them
_FENCE = 3.0  # outliers lie this many times the width of the middle 99 % outside it
_RARE = 0.02  # and in at most this share of the demonstrations: more are a long tail


@dataclass
class KeyStats:
    """What is known of one key. `add` takes one demonstration after the other.

    shapes, dtypes: per step, with the demonstrations that have them. low, high, mean: per component, or one value for
    large arrays. sampled: looked at in samples of its steps only. constant: demonstrations in which nothing changes.
    """

    name: str
    kind: str
    sampled: bool = False
    shapes: dict[tuple[int, ...], list[str]] = field(default_factory=dict)
    dtypes: Counter[str] = field(default_factory=Counter)
    present: list[str] = field(default_factory=list)
    non_finite: dict[str, int] = field(default_factory=dict)
    constant: list[str] = field(default_factory=list)
    steps: int = 0
    bytes_stored: int = 0
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    _total: NDArray[np.float64] | None = None
    _count: NDArray[np.float64] | None = None
    _extremes: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)
    _sample: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, demo: str, values: NDArray[Any], quota: int = 0) -> None:
        """values: (T, *shape), the steps of one demonstration that were read; keep up to `quota` for `sample`."""
        shape = values.shape[1:]
        if not values.size:
            return
        width = int(np.prod(shape, dtype=int))
        flat = values.reshape(len(values), -1)
        if width > _COMPONENTS:
            flat = flat.reshape(-1, 1)
        if flat.dtype.kind == "f":
            flat = flat.astype(np.float64)
            bad = int((~np.isfinite(flat)).sum())
            if bad:
                self.non_finite[demo] = bad
                flat = np.where(np.isfinite(flat), flat, np.nan)
        if flat.dtype.kind == "f" and np.isnan(flat).all(0).any():
            flat = np.where(np.isnan(flat).all(0), 0.0, flat)  # nothing to measure; reported as not finite
        low, high = np.nanmin(flat, 0).astype(np.float64), np.nanmax(flat, 0).astype(np.float64)
        total, count = np.nansum(flat, 0, dtype=np.float64), (~np.isnan(flat)).sum(0).astype(np.float64)
        if self.low is None or self.high is None or self._total is None or self._count is None:
            self.low, self.high, self._total, self._count = low, high, total, count
        elif low.shape == self.low.shape:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self._total, self._count = self._total + total, self._count + count
        if len(values) > 1 and bool((values == values[:1]).all()):
            self.constant.append(demo)
        if width <= _COMPONENTS and low.shape == self.low.shape:
            self._extremes.append((demo, low, high))
            if quota:
                chosen = np.unique(np.linspace(0, len(flat) - 1, min(quota, len(flat))).round().astype(int))
                self._sample.append(flat[chosen].astype(np.float32))

    @property
    def mean(self) -> NDArray[np.float64] | None:
        """Per component, over the steps that were read."""
        return None if self._total is None or self._count is None else self._total / np.maximum(self._count, 1)

    def last_constant(self) -> list[str]:
        """Demonstrations whose last component never changes."""
        return [demo for demo, low, high in self._extremes if low[-1] == high[-1]]

    def sample(self) -> NDArray[np.float32] | None:
        """(N, C) steps kept for histograms, evenly over the demonstrations; None for large arrays."""
        return np.concatenate(self._sample) if self._sample else None

    def outliers(self) -> list[tuple[str, int, float]]:
        """(demonstration, component, value) far outside the middle 99 % of `sample`.

        Far: by more than 3 times the width of that middle, in at most 2 % of the demonstrations.
        """
        kept = self.sample()
        if kept is None or len(kept) < 20:
            return []
        first, last = np.nanquantile(kept, [0.005, 0.995], axis=0)
        width = last - first
        found: list[tuple[str, int, float]] = []
        for i in np.flatnonzero(width > 1e-6):
            low, high = first[i] - _FENCE * width[i], last[i] + _FENCE * width[i]
            odd = [(d, a[i] if a[i] < low else b[i]) for d, a, b in self._extremes if a[i] < low or b[i] > high]
            here = [(demo, int(i), float(value)) for demo, value in odd]
            if len(here) <= max(1, _RARE * len(self._extremes)):
                found += here
        return found

    def to_json(self, n_demo: int) -> dict[str, Any]:
        """For inspect.json."""
        law = law_of(self.kind)
        numbers = lambda v: None if v is None else [float(f"{x:.6g}") for x in v]
        return {
            "kind": self.kind,
            "law": law.law,
            "equivariant": law.exact,
            "shape": [list(s) for s in self.shapes],
            "dtype": sorted(self.dtypes),
            "demonstrations": len(self.present),
            "missing_in": n_demo - len(self.present),
            "min": numbers(self.low),
            "max": numbers(self.high),
            "mean": numbers(self.mean),
            "sampled": self.sampled,
            "constant_in": len(self.constant),
            "not_finite": sum(self.non_finite.values()),
            "bytes": self.bytes_stored,
        }


def is_big(shape: tuple[int, ...]) -> bool:
    """Whether arrays of this shape per step are only sampled."""
    return int(np.prod(shape, dtype=int)) > BIG
