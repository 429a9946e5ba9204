"""A simulated world from the node `robot` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from equidiff.config import did_you_mean
from equidiff.hydra_app import CONFIGS
from equidiff.perception import PerceptionSettings
from equidiff.sim.render import RendererSettings
from equidiff.sim.task import Task
from real_robot.clock import Clock, ManualClock
from real_robot.contract import RobotError
from real_robot.sim.world import SimWorld

__all__ = ["make_world", "task_named"]


def task_named(name: str, folder: Path = CONFIGS / "task") -> Task:
    """The task of a file of configs/task. RobotError with the names there are."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise RobotError(f"robot.task: no task {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    tree: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"), resolve=True)
    return Task.from_config(tree)


def make_world(
    node: Mapping[str, Any],
    clock: Clock,
    task: Task | None = None,
    perception: PerceptionSettings | None = None,
    renderer: RendererSettings | None = None,
) -> SimWorld:
    """The world of that node, which moves on with `clock` from now on. task: what robot.task=null stands for."""
    wanted = task_named(str(node["task"])) if node.get("task") else task or task_named("lift")
    world = SimWorld(wanted, clock, str(node["arm"]), perception, renderer)
    if isinstance(clock, ManualClock):
        clock.listeners.append(world.advance)
    else:
        world.start()
    world.reset(int(node.get("seed", 0)))
    return world
