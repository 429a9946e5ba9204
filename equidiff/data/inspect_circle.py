"""How evenly angles and points lie about a centre: circular statistics with numpy only.

>>> quarter = np.arange(8) * np.pi / 4
>>> round(resultant(quarter), 6), round(resultant(quarter, 8), 6)
(0.0, 1.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Angles",
    "Centre",
    "Spread",
    "angles",
    "best_centre",
    "empty_arc",
    "kuiper",
    "rayleigh",
    "resultant",
    "spread",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Angles:
    """Evenness of n angles. See `resultant`, `rayleigh`, `kuiper` and `empty_arc` for the formulas.

    direction: mean direction (radians), meaningless where resultants[0] is small. resultants: of frequency 1 to 4.
    """

    n: int
    direction: float
    resultants: tuple[float, ...]
    rayleigh_p: float
    kuiper_p: float
    empty_arc: float

    @property
    def even(self) -> bool:
        """Neither test finds a preferred direction at the 1 % level (two tests, so 0.5 % each)."""
        return min(self.rayleigh_p, self.kuiper_p) >= 0.005

    @property
    def one_sided(self) -> bool:
        """A preferred direction that is significant and strong: the mean of the unit vectors is longer than 0.5."""
        return self.rayleigh_p < 0.005 and self.resultants[0] > 0.5


@dataclass(frozen=True)
class Spread:
    """Second moments of n points (n, 2) about their mean, metres (or the unit that came).

    deviation: sqrt(trace(S) / 2), the standard deviation along one axis. ratio: sqrt(smallest / largest eigenvalue of
    S), 1 for isotropic. axis: direction of the largest eigenvalue, radians in [0, pi). p: Mauchly's test of sphericity;
    with W = 4 det(S) / trace(S)^2 in two dimensions, p = W^((n - 2) / 2), exact for normal points (Mauchly, Annals of
    Mathematical Statistics 11, 1940), conservative for those that end at a border, as in a disc.
    """

    n: int
    deviation: float
    ratio: float
    axis: float
    p: float


@dataclass(frozen=True)
class Centre:
    """A centre (x, y) found from data. radius95: 95 % of the bootstrap means lie within it of `xy`.

    offset: distance from the configured centre; consistent: the squared Mahalanobis distance
    d^T C^-1 d of the configured centre, with the bootstrap covariance C, is below 5.99, the 95 % quantile of chi square
    with 2 degrees of freedom.
    groups: what it was found from; agree: these give the same centre (see `best_centre`).
    """

    xy: tuple[float, float]
    radius95: float
    offset: float
    consistent: bool
    groups: tuple[str, ...]
    agree: bool


def resultant(phi: Array, frequency: int = 1) -> float:
    """|mean of exp(i k phi)| in 0..1: 0 evenly spread, 1 all equal modulo 2 pi / k."""
    return float(abs(np.exp(1j * frequency * np.asarray(phi)).mean()))


def rayleigh(phi: Array) -> float:
    """p of Rayleigh's test against one preferred direction.

    p = exp(sqrt(1 + 4n + 4(n^2 - R^2)) - (1 + 2n)) with R = n * resultant (Zar, Biostatistical Analysis, eq. 27.4).
    """
    n = len(phi)
    length = n * resultant(phi)
    return float(min(1.0, math.exp(math.sqrt(max(0.0, 1 + 4 * n + 4 * (n * n - length * length))) - (1 + 2 * n))))


def kuiper(phi: Array) -> float:
    """p of Kuiper's test against any uneven distribution on the circle.

    V = max(F - F0) + max(F0 - F); with Stephens' L = V (sqrt(n) + 0.155 + 0.24 / sqrt(n)),
    p = 2 sum_j (4 j^2 L^2 - 1) exp(-2 j^2 L^2) (Stephens, Biometrika 52, 1965).
    """
    n = len(phi)
    share = np.sort(np.mod(phi, 2 * np.pi)) / (2 * np.pi)
    v = float((np.arange(1, n + 1) / n - share).max() + (share - np.arange(n) / n).max())
    length = v * (math.sqrt(n) + 0.155 + 0.24 / math.sqrt(n))
    if length < 0.4:  # the series does not converge there, and p is 1 to 7 digits
        return 1.0
    j = np.arange(1, 101)
    a = 2 * (j * length) ** 2
    return float(np.clip(2 * ((2 * a - 1) * np.exp(-a)).sum(), 0.0, 1.0))


def empty_arc(phi: Array) -> float:
    """The widest arc without an angle, radians; 2 pi for a single one."""
    turned = np.sort(np.mod(phi, 2 * np.pi))
    return float(np.diff(np.append(turned, turned[0] + 2 * np.pi)).max())


def angles(phi: Array, fold: int = 1) -> Angles:
    """Evenness of angles (n,) radians modulo 2 pi / fold: they are multiplied by `fold` first.

    direction and empty_arc are given for the angles themselves (divided by `fold` again).
    """
    phi = fold * np.asarray(phi, dtype=np.float64)
    if phi.ndim != 1 or not len(phi):
        raise ValueError(f"angles: expected (n,) with n >= 1, got {phi.shape}")
    direction = float(np.angle(np.exp(1j * phi).mean())) / fold
    return Angles(
        len(phi),
        direction,
        tuple(resultant(phi, k) for k in range(1, 5)),
        rayleigh(phi),
        kuiper(phi),
        empty_arc(phi) / fold,
    )


def spread(points: Array) -> Spread:
    """Second moments of points (n, 2); see Spread."""
    points = np.asarray(points, dtype=np.float64)
    n = len(points)
    covariance = np.cov(points.T, bias=True) if n > 1 else np.zeros((2, 2))
    values, vectors = np.linalg.eigh(covariance)
    low, high = max(float(values[0]), 0.0), float(values[1])
    deviation = math.sqrt(max(float(np.trace(covariance)) / 2, 0.0))
    if n < 3 or high <= 0:
        return Spread(n, deviation, 1.0 if high <= 0 else 0.0, 0.0, 1.0)
    w = 4 * low * high / (low + high) ** 2
    axis = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    return Spread(n, deviation, math.sqrt(low / high), axis, float(w ** ((n - 2) / 2)))


def best_centre(
    groups: dict[str, Array], configured: tuple[float, float], draws: int = 1000, seed: int = 0
) -> Centre | None:
    """The centre about which the start positions {name: (n, 2)} would be balanced, row i from demonstration i.

    A distribution that is symmetric about a centre has its mean there. So the least-squares centre is the mean of
    each group's positions, and over groups their mean weighted by 1 / variance of the group's mean. The uncertainty
    comes from drawing demonstrations with replacement. NaN rows (objects that are absent) are left out. Groups agree
    unless Q = sum_g |mean_g - centre|^2 / variance_g exceeds the 99 % quantile of chi square with 2 (G - 1) degrees of
    freedom (Wilson and Hilferty's approximation). None without a group that varies in at least 3 demonstrations.
    """
    kept = {name: p for name, p in groups.items() if int(np.isfinite(p).all(1).sum()) >= 3}
    kept = {name: p for name, p in kept.items() if spread(p[np.isfinite(p).all(1)]).deviation > 0}
    if not kept:
        return None
    stacked = np.stack(list(kept.values()))  # (G, n, 2)
    counts = np.isfinite(stacked).all(2).sum(1)
    variance = np.nanvar(stacked, axis=1).mean(1) / counts  # of each group's mean, along one axis
    weight = (1 / variance) / (1 / variance).sum()
    means = np.nanmean(stacked, axis=1)
    centre = weight @ means
    n = stacked.shape[1]
    generator = np.random.default_rng(seed)
    drawn = []
    present = np.isfinite(stacked).all(2)
    filled = np.where(present[..., None], stacked, 0.0)
    for _ in range(draws):
        times = np.bincount(generator.integers(0, n, n), minlength=n)
        total = (present * times).sum(1)
        if (total > 0).all():
            drawn.append(weight @ ((filled * times[None, :, None]).sum(1) / total[:, None]))
    cloud = np.array(drawn)
    offset = centre - np.asarray(configured)
    covariance = np.cov(cloud.T) * n / (n - 1) + 1e-12 * np.eye(2)  # the bootstrap of a mean is narrow by (n - 1) / n
    q = float(((means - centre) ** 2).sum(1) @ (1 / variance))
    freedom = 2 * (len(kept) - 1)
    limit = freedom * (1 - 2 / (9 * freedom) + 2.326 * math.sqrt(2 / (9 * freedom))) ** 3 if freedom else math.inf
    return Centre(
        (float(centre[0]), float(centre[1])),
        float(np.quantile(np.linalg.norm(cloud - centre, axis=1), 0.95)),
        float(np.linalg.norm(offset)),
        bool(offset @ np.linalg.solve(covariance, offset) < 5.99),
        tuple(kept),
        q <= limit,
    )
