"""Circular statistics against known values and against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from equidiff.data.inspect_circle import angles, best_centre, empty_arc, kuiper, rayleigh, resultant, spread


def test_known_values() -> None:
    even = np.arange(12) * np.pi / 6
    assert resultant(even) == pytest.approx(0, abs=1e-12)
    assert resultant(even, 12) == pytest.approx(1)
    assert rayleigh(even) == pytest.approx(1, abs=1e-6)
    assert kuiper(even) > 0.99
    assert empty_arc(even) == pytest.approx(np.pi / 6)
    assert empty_arc(np.array([0.3])) == pytest.approx(2 * np.pi)
    # Zar, Biostatistical Analysis, example 27.1: n = 8, r = 0.82522, R = 6.60176 gives 0.001 < p < 0.002
    zar = np.deg2rad([45, 55, 81, 96, 110, 117, 132, 154])
    assert resultant(zar) == pytest.approx(0.82522, abs=5e-5)
    assert np.rad2deg(angles(zar).direction) == pytest.approx(99, abs=0.5)
    assert 0.001 < rayleigh(zar) < 0.002


@pytest.mark.parametrize("test", [rayleigh, kuiper])
def test_level_of_the_tests_is_what_it_says(test: object) -> None:
    rng = np.random.default_rng(0)
    p = np.array([test(rng.uniform(0, 2 * np.pi, 25)) for _ in range(2000)])  # type: ignore[operator]
    assert 0.03 < (p < 0.05).mean() < 0.075


def test_level_of_the_test_of_sphericity() -> None:
    rng = np.random.default_rng(1)
    p = np.array([spread(rng.normal(size=(20, 2))).p for _ in range(2000)])
    assert 0.035 < (p < 0.05).mean() < 0.065


def test_kuiper_sees_two_opposite_directions_that_rayleigh_does_not() -> None:
    two = np.concatenate([np.full(20, 0.5), np.full(20, 0.5 + np.pi)])
    found = angles(two)
    assert found.rayleigh_p > 0.9
    assert found.kuiper_p < 1e-6
    assert not found.even
    assert not found.one_sided
    assert found.resultants[1] == pytest.approx(1)


def test_fold_makes_equal_looking_yaws_equal() -> None:
    rng = np.random.default_rng(2)
    yaw = 0.2 + 0.02 * rng.normal(size=60) + rng.integers(0, 4, 60) * np.pi / 2
    assert angles(yaw, fold=4).one_sided
    assert angles(yaw, fold=4).direction == pytest.approx(0.2, abs=0.02)
    assert angles(yaw, fold=4).empty_arc < np.pi / 2
    assert angles(yaw).resultants[0] < 0.3
    # a quarter turn of one thing changes nothing with fold 4
    assert angles(yaw + np.pi / 2, 4).resultants[0] == pytest.approx(angles(yaw, 4).resultants[0])


def test_spread_knows_ratio_and_axis() -> None:
    rng = np.random.default_rng(3)
    turn = np.deg2rad(30)
    points = rng.normal(size=(4000, 2)) * (0.3, 0.1) @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    found = spread(points)
    assert found.ratio == pytest.approx(1 / 3, rel=0.05)
    assert np.rad2deg(found.axis) == pytest.approx(30, abs=1.5)
    assert found.p < 1e-6
    assert found.deviation == pytest.approx(np.sqrt((0.3**2 + 0.1**2) / 2), rel=0.05)


def test_degenerate_points_give_numbers() -> None:
    assert spread(np.zeros((1, 2))).deviation == 0
    assert spread(np.zeros((5, 2))).ratio == 1
    assert spread(np.column_stack([np.arange(5.0), np.zeros(5)])).ratio == 0
    with pytest.raises(ValueError, match="n >= 1"):
        angles(np.zeros(0))


def test_shifted_centre_is_found_within_its_bound() -> None:
    rng = np.random.default_rng(4)
    a = rng.uniform(-0.2, 0.2, (100, 2)) + (0.05, -0.03)
    b = rng.uniform(-0.1, 0.1, (100, 2)) + (0.05, -0.03)
    b[:10] = np.nan  # absent from ten demonstrations
    found = best_centre({"a": a, "b": b}, (0.0, 0.0))
    assert found is not None
    error = np.hypot(found.xy[0] - 0.05, found.xy[1] + 0.03)
    assert error < found.radius95 < 0.02
    assert not found.consistent
    assert found.offset == pytest.approx(np.hypot(*found.xy))
    assert found.agree
    right = best_centre({"a": a, "b": b}, (0.05, -0.03))
    assert right is not None
    assert right.consistent


def test_things_on_two_sides_do_not_share_a_centre() -> None:
    rng = np.random.default_rng(5)
    found = best_centre({k: rng.uniform(-0.05, 0.05, (30, 2)) + (x, 0) for k, x in (("l", -0.2), ("r", 0.2))}, (0, 0))
    assert found is not None
    assert not found.agree
    assert best_centre({"fixed": np.ones((30, 2))}, (0, 0)) is None
    assert best_centre({}, (0, 0)) is None


def test_coverage_of_the_bound() -> None:
    rng = np.random.default_rng(6)
    inside = [
        found.consistent
        for i in range(150)
        if (found := best_centre({"a": rng.normal(size=(40, 2))}, (0, 0), draws=200, seed=i)) is not None
    ]
    assert 0.88 < np.mean(inside) <= 1.0
