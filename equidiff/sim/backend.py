"""Imports the simulator: in the right order, quietly, and with errors that say what to install."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import io
import logging
import os
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401 - before OSMesa: the other way round is a segmentation fault

with contextlib.suppress(ImportError):  # CUDA builds of torch load it late, with the same end; CPU builds lack it
    import triton  # noqa: F401

__all__ = ["SimulatorError", "load_mimicgen", "load_mujoco", "load_package", "load_robosuite", "load_task_zoo", "quiet"]

NOT_INSTALLED = "the simulator is not installed: make setup, or pip install 'equidiff[sim]'"
# tested with these; the extra mimicgen of pyproject.toml and docs/install.md name them, too
MIMICGEN_COMMIT = "72bd767c255545f462e7ccfb2731f2e5d4c1d9bb"
TASK_ZOO_COMMIT = "74eab7f88214c21ca1ae8617c2b2f8d19718a9ed"


def _clone(repository: str, commit: str, options: str) -> str:
    """Commands that install a commit from a clone: the packages' own set-up leaves the models' files out.

    Beside the checkout, of which it is no part.
    """
    folder = f"../{repository.rpartition('/')[2]}"
    return (
        f"git clone https://github.com/{repository} {folder} && git -C {folder} checkout {commit} && "
        f"uv pip install {options} -e {folder}"
    )


MIMICGEN_INSTALL = _clone("NVlabs/mimicgen", MIMICGEN_COMMIT, "-c requirements/constraints.txt")
# no dependencies: it names mujoco-py, which it does not use
TASK_ZOO_INSTALL = _clone("ARISE-Initiative/robosuite-task-zoo", TASK_ZOO_COMMIT, "--no-deps")
_PACKAGES = {
    "osmesa": ("OSMesa", "libosmesa6 libgl1-mesa-dri"),
    "egl": ("EGL", "libegl1 libgl1 libgl1-mesa-dri"),
}


class SimulatorError(RuntimeError):
    """The simulator, or a task in it, is not there; the message names what to install."""


@cache
def load_mujoco() -> ModuleType:
    """mujoco with an off-screen GL library: MUJOCO_GL, else EGL with an NVIDIA device, else OSMesa.

    The only way to it here: MuJoCo takes the library once, when it is first imported.
    """
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl" if Path("/dev/nvidia0").exists() else "osmesa"
    backend = os.environ["MUJOCO_GL"]
    if backend in _PACKAGES:
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
        library, packages = _PACKAGES[backend]
        if ctypes.util.find_library(library) is None:
            raise SimulatorError(f"MUJOCO_GL={backend} needs the library {library}: apt-get install {packages}")
    if importlib.util.find_spec("mujoco") is None:
        raise SimulatorError(NOT_INSTALLED)
    logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)  # tells of a package that nobody needs here
    import mujoco

    return mujoco


@cache
def load_robosuite() -> ModuleType:
    """robosuite, on `load_mujoco`."""
    load_mujoco()
    if importlib.util.find_spec("robosuite") is None:
        raise SimulatorError(NOT_INSTALLED)
    with quiet():
        import robosuite
    return robosuite


@cache
def load_mimicgen() -> ModuleType:
    """The NVlabs mimicgen package, whose import registers its environments with robosuite."""
    load_robosuite()
    with quiet():  # looking for the submodule already imports the package
        # the package of that name on the index has no environments
        there = importlib.util.find_spec("mimicgen") and importlib.util.find_spec("mimicgen.envs")
    if not there:
        raise SimulatorError(
            "this task needs the NVlabs mimicgen package (the one of that name on the index is another): "
            + MIMICGEN_INSTALL
        )
    with quiet():
        import mimicgen
    return mimicgen


@cache
def load_task_zoo() -> ModuleType:
    """robosuite_task_zoo, on which mimicgen's HammerCleanup and Kitchen are built, and then mimicgen."""
    load_robosuite()
    if importlib.util.find_spec("robosuite_task_zoo") is None:
        raise SimulatorError(
            "HammerCleanup and Kitchen need robosuite_task_zoo, which is only in its repository: " + TASK_ZOO_INSTALL
        )
    load_mimicgen()
    with quiet():
        import robosuite_task_zoo
    return robosuite_task_zoo


def load_package(name: str) -> ModuleType:
    """The package that registers a task's environment: one of `equidiff.sim.task.PACKAGES`. Raises SimulatorError."""
    return {"robosuite": load_robosuite, "mimicgen": load_mimicgen, "robosuite_task_zoo": load_task_zoo}[name]()


class quiet:
    """Hides import-time advice about macro files and the like; errors still pass."""

    def __enter__(self) -> None:
        self._printed = contextlib.redirect_stdout(io.StringIO())
        self._printed.__enter__()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)

    def __exit__(self, *details: object) -> None:
        logging.disable(logging.NOTSET)
        self._printed.__exit__(None, None, None)
        self._warnings.__exit__(*details)  # type: ignore[arg-type]
