"""`DeviceClock`: time stamps of a device's own clock as times of the computer's monotonic clock."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["DeviceClock"]


class DeviceClock:
    """Learns the offset between two clocks from when stamped messages arrive.

    A message never arrives before it was stamped, and some arrive with hardly any delay, so the offset is the least of
    (arrival - stamp) over the last `window` seconds; the window lets it follow clocks that drift apart. delay: the
    transport that even the quickest message takes, seconds, known from the device or measured.

    >>> clock = DeviceClock(delay=0.002)
    >>> [round(clock.to_monotonic(stamp, arrival), 3) for stamp, arrival in ((5.0, 100.012), (5.1, 100.102))]
    [100.01, 100.1]
    """

    def __init__(self, window: float = 20.0, delay: float = 0.0, jump: float = 1.0) -> None:
        self._window, self._delay, self._jump = window, delay, jump
        self._least: deque[tuple[float, float]] = deque()  # (arrival, difference), differences rising
        self._previous = math.inf

    def to_monotonic(self, stamp: float, arrival: float) -> float:
        """When the message that arrived at `arrival` was stamped; never later than it arrived.

        Both in seconds. A device whose clock was set, or that restarted, is learnt anew: its stamps then step by more
        than `jump` seconds against the arrivals.
        """
        difference = arrival - stamp
        if abs(difference - self._previous) > self._jump:
            self._least.clear()
        self._previous = difference
        while self._least and self._least[-1][1] >= difference:
            self._least.pop()
        self._least.append((arrival, difference))
        while self._least[0][0] < arrival - self._window:
            self._least.popleft()
        return min(stamp + self._least[0][1] - self._delay, arrival)
