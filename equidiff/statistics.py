"""Exact statistics for success rates: binomial intervals and paired tests. Only the standard library.

>>> print(Proportion(49, 50))
49/50 = 98 % (89-100)
>>> paired([True, True, True, False], [True, False, False, False])
Paired(both=1, only_first=2, only_second=0, neither=1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Paired", "Proportion", "clopper_pearson", "mcnemar_exact", "paired"]


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact (conservative) two-sided interval (low, high) for a binomial probability.

    The bounds solve P(X >= successes | low) = P(X <= successes | high) = (1 - confidence) / 2
    (Clopper & Pearson, Biometrika 26, 1934). Raises ValueError for impossible counts.

    >>> tuple(round(bound, 4) for bound in clopper_pearson(8, 10))
    (0.4439, 0.9748)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"clopper_pearson: expected 0 <= successes <= trials and trials >= 1, got {successes}/{trials}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"clopper_pearson: confidence must be between 0 and 1 (such as 0.95), got {confidence}")
    tail = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if successes > 0:  # P(X >= k | p) = 1 - P(X <= k - 1 | p) grows with p
        low = _bisect(lambda p: _upper_tail(successes, trials, p) > tail)
    if successes < trials:
        high = _bisect(lambda p: _upper_tail(trials - successes, trials, 1 - p) < tail)
    return low, high


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p value from the two discordant counts (1.0 when there are none).

    Under the null hypothesis each discordant pair is a fair coin (McNemar 1947, exact form).

    >>> mcnemar_exact(0, 5), mcnemar_exact(3, 3)
    (0.0625, 1.0)
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"mcnemar_exact: counts must not be negative, got {only_first} and {only_second}")
    n, k = only_first + only_second, min(only_first, only_second)
    ways = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, float(2 * ways / 2**n))


@dataclass(frozen=True)
class Proportion:
    """A number of successes out of `trials` independent episodes."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        """Observed fraction, 0 to 1."""
        return self.successes / self.trials

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Exact interval of the success probability, see `clopper_pearson`."""
        return clopper_pearson(self.successes, self.trials, confidence)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.successes}/{self.trials} = {100 * self.rate:.0f} % ({100 * low:.0f}-{100 * high:.0f})"


@dataclass(frozen=True)
class Paired:
    """Outcomes of two policies on the same episodes."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar p value of "both are equally good"."""
        return mcnemar_exact(self.only_first, self.only_second)

    @property
    def pairs(self) -> int:
        """Number of episodes that were compared."""
        return self.both + self.only_first + self.only_second + self.neither

    def better(self, level: float = 0.05) -> int:
        """+1 if the first is better at this level, -1 if the second is, 0 if the episodes cannot tell."""
        if self.p_value >= level:
            return 0
        return 1 if self.only_first > self.only_second else -1


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Table of two outcome lists, element i of both from the same episode. Raises ValueError if lengths differ."""
    if len(first) != len(second):
        raise ValueError(f"paired: outcomes of the same episodes are needed, got {len(first)} and {len(second)}")
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    return Paired(*(pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))))


def _upper_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p)."""
    if p <= 0.0 or p >= 1.0:
        return float(p >= 1.0 or k <= 0)
    log_p, log_q = math.log(p), math.log1p(-p)
    norm = math.lgamma(n + 1)
    terms = (norm - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q for i in range(k, n + 1))
    return math.fsum(math.exp(term) for term in terms)


def _bisect(above: Callable[[float], bool]) -> float:
    """Smallest p in [0, 1] for which the monotone predicate holds, to double precision."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2
