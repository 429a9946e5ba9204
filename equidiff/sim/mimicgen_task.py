"""What MimicGen needs to know of a task: its sub-tasks, its environment interface, how sources are chosen."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from equidiff.config import ConfigError
from equidiff.sim.backend import SimulatorError, load_mimicgen, quiet
from equidiff.sim.task import Task

__all__ = ["MimicGenTask", "load_generator"]

# the published data sets were made with another source for each sub-task here, with one for all elsewhere
# (mimicgen's generate_core_configs.py)
_SOURCE_PER_SUBTASK = ("stack", "stack_three", "pick_place")


@dataclass(frozen=True)
class MimicGenTask:
    """The names under which mimicgen has a task's family (all variants D0, D1, ... of an environment).

    config: of its generation config; interface: of the class that reads object poses and sub-task signals.
    """

    config: str
    interface: str

    @classmethod
    def of(cls, task: Task) -> MimicGenTask:
        """Raises ConfigError for a task that is not one of MimicGen's."""
        family, _, variant = task.env.rpartition("_")
        if task.package not in ("mimicgen", "robosuite_task_zoo") or not re.fullmatch(r"[DO]\d", variant):
            raise ConfigError(
                f"task.env: {task.env!r} is not one of MimicGen's environments (like Stack_D1), so method=mimicgen "
                "cannot generate it; choose a task such as stack_d1, or method=expert"
            )
        return cls(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", family).lower(), f"MG_{family}")

    @property
    def source_task(self) -> str:
        """Name of the task config (configs/task) whose demonstrations are sources of this family."""
        return f"{self.config}_d0"

    @property
    def source_per_subtask(self) -> bool:
        """Whether the published data chose another source demonstration for each sub-task."""
        return self.config in _SOURCE_PER_SUBTASK

    def make_interface(self, env: Any) -> Any:
        """mimicgen's interface of a robosuite environment."""
        load_generator()
        from mimicgen.env_interfaces.base import make_interface

        return make_interface(self.interface, "robosuite", env)

    def task_spec(self) -> Any:
        """mimicgen's MG_TaskSpec of the family, with the settings of the published data."""
        load_generator()
        from mimicgen.configs import MG_TaskSpec, config_factory

        config = config_factory(self.config, "robosuite")
        return MG_TaskSpec.from_json(json_string=config.task.task_spec.dump())


def load_generator() -> ModuleType:
    """mimicgen with its generation code, which needs some packages more than its environments.

    Raises SimulatorError naming what is missing.
    """
    package = load_mimicgen()
    with quiet():
        try:
            importlib.import_module("mimicgen.configs")
            importlib.import_module("mimicgen.datagen.data_generator")
        except ModuleNotFoundError as error:
            raise SimulatorError(
                f"method=mimicgen: mimicgen's generation code needs the package {error.name!r}: "
                f"uv pip install {error.name} -c requirements/constraints.txt"
            ) from error
    return package
