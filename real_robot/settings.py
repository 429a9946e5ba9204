"""Settings that users give: one error for those that make no sense, and the checks that they have in common."""

from __future__ import annotations

from collections.abc import Mapping

from real_robot.types import finite

__all__ = ["SettingsError", "check_ranges", "check_vectors"]


class SettingsError(ValueError):
    """A setting that makes no sense; the message names the key, what was expected and what came."""


def check_ranges(where: str, settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise SettingsError unless each attribute is a number in its range (low, high)."""
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SettingsError(f"{where}.{name}: expected {low} to {high}, got {value}")


def check_vectors(where: str, settings: object, sizes: Mapping[str, int]) -> None:
    """Make each attribute of a frozen dataclass a tuple of that many numbers; SettingsError if it has others."""
    for name, size in sizes.items():
        try:
            numbers = finite(f"{where}.{name}", getattr(settings, name), (size,))
        except (TypeError, ValueError) as error:
            raise SettingsError(str(error)) from error
        object.__setattr__(settings, name, tuple(numbers.tolist()))
