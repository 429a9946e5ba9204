"""Scripts as Hydra apps: help from the docstring, mistakes answered in one line instead of a trace."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from equidiff.config import ConfigError, did_you_mean

__all__ = ["CONFIGS", "composed", "run_app", "told"]

CONFIGS = Path(__file__).parents[1] / "configs"

_ROOM = "make room on that disk, or write to another one, and give the command again"
_PLACE = "choose a place that you may write to, or have the rights changed"
_LOOK = "HYDRA_FULL_ERROR=1 shows what was being done"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
    errno.EROFS: _PLACE,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "expected a file, give its path",
    errno.EEXIST: "choose another name",
}


def run_app(main: Callable[[DictConfig], int | None], name: str, doc: str | None, configs: Path = CONFIGS) -> None:
    """Compose configs/`name`.yaml with the command line, call `main` with it and exit with what it returns.

    `--help` prints `doc`, the groups and the settings. A misspelt override says what was meant; errors of
    equidiff, and files that cannot be read or written, are told in a line without a trace, exit code 2
    (HYDRA_FULL_ERROR=1 shows the trace). Hydra's own flags (--multirun, --cfg job, ...) work.
    `data=FILE` stands for `data.path=FILE`, and `obs=[...]` for `obs.make=[...]`, where the script has that setting and
    does not choose from the group of that name.
    """
    sys.argv[1:] = arguments = [_as_path(a, name, configs) for a in sys.argv[1:]]
    if {"--help", "-h"} & set(arguments):
        print(_help(name, doc or "", configs))
        raise SystemExit(0)
    if not any(a.startswith("-") for a in arguments):  # Hydra's flags (a sweep, --cfg) are checked by Hydra itself
        try:
            composed(name, arguments, configs)
        except ConfigError as error:
            _fail(str(error))
    code: list[int] = []

    @hydra.main(config_path=str(configs), config_name=name, version_base="1.3")
    def app(config: DictConfig) -> None:
        code.append(_guarded(main, config))

    app()
    raise SystemExit(max(code, default=0))


def composed(name: str, overrides: list[str], configs: Path = CONFIGS) -> DictConfig:
    """configs/`name`.yaml with the overrides. Raises ConfigError that says what may have been meant."""
    try:
        return _compose(name, overrides, configs)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, name, overrides, configs)) from error


def _as_path(argument: str, name: str, configs: Path) -> str:
    """KEY=X to KEY.path=X or KEY.make=X where KEY has that setting, because Hydra knows only the group of that name."""
    key, equals, value = argument.partition("=")
    root = OmegaConf.load(configs / f"{name}.yaml")
    if not equals or not (configs / key).is_dir() or not isinstance(root, DictConfig):
        return argument
    node = OmegaConf.to_container(root).get(key)  # type: ignore[union-attr]
    inner = [name for name in ("path", "make") if isinstance(node, dict) and name in node]
    return f"{key}.{inner[0]}={value}" if inner else argument


def _guarded(main: Callable[[DictConfig], int | None], config: DictConfig) -> int:
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            _fail(f"{missing[0]} is not set; give it on the command line: {missing[0]}=...")
        return main(config) or 0
    except Exception as error:
        message = told(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _fail(". ".join([message, *getattr(error, "__notes__", [])]))


def told(error: Exception) -> str | None:
    """What to tell the user instead of a trace; None for an error that is a fault of the program."""
    if _ours(error):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        reason = f"{error.strerror or type(error).__name__}; {_REMEDIES.get(error.errno, _LOOK)}"
        return f"{where}: {reason}" if where else reason
    return None


def _ours(error: BaseException) -> bool:
    """Errors whose message is meant for the user: those defined here."""
    return any(kind.__module__.partition(".")[0] in ("equidiff", "real_robot") for kind in type(error).__mro__)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def _compose(name: str, overrides: list[str], configs: Path) -> DictConfig:
    with initialize_config_dir(str(configs.resolve()), version_base="1.3"):
        return compose(name, overrides=overrides, return_hydra_config=False)


def _explain(error: BaseException, name: str, overrides: list[str], configs: Path) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    if isinstance(error, MissingConfigException):
        found = re.search(r"'([^']+)/([^'/]+)'", message)
        if found:
            group, option = found.groups()
            have = _options(configs / group)
            return f"{group}={option}: no such choice{did_you_mean(option, have)}; there are: {', '.join(have)}"
    if isinstance(error, ConfigCompositionException) or "not in struct" in str(error):
        found = re.search(r"Could not (?:override|find match|find group) '?([\w./@-]+)'?", str(error))
        if found:
            key = found.group(1).rstrip(".")
            known = _settings(name, overrides, configs)
            return f"{key}: no such setting{did_you_mean(key, known)} (--help lists all)"
    return "\n".join(lines[:3])


def _settings(name: str, overrides: list[str], configs: Path) -> list[str]:
    """Groups and settings that exist with the choices (group=name) of the command line."""
    groups = _groups(configs)
    choices = [o for o in overrides if o.partition("=")[0] in groups]
    try:
        config = _compose(name, choices, configs)
    except HydraException:
        config = _compose(name, [], configs)
    return [*groups, *_paths(OmegaConf.to_container(config, resolve=False))]


def _paths(tree: Any, at: str = "") -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            here = f"{at}.{key}" if at else str(key)
            yield here
            yield from _paths(value, here)


def _groups(configs: Path) -> list[str]:
    return sorted(p.name for p in configs.iterdir() if p.is_dir())


def _options(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.yaml"))


def _help(name: str, doc: str, configs: Path) -> str:
    text = [doc.strip(), "", f"Choices (group=name), from {configs.name}/{name}.yaml:"]
    root = (configs / f"{name}.yaml").read_text()
    for group in re.findall(r"^\s+-\s+(\w+):", root, flags=re.MULTILINE):
        text.append(f"    {group:<12} {', '.join(_options(configs / group))}")
    config = _compose(name, [], configs)
    text += ["", "Settings (key=value) and their defaults:"]
    text += [f"    {line}" for line in OmegaConf.to_yaml(config, resolve=False).splitlines()]
    return "\n".join(text)
