"""Building objects from configs: the one place that calls `hydra.utils.instantiate`.

Every node's target and argument names are checked before anything is built, so that a misspelt key
says what was meant, and a config from somebody else (a checkpoint) can only name what is allowed.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

__all__ = ["ALLOWED", "ConfigError", "build", "check", "check_count", "did_you_mean"]

ALLOWED = (
    "equidiff.augment",
    "equidiff.denoisers",
    "equidiff.diffusion",
    "equidiff.encoders",
    "equidiff.normalizer",
    "equidiff.policy",
    "equidiff.symmetry",
    "diffusers.schedulers",
)
"""Modules whose classes a checkpoint may name. Users add their own by `allow=` when they load."""

_HYDRA_KEYS = {"_target_", "_partial_"}
_REFUSED_KEYS = {"_args_", "_convert_", "_recursive_"}


class ConfigError(ValueError):
    """A config that names something unknown or not allowed; the message says where and what would fit."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value` if it is a whole number >= least; else ConfigError about the setting `name`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: expected a whole number >= {least}, got {value!r}")
    return value


def build(node: Mapping[str, Any], *, allow: Sequence[str] | None = None, **arguments: Any) -> Any:
    """Check the tree `node` and build the object it names, passing `arguments` on to the root.

    allow: None for the user's own config (any importable target), or the modules that may be named,
    e.g. `ALLOWED` for a tree that came with a checkpoint. Raises ConfigError, also for arguments that a
    constructor refuses, now or when a factory (`_partial_`) in the tree is called later.
    """
    tree = OmegaConf.to_container(OmegaConf.create(dict(node)), resolve=True)
    assert isinstance(tree, dict)
    check(tree, allow=allow, given=set(arguments))
    try:
        # arguments go past Hydra, which would turn dataclasses into config nodes
        made = instantiate({**tree, "_partial_": True} if arguments else tree, _convert_="all")
    except InstantiationException as error:
        raise _unwrapped(error) from error
    made = _located(made, "config")
    return made(**arguments) if arguments else made


def check(tree: Any, *, allow: Sequence[str] | None = None, given: set[str] | None = None, at: str = "config") -> None:
    """Check every node with a `_target_` in `tree`: it exists, is allowed, and takes these arguments."""
    if tree == "???":
        raise ConfigError(f"{at}: is not set; give it a value")
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            _check_node(tree, allow, given or set(), at)
        elif _HYDRA_KEYS & set(tree):
            raise ConfigError(f"{at}: '_partial_' without '_target_'")
        for key, value in tree.items():
            check(value, allow=allow, at=f"{at}.{key}")
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            check(value, allow=allow, at=f"{at}[{i}]")


def _check_node(node: Mapping[str, Any], allow: Sequence[str] | None, given: set[str], at: str) -> None:
    target = node["_target_"]
    refused = _REFUSED_KEYS & set(node)
    if refused:
        raise ConfigError(f"{at}: {sorted(refused)[0]!r} is not supported; name the arguments instead")
    if not isinstance(target, str):
        raise ConfigError(f"{at}._target_: expected a dotted path, got {target!r}")
    if allow is not None and not _inside(target, allow):
        raise ConfigError(
            f"{at}._target_: {target!r} is not allowed. A config that came with a checkpoint may only name classes "
            f"of {', '.join(allow)}. If you trust it, load with allow=[{target.rsplit('.', 1)[0]!r}]."
        )
    found = _locate(target, at)
    if allow is not None:
        # a module of ours may have imported a foreign name: what counts is where the object was defined
        home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
        if not inspect.isclass(found) or not _inside(home, allow):
            raise ConfigError(f"{at}._target_: {target!r} is {home!r}, which is not a class of {', '.join(allow)}")
    parameters = inspect.signature(found).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in node:
        if key not in parameters and key not in _HYDRA_KEYS:
            raise ConfigError(
                f"{at}.{key}: {target} has no argument {key!r}{did_you_mean(key, parameters)} "
                f"It takes: {', '.join(p for p in parameters if p not in given)}"
            )
    hints = _hints(found)
    for key, value in node.items():
        if key in parameters:
            _check_kind(value, hints.get(key), f"{at}.{key}")
    if node.get("_partial_"):
        return
    needed = {n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    missing = sorted(needed - set(node) - given)
    if missing:
        raise ConfigError(f"{at}: {target} needs {missing[0]!r}, which is not set")


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    type(None): ((type(None),), "null"),
}


def _hints(found: Any) -> dict[str, Any]:
    """What the arguments of a class of this project are; of others nothing is known."""
    if not inspect.isclass(found) or not _inside(f"{found.__module__}.", ("equidiff", "real_robot")):
        return {}
    return get_type_hints(found.__init__)


def _check_kind(value: Any, hint: Any, at: str) -> None:
    if value == "???" or (isinstance(value, Mapping) and _HYDRA_KEYS & set(value)):
        return  # `check` sees to those
    expected = _kind(hint)
    if expected is not None and not _is_kind(value, hint):
        raise ConfigError(f"{at}: expected {expected}, got {value!r}")


def _kind(hint: Any) -> str | None:
    """In words; None for what a configuration cannot say in plain numbers and texts, which others have to judge."""
    if hint in _KINDS:
        return _KINDS[hint][1]
    if get_origin(hint) in (Union, UnionType):
        words = [_kind(one) for one in get_args(hint)]
        return None if None in words else " or ".join(str(word) for word in words)
    if get_origin(hint) in (list, tuple, Sequence):
        inner = [_kind(one) for one in get_args(hint) if one is not Ellipsis]
        return f"a list, each {inner[0]}" if len(inner) == 1 and inner[0] is not None else None
    return None


def _is_kind(value: Any, hint: Any) -> bool:
    if hint in _KINDS:
        return isinstance(value, _KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if get_origin(hint) in (Union, UnionType):
        return any(_is_kind(value, one) for one in get_args(hint))
    return isinstance(value, list | tuple) and all(_is_kind(one, get_args(hint)[0]) for one in value)


class _Factory(functools.partial[Any]):
    """A partial that names its node when the constructor refuses its arguments, as `build` does for other nodes."""

    at: str

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(*args, **keywords)
        except ConfigError:  # of a node further down
            raise
        except (TypeError, ValueError, RuntimeError) as error:  # torch raises the last for sizes below zero
            raise ConfigError(f"{self.at}: {error}") from error


def _located(made: Any, at: str) -> Any:
    """`made` with every factory in it knowing its node."""
    if isinstance(made, functools.partial):
        keywords = {key: _located(value, f"{at}.{key}") for key, value in made.keywords.items()}
        factory = _Factory(made.func, *made.args, **keywords)
        factory.at = at
        return factory
    if isinstance(made, dict):
        return {key: _located(value, f"{at}.{key}") for key, value in made.items()}
    if isinstance(made, list):
        return [_located(value, f"{at}[{i}]") for i, value in enumerate(made)]
    return made


def _unwrapped(error: InstantiationException) -> ConfigError:
    """Hydra wraps what a constructor raised: name the node and give the original message."""
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    _, found, key = str(error).rpartition("full_key: ")
    return ConfigError(f"{'config.' + key if found else 'config'}: {cause}")


def _inside(path: str, modules: Sequence[str]) -> bool:
    return any(path.startswith(f"{module}.") for module in modules)


def _locate(target: str, at: str) -> Any:
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise ConfigError(f"{at}._target_: expected 'module.Class', got {target!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{at}._target_: cannot import {module_name!r} ({error})") from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [n for n in dir(module) if not n.startswith("_")]
        raise ConfigError(f"{at}._target_: {module_name!r} has no class {name!r}{did_you_mean(name, known)}")
    return found
