"""`Task`: a simulated task as its config describes it. Needs no simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from equidiff.config import ConfigError, did_you_mean

__all__ = ["PACKAGES", "Cameras", "Placement", "Start", "Task", "TaskObject"]

PACKAGES = ("robosuite", "mimicgen", "robosuite_task_zoo")
"""Where an environment may come from. Tasks of robosuite_task_zoo need mimicgen as well, which has their variants."""


@dataclass(frozen=True)
class TaskObject:
    """An object whose pose is observed.

    body: its body in the model. fold: it looks the same after a turn by 2*pi/fold (1: all of its orientation counts).
    """

    body: str
    fold: int = 1


@dataclass(frozen=True)
class Placement:
    """Where an object starts: uniform in a ring about the workspace centre, turned uniformly.

    radius: (inner, outer) in metres. yaw: half of the range of the turn in degrees, 180 = any.
    """

    radius: tuple[float, float] = (0.0, 0.2)
    yaw: float = 180.0


@dataclass(frozen=True)
class Start:
    """Where the gripper starts: uniform in a disc about the workspace centre, pointing down, turned uniformly.

    radius in metres; height: range in metres above the table; yaw: half of the range in degrees about
    `yaw_centre`, which keeps the last joint in the middle of its range.
    """

    radius: float = 0.12
    height: tuple[float, float] = (0.15, 0.23)
    yaw: float = 90.0
    yaw_centre: float = 37.0


@dataclass(frozen=True)
class Cameras:
    """The environment's cameras that the published policies use.

    image: what an image policy sees, the scene and the gripper's view. volume: those whose depth is put together for
    voxels and point clouds.
    """

    image: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    volume: tuple[str, ...] = ("birdview", "agentview", "sideview", "robot0_eye_in_hand")


@dataclass(frozen=True)
class Task:
    """One task.

    env: name registered with robosuite; package: one of PACKAGES; horizon: control steps of an
    episode; placement: by object, None = as the environment does it; clearance: smallest distance of
    two placed objects in metres; start None = the robot's standard pose; removed: fixed bodies taken out of
    the scene, e.g. obstacles that would break the symmetry; expert: scripted expert.
    """

    name: str
    env: str
    package: str = "robosuite"
    centre: tuple[float, float] = (0.0, 0.0)
    bounds: tuple[tuple[float, float], ...] | None = None
    control_hz: float = 20.0
    horizon: int = 400
    table_height: float = 0.8
    objects: Mapping[str, TaskObject] = field(default_factory=dict)
    placement: Mapping[str, Placement] | None = None
    clearance: float = 0.07
    start: Start | None = None
    removed: tuple[str, ...] = ()
    expert: str | None = None
    camera: str = "agentview"
    cameras: Cameras = Cameras()

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Task:
        """From a config node (configs/task/*.yaml). Raises ConfigError naming the key."""
        given = dict(node)
        _check_names("task", given, cls)
        for name in ("name", "env"):
            if not isinstance(given.get(name), str):
                raise ConfigError(f"task.{name}: expected a name, got {given.get(name)!r}")
        package = given.get("package", "robosuite")
        if package not in PACKAGES:
            raise ConfigError(
                f"task.package: expected one of {', '.join(PACKAGES)}, got {package!r}"
                f"{did_you_mean(str(package), PACKAGES)}"
            )
        objects = {k: _make(f"task.objects.{k}", TaskObject, v) for k, v in (given.get("objects") or {}).items()}
        placement = given.get("placement")
        if placement is not None:
            placement = {k: _make(f"task.placement.{k}", Placement, v) for k, v in placement.items()}
            for name in placement:
                if name not in objects:
                    raise ConfigError(f"task.placement.{name}: no such object{did_you_mean(name, objects)}")
        start = given.get("start")
        given.update(
            objects=objects,
            placement=placement,
            removed=tuple(given.get("removed") or ()),
            start=None if start is None else _make("task.start", Start, start),
            cameras=_cameras(given.get("cameras") or {}),
            centre=tuple(float(v) for v in given.get("centre", (0.0, 0.0))),
        )
        if given.get("bounds") is not None:
            given["bounds"] = tuple(tuple(float(v) for v in pair) for pair in given["bounds"])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """What an episode of this task depends on, as JSON. The cameras do not change an episode."""
        tree = dataclasses.asdict(self)
        del tree["cameras"]
        return tree


def _cameras(node: Any) -> Cameras:
    if not isinstance(node, Mapping):
        raise ConfigError(f"task.cameras: expected image: [names] and volume: [names], got {node!r}")
    _check_names("task.cameras", node, Cameras)
    for use, names in node.items():
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"task.cameras.{use}: expected a list of camera names, got {names!r}")
    return Cameras(**{use: tuple(names) for use, names in node.items()})


def _make(at: str, cls: type[Any], node: Any) -> Any:
    given = dict(node)
    _check_names(at, given, cls)
    given = {k: tuple(float(x) for x in v) if isinstance(v, list | tuple) else v for k, v in given.items()}
    try:
        return cls(**given)
    except TypeError as error:
        raise ConfigError(f"{at}: {error}") from error


def _check_names(at: str, given: Mapping[str, Any], cls: type[Any]) -> None:
    known = [f.name for f in fields(cls)]
    for key in given:
        if key not in known:
            raise ConfigError(f"{at}.{key}: unknown{did_you_mean(str(key), known)} Known: {', '.join(known)}")
