"""What one client may ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from real_robot.settings import SettingsError

__all__ = ["Limits", "RateLimit"]


@dataclass(frozen=True)
class Limits:
    """connections: TCP connections at a time, authenticated or not. max_hz, burst: requests of one connection.

    handshake_s: until a connection must have shown its token. plan_s: until a request is answered with an error.
    keepalive_s: a client that does not answer a ping for this long is dropped. The size of a request is bounded by
    what the policy's Spec needs.
    """

    connections: int = 8
    max_hz: float = 50.0
    burst: int = 20
    handshake_s: float = 5.0
    plan_s: float = 10.0
    keepalive_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("connections", "max_hz", "burst", "handshake_s", "plan_s", "keepalive_s"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"limits.{name}: expected a number > 0, got {getattr(self, name)}")


class RateLimit:
    """A token bucket: `hz` takes each second on average, `burst` at once.

    >>> seconds = iter([0.0, 0.0, 0.0, 0.0, 0.1])
    >>> limit = RateLimit(10, 2, lambda: next(seconds))
    >>> [limit.take() for _ in range(4)]
    [True, True, False, True]
    """

    def __init__(self, hz: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._hz, self._burst, self._clock = hz, burst, clock
        self._left, self._at = float(burst), clock()

    def take(self) -> bool:
        """Whether one more is allowed now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._hz)
        self._at = now
        if self._left < 1 - 1e-9:
            return False
        self._left -= 1
        return True
