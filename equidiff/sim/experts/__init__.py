"""Scripted experts: they see the simulator's state and solve the built-in tasks, as a source of demonstrations."""

from __future__ import annotations

from typing import Any

from equidiff.config import ConfigError, did_you_mean
from equidiff.sim.experts.base import Expert, Target
from equidiff.sim.experts.lift import LiftExpert
from equidiff.sim.experts.square import SquareExpert
from equidiff.sim.experts.stack import StackExpert, StackThreeExpert
from equidiff.sim.experts.threading import ThreadingExpert

__all__ = ["EXPERTS", "Expert", "Target", "make_expert"]

EXPERTS: dict[str, type[Expert]] = {
    "lift": LiftExpert,
    "square": SquareExpert,
    "stack": StackExpert,
    "stack_three": StackThreeExpert,
    "threading": ThreadingExpert,
}


def make_expert(env: Any) -> Expert:
    """The expert of the environment's task, at the start of an episode."""
    name = env.task.expert
    if name not in EXPERTS:
        raise ConfigError(
            f"task.expert: {env.task.name} has {name!r}{did_you_mean(str(name), EXPERTS)} "
            f"Scripted experts: {', '.join(EXPERTS)}. For other tasks use a file of demonstrations."
        )
    return EXPERTS[name](env)
