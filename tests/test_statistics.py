"""Exact intervals and tests against published and independently computed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equidiff.statistics import Paired, Proportion, clopper_pearson, mcnemar_exact, paired


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # from the beta quantiles, scipy.stats.binomtest(k, n).proportion_ci(method="exact")
        (0, 10, 0.0, 0.3084971078),
        (10, 10, 0.6915028922, 1.0),
        (8, 10, 0.4439045377, 0.9747892736),
        (49, 50, 0.8935304543, 0.9994937720),
        (16, 50, 0.1952041947, 0.4669938401),
        (1, 1, 0.025, 1.0),
    ],
)
def test_interval_has_the_known_bounds(successes: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=1e-8)


def test_interval_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for trials in (1, 2, 7, 50, 150, 1000):
        for successes in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
            want = stats.binomtest(successes, trials).proportion_ci(0.9, method="exact")
            assert clopper_pearson(successes, trials, 0.9) == pytest.approx((want.low, want.high), abs=1e-9)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_contains_the_rate_and_mirrors(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = clopper_pearson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    mirrored = clopper_pearson(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
    wider = clopper_pearson(successes, trials, 0.99)
    assert wider[0] <= low
    assert high <= wider[1]


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes}/{trials}"):
        clopper_pearson(successes, trials)
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson(1, 2, 95)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 0.0625),
        (6, 0, 0.03125),
        (2, 10, 0.03857421875),
        (33, 0, 2**-32),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, rel=1e-12)
    assert mcnemar_exact(only_second, only_first) == pytest.approx(p, rel=1e-12)


def test_paired_counts_and_decides() -> None:
    table = paired([True] * 8 + [False, True], [False] * 7 + [True, False, True])
    assert table == Paired(both=2, only_first=7, only_second=0, neither=1)
    assert table.pairs == 10
    assert table.p_value == pytest.approx(2 / 128)
    assert table.better() == 1
    assert Paired(2, 0, 7, 1).better() == -1
    assert table.better(level=0.01) == 0
    with pytest.raises(ValueError, match="got 1 and 2"):
        paired([True], [True, False])


def test_proportion_reads_well() -> None:
    assert str(Proportion(16, 50)) == "16/50 = 32 % (20-47)"
