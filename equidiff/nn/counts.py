"""`check_counts`: how many channels, layers or blocks a network may have."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_counts"]


def check_counts(owner: str, least: int = 1, **counts: int | Sequence[int]) -> None:
    """ValueError that names the argument of `owner` unless it, or each of its numbers, is at least `least`.

    PyTorch builds layers of no channels, which learn nothing.

    >>> check_counts("Net", channels=0)
    Traceback (most recent call last):
    ValueError: Net.channels: expected at least 1, got 0
    >>> check_counts("Net", widths=[8, 0])
    Traceback (most recent call last):
    ValueError: Net.widths: expected one or more numbers of at least 1, got [8, 0]
    """
    for name, value in counts.items():
        many = not isinstance(value, int)
        numbers = list(value) if isinstance(value, Sequence) else [value]
        if not numbers or min(numbers) < least:
            expected = f"one or more numbers of at least {least}" if many else f"at least {least}"
            raise ValueError(f"{owner}.{name}: expected {expected}, got {numbers if many else value}")
