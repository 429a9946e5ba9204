"""`Hold`: a stop that holds for as long as somebody goes on commanding."""

from __future__ import annotations

__all__ = ["Hold"]


class Hold:
    """Part of every driver, which calls it with a lock held.

    A stop must not be overruled by a loop that has not noticed it and goes on commanding: it ends only with a command
    that comes after more than `silence` seconds without any, to an arm at rest.

    >>> hold = Hold(0.1)
    >>> hold.begin(5.0)
    >>> [hold.refuses(now, at_rest=True) for now in (5.08, 5.16, 5.3)]
    [True, True, False]
    """

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._since = 0.0
        """Time of the stop, or of the last command after it."""
        self.on = False
        """Whether it holds."""

    @property
    def why(self) -> str:
        """For the error with which a command is refused."""
        return f"stopped; it takes commands again after {self._silence} s of silence"

    def begin(self, now: float) -> None:
        """The arm was stopped; idempotent but for the silence, which begins anew."""
        self.on, self._since = True, now

    def end(self) -> None:
        """By an operator who recovers it."""
        self.on = False

    def refuses(self, now: float, at_rest: bool) -> bool:
        """Whether a command that comes at `now` seconds is refused; the first that is not ends the stop."""
        if self.on:
            since, self._since = self._since, now
            self.on = now - since <= self._silence or not at_rest
        return self.on
