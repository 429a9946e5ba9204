"""What a file was made with: versions of the packages and the revision of this code."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["git_revision", "versions"]


def versions() -> dict[str, str]:
    """Of Python and of what a policy's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("equidiff", "torch", "escnn", "diffusers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_revision() -> str | None:
    """The commit of this code; None if it does not lie in a clone."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
