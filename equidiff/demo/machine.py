"""What the demo ran on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["cores", "cpu", "versions"]

_PACKAGES = ("equidiff", "torch", "escnn", "diffusers", "robosuite", "mujoco", "numpy")


def cpu(path: str = "/proc/cpuinfo") -> str:
    """Name of the processor."""
    file = Path(path)
    if file.is_file():
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of Python and the packages a result depends on; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
