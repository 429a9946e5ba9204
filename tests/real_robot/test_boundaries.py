"""real_robot takes from equidiff only what runs a policy, and loads without simulator or training packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "real_robot"
MAY_IMPORT = {
    "checkpoint", "compose", "config", "diffusion", "fields", "guidance", "hydra_app", "perception", "policy",
    "rotations", "spec", "statistics", "symmetry", "untrusted",
}  # fmt: skip
# recordings go through the writer of demonstrations, the simulated arm is the simulator, a page is a page
EXCEPTIONS = {"teleop": {"data"}, "sim": {"sim"}, "fakes": {"sim"}, "report": {"report"}}
NOT_ON_THE_ROBOT = {
    "robosuite", "mujoco", "robomimic", "mimicgen", "gymnasium", "numba", "wandb", "accelerate", "h5py",
}  # fmt: skip


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_takes_only_what_runs_a_policy(file: Path) -> None:
    names = _imports(file)
    own = {name.split(".")[1] for name in names if name.startswith("equidiff.")}
    part = file.relative_to(PACKAGE).parts[0]
    assert own <= MAY_IMPORT | EXCEPTIONS.get(part, set())
    assert part in EXCEPTIONS or not {name.split(".")[0] for name in names} & NOT_ON_THE_ROBOT


def test_the_loop_loads_without_simulator_and_training() -> None:
    modules = [
        ".".join(("real_robot", *file.relative_to(PACKAGE).with_suffix("").parts))
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.relative_to(PACKAGE).parts[0] not in EXCEPTIONS and file.name not in ("__init__.py", "__main__.py")
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print(sorted({NOT_ON_THE_ROBOT} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
