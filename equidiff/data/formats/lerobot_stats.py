"""Statistics of a LeRobotDataset, as lerobot/datasets/compute_stats.py (lerobot 0.6) defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["episode_stats", "merge_stats", "plain"]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_MOST_FRAMES = 100  # of an episode's pictures that enter the statistics

Stats = dict[str, NDArray[Any]]


def episode_stats(values: NDArray[Any], picture: bool) -> Stats:
    """min, max, mean, std, count and quantiles of one feature in one episode.

    Vectors (T, D): per entry, (D,). Pictures (T, H, W, 3): per channel of evenly chosen frames, in [0, 1], (3, 1, 1).
    """
    count = len(values)
    if picture:
        chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int))
        count = len(chosen)
        values = values[chosen].reshape(-1, values.shape[-1])
    flat = values.reshape(len(values), -1).astype(np.float64)
    stats = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    stats |= dict(zip(QUANTILES, np.quantile(flat, list(QUANTILES.values()), axis=0), strict=True))
    if picture:
        stats = {name: (value / 255).reshape(-1, 1, 1) for name, value in stats.items()}
    return {**stats, "count": np.array([count])}


def merge_stats(one: Stats, other: Stats) -> Stats:
    """Statistics of both parts together. Quantiles cannot be merged: the outer of the two is kept, as LeRobot does."""
    n, m = int(one["count"][0]), int(other["count"][0])
    share = m / (n + m)
    step = other["mean"] - one["mean"]
    mean = one["mean"] + step * share
    variance = one["std"] ** 2 * (1 - share) + other["std"] ** 2 * share + step**2 * share * (1 - share)
    merged = {
        "min": np.minimum(one["min"], other["min"]),
        "max": np.maximum(one["max"], other["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([n + m]),
    }
    for name, quantile in QUANTILES.items():
        merged[name] = (np.minimum if quantile <= 0.5 else np.maximum)(one[name], other[name])
    return merged


def plain(stats: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Lists and numbers for JSON or arrow."""
    return {name: value.tolist() for name, value in stats.items()}
