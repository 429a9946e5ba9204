"""What would only fail after minutes of work, found out before any of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from equidiff.config import ConfigError, did_you_mean
from equidiff.demo.settings import DemoError, DemoSettings
from equidiff.hydra_app import composed

__all__ = ["check_places", "check_policies"]


def check_places(settings: DemoSettings) -> None:
    """Whether results can be written where they shall go. Raises DemoError naming the key."""
    _check_place("out", settings.folder)
    if settings.record is not None:
        if settings.record.is_dir():
            raise DemoError(f"record: {settings.record} is a folder; give a file, e.g. {settings.record}/demo.json")
        _check_place("record", settings.record.parent)


def check_policies(settings: DemoSettings, root: Path) -> Mapping[str, Any]:
    """Compose the config of every policy as its training will; returns the resolved node `task`.

    root: the checkout. Raises DemoError naming the policy, with "did you mean" for a misspelt override.
    """
    configs = root / "configs"
    known = sorted(path.stem for path in (configs / "obs").glob("*.yaml"))
    if settings.observe is not None and settings.observe not in known:
        close = did_you_mean(settings.observe, known)
        raise DemoError(f"observe: no {settings.observe!r} in {configs / 'obs'}{close} There are: {', '.join(known)}")
    task: Any = None
    for key, policy in settings.policies.items():
        overrides = [f"task={settings.task}", "data.path=none", *settings.common, *policy.overrides]
        try:
            config = composed("train", overrides, configs)
        except ConfigError as error:
            raise DemoError(f"policies.{key}: {error}") from error
        task = task or OmegaConf.to_container(config.task, resolve=True)
    assert isinstance(task, dict)
    return task


def _check_place(key: str, folder: Path) -> None:
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise DemoError(
            f"{key}: {there} is a file, so that nothing can be written to {folder}; choose another {key}=..."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise DemoError(f"{key}: you may not write to {there}; choose another {key}=...")
