"""Settings of a demo: configs/demo/<task>.yaml and overrides key=value."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from equidiff.config import did_you_mean

__all__ = ["DemoError", "DemoSettings", "Entry", "load_settings"]


_PATHS = ("data", "out", "record")
_TEXTS = ("camera", "observe", *_PATHS)


class DemoError(RuntimeError):
    """The demo cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """A policy of the comparison: how the report calls it, and what scripts/train.py is told about it."""

    label: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class DemoSettings:
    """What a demo does. The first policy is the one the others are compared with. name: of its file and its folder.

    n_demo demonstrations are trained on; n_valid further ones only give the validation loss. Every
    policy is trained `steps` optimiser steps with each of `seeds` training seeds and judged on the
    episodes seed, seed + 1, ..., the first `film` of which are filmed by `camera`. goal: success rate, 0 to 1.
    common: overrides of scripts/train.py for every policy. parallel: trainings at a time. data: a file of
    demonstrations to use instead of recording some. observe: the file of configs/obs whose pictures or points are made
    of the demonstrations; None: poses are enough. out: where the demo's folder goes. record: a second place for
    demo.json. Relative paths are of the working directory; `load_settings` makes them absolute.
    """

    task: str
    n_demo: int
    steps: int
    policies: Mapping[str, Entry]
    n_valid: int = 0
    demo_seed: int = 0
    seeds: int = 1
    rollouts: int = 50
    seed: int = 100000
    goal: float | None = None
    film: int = 4
    camera: str = "sideview"
    workers: int = 2
    parallel: int = 2
    common: tuple[str, ...] = ()
    data: Path | None = None
    observe: str | None = None
    name: str | None = None
    out: Path = Path("outputs/demo")
    fresh: bool = False
    record: Path | None = None

    def __post_init__(self) -> None:
        least = {"n_demo": 1, "steps": 1, "n_valid": 0, "seeds": 1, "rollouts": 1, "seed": 0, "film": 0}
        for name, bound in (least | {"workers": 1, "parallel": 1, "demo_seed": 0}).items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < bound:
                raise DemoError(f"{name}: expected a whole number >= {bound}, got {value!r}")
        for name in ("task", "camera"):
            if not isinstance(getattr(self, name), str):
                raise DemoError(f"{name}: expected a name, got {getattr(self, name)!r}")
        if self.goal is not None and not (_number(self.goal) and 0 < self.goal <= 1):
            raise DemoError(f"goal: expected a success rate between 0 and 1, such as 0.95, got {self.goal!r}")
        if not isinstance(self.fresh, bool):
            raise DemoError(f"fresh: expected true or false, got {self.fresh!r}")
        if self.data is not None and not self.data.is_file():
            raise DemoError(
                f"data: no file {self.data}; leave it out to record demonstrations with the scripted expert"
            )
        if not self.policies:
            raise DemoError("policies: expected at least one")

    @property
    def folder(self) -> Path:
        """Where everything of this demo goes."""
        return self.out / (self.name or self.task)

    @property
    def episode_seeds(self) -> tuple[int, ...]:
        """Seeds of the episodes of every evaluation."""
        return tuple(range(self.seed, self.seed + self.rollouts))


def load_settings(folder: Path, task: str, overrides: Sequence[str] = ()) -> DemoSettings:
    """Settings of configs/demo/<task>.yaml with `key=value` overrides; `policies=a,b` keeps some of the policies.

    Relative paths among them become absolute here, seen from the working directory: the stages run elsewhere.
    Raises DemoError naming the key, with "did you mean" for a misspelt one.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if task not in known:
        raise DemoError(f"no demo for task {task!r}{did_you_mean(task, known)} There are: {', '.join(known) or 'none'}")
    names = [f.name for f in dataclasses.fields(DemoSettings)]
    tree = _read(folder / f"{task}.yaml", names)
    tree["name"] = task
    for item in overrides:
        key, equals, text = item.partition("=")
        free = [name for name in names if name not in ("common", "task", "name")]
        if not equals or key not in free:
            raise DemoError(f"{item!r}: expected key=value{did_you_mean(key, free)} Keys: {', '.join(free)}")
        tree[key] = _chosen(tree["policies"], text) if key == "policies" else _value(key, text)
    for key in _PATHS:
        if key in tree and (key == "out" or tree[key] is not None):
            if not isinstance(tree[key], str):
                raise DemoError(f"{key}: expected a path, got {tree[key]!r}")
            tree[key] = Path(tree[key]).resolve()
    tree.setdefault("out", DemoSettings.out.resolve())
    try:
        return DemoSettings(**tree)
    except TypeError as error:  # a setting is not given
        raise DemoError(f"{folder / task}.yaml: {error}") from error


def _read(file: Path, names: Sequence[str]) -> dict[str, Any]:
    """The settings in a file, the policies as entries."""
    try:
        tree = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise DemoError(f"{file}: not YAML: {_in_a_line(error)}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("policies"), dict):
        raise DemoError(f"{file}: expected settings, key: value, with policies: {{name: {{label: ..., ...}}}}")
    for key in tree:
        if key not in names or key == "name":
            raise DemoError(f"{file}: no setting {key!r}{did_you_mean(str(key), names)}")
    tree["policies"] = {key: _entry(key, node) for key, node in tree["policies"].items()}
    tree["common"] = _overrides("common", tree.get("common"))
    return tree


def _value(key: str, text: str) -> Any:
    """What is meant by the override key=text: names and paths are taken as they are, null for none."""
    if key in _TEXTS:
        return None if text in ("", "null") else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DemoError(f"{key}: {text!r} cannot be read: {_in_a_line(error)}") from error


def _in_a_line(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _overrides(at: str, node: Any) -> tuple[str, ...]:
    given = [] if node is None else node
    bad = [given] if not isinstance(given, list) else [x for x in given if not isinstance(x, str) or "=" not in x]
    if bad:
        raise DemoError(f"{at}: expected a list of texts like 'encoder.channels=32', got {bad[0]!r}")
    return tuple(given)


def _entry(key: str, node: Any) -> Entry:
    if not isinstance(node, dict) or not set(node) <= {"label", "overrides"} or not isinstance(node.get("label"), str):
        raise DemoError(f"policies.{key}: expected {{label: ..., overrides: [...]}}, got {node!r}")
    return Entry(node["label"], _overrides(f"policies.{key}", node.get("overrides")))


def _chosen(policies: Mapping[str, Entry], text: str) -> dict[str, Entry]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in policies:
            raise DemoError(f"policies: no {name!r}{did_you_mean(name, policies)} There are: {', '.join(policies)}")
    return {name: policies[name] for name in wanted}
