"""Errors of teleoperation and recording."""

from __future__ import annotations

__all__ = ["RecordingError", "TeleopError"]


class TeleopError(RuntimeError):
    """Teleoperation cannot start or go on; the arm was stopped. The message says why and what to do."""


class RecordingError(TeleopError):
    """An episode cannot be recorded, stored or found; the message says which one is lost and what is safe."""
