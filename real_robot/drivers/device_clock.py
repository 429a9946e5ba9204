"""`DeviceClock`: time stamps of a device's own clock as times of the computer's monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DeviceClock"]

_ENOUGH = 5
"""Messages by which a clock that was set is learnt, however seldom they come."""


@dataclass
class _Suspicion:
    """That the device's clock was set: what the messages since `begin` (their arrival) say then."""

    begin: float
    stamp: float
    least: float
    count: int = 1


class DeviceClock:
    """Learns the offset between two clocks from when stamped messages arrive; what it tells is never too young.

    A message never arrives before it was stamped, and some arrive with hardly any delay, so the offset is the least of
    (arrival - stamp) so far. It rises by no more than the clocks can drift apart: a message that arrives late, or a
    stream that goes on lagging, is told as old as it is. drift: at most, seconds per second. delay: the transport that
    even the quickest message takes, seconds, known from the device or measured.

    A device's clock was set, or the device was restarted, when stamps go back, or go ahead of the arrivals by more than
    `jump` seconds. That is believed when messages have agreed on it for `settle` seconds; until then they may as well
    be late, and are told no younger than the last one before. A clock set back by less than `settle` seconds looks
    like a lag for as long as it takes to drift; connecting anew learns it at once. What stamps cannot tell: a lag that
    is there from the first message on, and one that hides a clock that was set ahead by less.

    >>> clock = DeviceClock(delay=0.002)
    >>> [round(clock.to_monotonic(stamp, arrival), 3) for stamp, arrival in ((5.0, 100.012), (5.1, 100.102))]
    [100.01, 100.1]
    >>> round(clock.to_monotonic(5.2, 101.6), 2)  # late
    100.2
    """

    def __init__(self, delay: float = 0.0, drift: float = 5e-4, jump: float = 0.05, settle: float = 0.5) -> None:
        self._delay, self._drift, self._jump, self._settle = delay, drift, jump, settle
        self._offset = math.inf
        self._newest, self._arrival = -math.inf, 0.0  # of the last message that was believed
        self._settled = math.inf  # nothing is known at first: until this arrival whatever is quicker is believed
        self._told = -math.inf
        self._suspicion: _Suspicion | None = None

    def to_monotonic(self, stamp: float, arrival: float) -> float:
        """When the message that arrived at `arrival` was stamped; never later than it arrived. Both in seconds."""
        if self._settled == math.inf:
            self._settled = arrival + self._settle
            self._arrival = arrival
        difference = arrival - stamp
        offset = self._offset + self._drift * (arrival - self._arrival)
        ahead = difference < offset - self._jump and arrival > self._settled
        if stamp < self._newest or ahead:
            learnt = self._suspect(stamp, arrival, difference)
            if learnt is None:
                return min(self._told, stamp + offset - self._delay)
            offset = learnt
        self._suspicion = None
        self._offset, self._newest, self._arrival = min(offset, difference), stamp, arrival
        self._told = min(stamp + self._offset - self._delay, arrival)
        return self._told

    def _suspect(self, stamp: float, arrival: float, difference: float) -> float | None:
        """The offset by which the device's clock was set, once that is sure."""
        seen = self._suspicion
        if seen is None or stamp < seen.stamp or difference < seen.least - self._jump:
            self._suspicion = _Suspicion(arrival, stamp, difference)
            return None
        seen.stamp, seen.least, seen.count = stamp, min(seen.least, difference), seen.count + 1
        sure = arrival - seen.begin >= self._settle and seen.count >= _ENOUGH
        return seen.least if sure else None
