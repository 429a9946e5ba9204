"""Where equidiff keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """$EQUIDIFF_CACHE, or equidiff in the user's cache folder."""
    if folder := os.environ.get("EQUIDIFF_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equidiff"
