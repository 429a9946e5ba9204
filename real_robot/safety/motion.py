"""`Mover`: the next setpoint towards a target, and the way to rest, both by Ruckig within the limits of motion.

Ruckig (Berscheid and Kroeger 2021) gives each of six coordinates its time-optimal path within velocity, acceleration
and jerk: three of the position and three of the rotation vector from the present orientation (`angular`). The limits
are of lengths, and each coordinate gets its share, 1 / sqrt(3) of it: the speed along one axis stays below the limit,
and no direction exceeds it. The rotation vector starts from the present orientation anew at each step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import ruckig

from real_robot.safety.angular import body_motion, inner_rates, rotation_of, rotations_of, turn_between
from real_robot.safety.limits import RateLimits
from real_robot.types import Array

__all__ = ["Motion", "Mover", "Way"]

_ZEROS, _SO3 = [0.0] * 6, 1.5 * np.eye(3)


class Motion(NamedTuple):
    """The setpoint and how it moves: metres, and the rotation with the body's rate rad/s and its derivative."""

    position: Array
    velocity: Array
    acceleration: Array
    rotation: Array
    spin: Array
    spin_change: Array

    @classmethod
    def at_rest(cls, position: Array, rotation: Array) -> Motion:
        zero = np.zeros(3)
        return cls(position, zero, zero, rotation, zero, zero)


class Way:
    """A path of Ruckig's from a motion on; `duration` in seconds, after which it stands at its end."""

    def __init__(self, start: Motion, trajectory: ruckig.Trajectory) -> None:
        self._rotation, self._trajectory = start.rotation, trajectory
        self.duration = float(trajectory.duration)

    def at(self, when: float) -> Motion:
        """The motion `when` seconds after the start."""
        p, v, a = self._trajectory.at_time(min(when, self.duration))
        place, rate, change = np.array(p), np.array(v), np.array(a)
        if when >= self.duration:
            rate, change = np.zeros(6), np.zeros(6)
        spin, spin_change = body_motion(place[3:], rate[3:], change[3:])
        rotation = self._rotation @ rotation_of(place[3:])
        # one Newton step back to an exact rotation, or rounding adds up over hours
        rotation = rotation @ (_SO3 - 0.5 * (rotation.T @ rotation))
        return Motion(place[:3], rate[:3], change[:3], rotation, spin, spin_change)

    def samples(self, times: Array) -> tuple[Array, Array]:
        """Positions (k, 3) and rotations (k, 3, 3) at `times` (k,)."""
        at_time = self._trajectory.at_time
        places = np.array([at_time(t)[0] for t in times.tolist()]).reshape(-1, 6)
        return places[:, :3], self._rotation @ rotations_of(places[:, 3:])

    def extent(self) -> tuple[Array, Array]:
        """Lowest and highest position (3,) each on the whole path, between any samples too."""
        # from the phases of constant jerk: Ruckig's own position_extrema is wrong for ways to rest
        ends = [_extremes(profile) for profile in self._trajectory.profiles[0][:3]]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _extremes(profile: ruckig.Profile) -> tuple[float, float]:
    """Lowest and highest position of one coordinate: at the ends of its phases, or where it turns within one."""
    places = profile.p
    low, high = min(places), max(places)
    for t, p, v, a, j in zip(profile.t, places, profile.v, profile.a, profile.j, strict=False):
        if t <= 0:
            continue
        if abs(j) < 1e-12:
            turns = [-v / a] if abs(a) > 1e-12 else []
        else:
            square = a * a - 2 * j * v
            root = math.sqrt(square) if square > 0 else 0.0
            turns = [(-a - root) / j, (-a + root) / j]
        for s in turns:
            if 0 < s < t:
                place = p + s * (v + s * (a / 2 + s * j / 6))
                low, high = min(low, place), max(high, place)
    return low, high


class Mover:
    """Holds Ruckig's inputs; one for each gate."""

    def __init__(self, linear: RateLimits, angular: RateLimits, dt: float) -> None:
        self.dt = dt
        share = 1 / math.sqrt(3)
        spin, spin_change, spin_jerk = inner_rates(angular.velocity, angular.acceleration, angular.jerk)
        # a millionth is left for rounding
        inner = (1 - 1e-6) * share
        self._velocity = [linear.velocity * inner] * 3 + [spin] * 3
        acceleration = [linear.acceleration * inner] * 3 + [spin_change] * 3
        jerk = [linear.jerk * inner] * 3 + [spin_jerk] * 3
        self._ruckig = ruckig.Ruckig(6)
        self._go, self._stop = ruckig.InputParameter(6), ruckig.InputParameter(6)
        for given in (self._go, self._stop):
            given.max_velocity, given.max_acceleration, given.max_jerk = self._velocity, acceleration, jerk
            given.target_velocity, given.target_acceleration = _ZEROS, _ZEROS
        self._stop.control_interface = ruckig.ControlInterface.Velocity
        self._stop.synchronization = ruckig.Synchronization.No  # each axis as soon as it can

    def towards(self, motion: Motion, position: Array, rotation: Array, share: float) -> Motion | None:
        """One dt further on the way to a pose, at no more than `share` of the velocity; None if there is no way."""
        go = self._go
        turn = turn_between(motion.rotation, rotation)
        go.max_velocity = [share * v for v in self._velocity]
        go.target_position = [*position.tolist(), *turn.tolist()]
        way = self._solve(motion, go)
        return None if way is None else way.at(self.dt)

    def brake(self, motion: Motion) -> Way | None:
        """The shortest way to rest of each coordinate; None if Ruckig finds none."""
        return self._solve(motion, self._stop)

    def _solve(self, motion: Motion, given: ruckig.InputParameter) -> Way | None:
        given.current_position = [*motion.position.tolist(), 0.0, 0.0, 0.0]
        given.current_velocity = [*motion.velocity.tolist(), *motion.spin.tolist()]
        given.current_acceleration = [*motion.acceleration.tolist(), *motion.spin_change.tolist()]
        trajectory = ruckig.Trajectory(6)
        try:
            result = self._ruckig.calculate(given, trajectory)
        except ruckig.RuckigError:  # an input that it calls invalid
            return None
        good = result in (ruckig.Result.Working, ruckig.Result.Finished)
        return Way(motion, trajectory) if good else None
