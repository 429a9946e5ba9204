"""Motion on SO(3) in exponential coordinates: R(t) = R0 exp(phi(t)), and what bounds on phi mean for the body.

With K the cross product with phi, the body rate is w = Jr(phi) phi', Jr = I - c1 K + c2 K^2, c1 = (1 - cos a) / a^2,
c2 = (a - sin a) / a^3 and a = |phi| (right Jacobian; Chirikjian 2012, "Stochastic Models, Information Theory, and Lie
Groups 2", section 10.6). |Jr x| <= |x|, so |w| <= |phi'|. Deriving once and twice, where phi' x phi' = 0 removes the
leading terms,

    |w'|  <= |phi''| + V^2 (a / 6 + a^2 / 12)
    |w''| <= |phi'''| + V A / 2 + 4 a V A / 6 + a V^3 / 6 + a^2 V A / 2

for |phi'| <= V, |phi''| <= A and small a. In the axes of the base the acceleration has the same length; the jerk there,
R (w'' + w x w'), has V A / 2 of the opposite sign at a = 0, hence the same bound up to a V A.
"""

from __future__ import annotations

import math

import numpy as np

from real_robot.poses import log_map
from real_robot.settings import SettingsError
from real_robot.types import Array

__all__ = ["body_motion", "inner_rates", "rotation_of", "rotations_of", "stopping_angle", "turn_between"]

_SPREAD = math.sqrt(3)  # a bound on each axis that keeps the length


def _coefficients(angle: float) -> tuple[float, float, float, float]:
    """c1, c2, and their derivatives by the angle divided by it."""
    s = angle * angle
    if angle < 0.2:
        return (
            1 / 2 - s / 24 + s * s / 720 - s**3 / 40320,
            1 / 6 - s / 120 + s * s / 5040 - s**3 / 362880,
            -1 / 12 + s / 180 - s * s / 6720,
            -1 / 60 + s / 1260 - s * s / 60480,
        )
    sine, cosine = math.sin(angle), math.cos(angle)
    return (
        (1 - cosine) / s,
        (angle - sine) / (s * angle),
        (angle * sine - 2 * (1 - cosine)) / (s * s),
        (3 * sine - 2 * angle - angle * cosine) / (s * s * angle),
    )


_Triple = tuple[float, float, float]


def _cross(a: _Triple, b: _Triple) -> _Triple:
    # plain numbers: np.cross takes twenty times as long for one pair
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def body_motion(phi: Array, rate: Array, acceleration: Array) -> tuple[Array, Array]:
    """Body rate and its derivative (3,) each, of phi (3,) and its two derivatives."""
    p, r, a = _triple(phi), _triple(rate), _triple(acceleration)
    c1, c2, d1, d2 = _coefficients(math.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]))
    first = _cross(p, r)
    second = _cross(p, first)
    along = p[0] * r[0] + p[1] * r[1] + p[2] * r[2]
    turned = _cross(p, a)
    again, across = _cross(p, turned), _cross(r, first)
    spin = [r[i] - c1 * first[i] + c2 * second[i] for i in range(3)]
    change = [
        a[i] - c1 * turned[i] + c2 * (again[i] + across[i]) + along * (d2 * second[i] - d1 * first[i]) for i in range(3)
    ]
    return np.array(spin), np.array(change)


def _triple(vector: Array) -> _Triple:
    x, y, z = vector.tolist()
    return x, y, z


def stopping_angle(velocity: float, acceleration: float, jerk: float) -> float:
    """How far one axis still goes, at most, from its full velocity and acceleration to rest (also for metres)."""
    # the acceleration is brought to 0 first, then a ramp down; the speed meanwhile is at most `velocity`
    ramp = velocity / acceleration + acceleration / jerk
    return velocity * (acceleration / jerk + ramp / 2)


def rotation_of(phi: Array) -> Array:
    """(3, 3) of one rotation vector (3,): `exp_map` at a fifth of its time."""
    x, y, z = phi.tolist()
    half = math.sqrt(x * x + y * y + z * z) / 2
    # sin(half) / (2 half)
    share = 0.5 - half * half / 12 if half < 1e-3 else 0.5 * math.sin(half) / half
    x, y, z, w = share * x, share * y, share * z, math.cos(half)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


_HAT = np.array([[0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0]], float)
_EYE = np.eye(3)


def rotations_of(phi: Array) -> Array:
    """(k, 3, 3) of rotation vectors (k, 3), Rodrigues' formula."""
    angle = np.sqrt((phi * phi).sum(-1))[:, None, None]
    half = np.maximum(angle, 1e-8) / 2
    hat = (phi @ _HAT).reshape(-1, 3, 3)
    first = np.sin(half) / half
    return np.asarray(_EYE + (first * np.cos(half)) * hat + (0.5 * first * first) * (hat @ hat))


def turn_between(first: Array, second: Array) -> Array:
    """Rotation vector (3,), in the first one's frame, from one rotation (3, 3) to another."""
    turn = first.T @ second
    (a, b, c), (d, e, f), (g, h, i) = turn.tolist()
    x, y, z = h - f, c - g, d - b
    sine, cosine = math.sqrt(x * x + y * y + z * z), a + e + i - 1
    if sine < 0.02 and cosine < 0:  # near half a turn, the difference of the sides says nothing
        return log_map(turn)
    share = math.atan2(sine, cosine) / sine if sine > 1e-9 else 0.5
    return np.array([share * x, share * y, share * z])


def inner_rates(velocity: float, acceleration: float, jerk: float) -> tuple[float, float, float]:
    """The bounds for each coordinate of phi that keep the body's motion within the given lengths.

    Raises ValueError when the jerk is so low that turning about a changing axis uses it up.
    """
    v, a = 0.999 * velocity, 0.99 * acceleration
    for _ in range(8):  # the stopping angle depends on what is solved for
        angle = _SPREAD * stopping_angle(v / _SPREAD, a / _SPREAD, max(jerk / 4, 1e-9) / _SPREAD)
        a = 0.99 * acceleration - v * v * (angle / 6 + angle * angle / 12)
        if a <= 0.2 * acceleration:
            break
    inner = 0.98 * jerk - v * a * (1 / 2 + 5 * angle / 3 + angle * angle / 2) - angle * v**3 / 6
    if a <= 0.2 * acceleration or inner < jerk / 4:
        raise SettingsError(
            f"safety.angular: velocity {velocity}, acceleration {acceleration} and jerk {jerk} do not go together: "
            "turning about a changing axis alone uses up the last; raise angular.jerk or lower the others"
        )
    return v / _SPREAD, a / _SPREAD, inner / _SPREAD
