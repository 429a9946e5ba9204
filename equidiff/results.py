"""Results of rollouts: one JSON file per evaluated policy, readable without a simulator."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equidiff.statistics import Paired, Proportion, paired
from equidiff.writing import write_text

__all__ = ["ResultError", "RolloutResult", "compare", "write_json"]

_ITEMS = {"seeds": int, "success": bool, "success_any": bool, "steps": int}  # lists with one item an episode


class ResultError(ValueError):
    """A result that is damaged, or two that cannot be compared; the message says which and why."""


@dataclass(frozen=True)
class RolloutResult:
    """Outcome of one policy on a list of episodes, element i of every list from the same episode.

    success: solved in the final state. success_any: solved at some step. steps: control steps executed.
    details: anything else worth keeping (settings, versions, seconds), stored beside the rest.
    """

    task: str
    checkpoint: str
    policy: str
    seeds: tuple[int, ...]
    success: tuple[bool, ...]
    success_any: tuple[bool, ...]
    steps: tuple[int, ...]
    wall_s: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("seeds", "success", "success_any", "steps")}
        if len(set(lengths.values())) != 1 or not self.seeds:
            raise ResultError(
                f"result of {self.policy or self.checkpoint!r}: expected lists of one length > 0, got {lengths}"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ResultError(f"result of {self.policy or self.checkpoint!r}: a seed occurs twice")

    @property
    def at_end(self) -> Proportion:
        """Episodes solved in the final state."""
        return Proportion(sum(self.success), len(self.success))

    @property
    def at_any(self) -> Proportion:
        """Episodes solved at some step."""
        return Proportion(sum(self.success_any), len(self.success_any))

    def to_json(self) -> dict[str, Any]:
        """The tree that `write` stores."""
        return {
            "task": self.task,
            "policy": self.policy,
            "checkpoint": self.checkpoint,
            "successes": self.at_end.successes,
            "rollouts": self.at_end.trials,
            "interval": list(self.at_end.interval()),
            "successes_any": self.at_any.successes,
            "seeds": list(self.seeds),
            "success": list(self.success),
            "success_any": list(self.success_any),
            "steps": list(self.steps),
            "wall_s": round(self.wall_s, 2),
            **self.details,
        }

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Store as JSON, atomically; returns the path."""
        return write_json(path, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> RolloutResult:
        """Read what `write` stored. Raises ResultError if the file is missing or not such a result."""
        try:
            tree = json.loads(Path(path).read_text())
        except FileNotFoundError:
            raise ResultError(f"{path}: no such result; scripts/eval.py writes one") from None
        except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
            raise ResultError(f"{path}: not a result of rollouts ({error})") from error
        return cls.from_json(tree, where=str(path))

    @classmethod
    def from_json(cls, tree: Any, where: str = "result") -> RolloutResult:
        """Inverse of `to_json`; `where` names the origin in errors."""
        names = ("task", "checkpoint", "policy", "seeds", "success", "success_any", "steps", "wall_s")
        derived = ("successes", "rollouts", "interval", "successes_any")
        missing = [name for name in names if not isinstance(tree, dict) or name not in tree]
        if missing:
            raise ResultError(f"{where}: has no {missing[0]!r}; expected the JSON that scripts/eval.py writes")
        for name, kind in _ITEMS.items():
            if not isinstance(tree[name], list) or not all(type(item) is kind for item in tree[name]):
                raise ResultError(
                    f"{where}: {name}: expected a list of {kind.__name__}, got {repr(tree[name])[:60]}; the file was "
                    "altered or is not of scripts/eval.py, evaluate again"
                )
        if isinstance(tree["wall_s"], bool) or not isinstance(tree["wall_s"], int | float):
            raise ResultError(f"{where}: wall_s: expected seconds, got {tree['wall_s']!r}")
        lists: dict[str, Any] = {name: tuple(tree[name]) for name in _ITEMS}
        details = {key: value for key, value in tree.items() if key not in (*names, *derived)}
        return cls(tree["task"], tree["checkpoint"], tree["policy"], **lists, wall_s=tree["wall_s"], details=details)


def compare(first: RolloutResult, second: RolloutResult) -> Paired:
    """Paired table of the final states of two policies on the same episodes. Raises ResultError if they differ.

    Another `batch` is told by a warning only: the episodes are the same, up to rounding in the policy.
    """
    if first.task != second.task:
        raise ResultError(
            f"compare: different tasks, {first.task!r} and {second.task!r}; a paired test needs the same episodes"
        )
    if set(first.seeds) != set(second.seeds):
        only = [sorted(set(a.seeds) - set(b.seeds)) for a, b in ((first, second), (second, first))]
        raise ResultError(
            "compare: a paired test needs the same seeds; "
            f"only in the first: {_some(only[0])}; only in the second: {_some(only[1])}. "
            "Evaluate both with the same seed=... and n=..."
        )
    for name in ("horizon", "stop_on_success", "physics"):
        a, b = first.details.get(name), second.details.get(name)
        if a is not None and b is not None and a != b:
            raise ResultError(f"compare: {name} differs ({a} and {b}); evaluate both with the same setting")
    batches = first.details.get("batch"), second.details.get("batch")
    if None not in batches and batches[0] != batches[1]:
        warnings.warn(
            f"compare: batch differs ({batches[0]} and {batches[1]}); a policy rounds differently in it, so that a few "
            "episodes may end otherwise for that alone. Evaluate both with the same batch=... to exclude it",
            stacklevel=2,
        )
    outcome = dict(zip(second.seeds, second.success, strict=True))
    return paired(first.success, [outcome[seed] for seed in first.seeds])


def write_json(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write JSON, atomically; returns the path."""
    return write_text(path, json.dumps(tree, indent=1) + "\n")


def _some(seeds: Sequence[int]) -> str:
    shown = ", ".join(map(str, seeds[:4]))
    return (shown + (f", ... ({len(seeds)})" if len(seeds) > 4 else "")) or "none"
