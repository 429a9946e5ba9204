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
from equidiff.sim.seeing import sight_of
from equidiff.sim.task import Task
from equidiff.spec import Spec
from real_robot.clock import Clock, ManualClock, MonotonicClock
from real_robot.contract import RobotError
from real_robot.sim.robot import SimRobot
from real_robot.sim.world import SimWorld

__all__ = ["make_robot", "make_world", "task_named"]


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


def make_robot(
    node: Mapping[str, Any], manifest: Mapping[str, Any] | None = None, spec: Spec | None = None
) -> SimRobot:
    """The arm of that node in its own world and time; `robot.world.close()` ends it.

    manifest, spec: of the checkpoint that is going to see this world; its task, if the node names none, and its
    pictures. PerceptionError if these would be drawn otherwise than those of its training data.
    """
    clock = ManualClock(step=0.002) if node["virtual"] else MonotonicClock.starting_now(float(node["rate"]))
    about = manifest or {}
    task = Task.from_config(about["task"]) if "task" in about else None
    perception, renderer = (None, None) if spec is None else sight_of(about.get("perception"), spec)
    world = make_world(node, clock, task, perception, renderer)
    return SimRobot(world, float(node["command_hz"]), float(node["latency"]), float(node["jitter"]))
