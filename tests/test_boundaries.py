"""Who may import whom, read from the source and seen in a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from law_toys import config, make

from equidiff.checkpoint import save_checkpoint
from equidiff.compose import policy_tree

PACKAGE = Path(__file__).parents[1] / "equidiff"
SIMULATORS = {"robosuite", "mujoco", "robomimic", "mimicgen", "gymnasium", "numba"}
FOREIGN = SIMULATORS | {"h5py", "wandb", "accelerate", "cv2", "matplotlib", "imageio_ffmpeg", "PIL"}
FOREIGN |= {"pyarrow", "av", "zarr"}
# what each part may import of the package itself (at module level)
MAY_IMPORT = {
    "symmetry": set(),
    "rotations": set(),
    "untrusted": set(),
    "matching": set(),
    "config": set(),
    "perception": set(),
    "fields": {"fields", "rotations", "symmetry"},
    "spec": {"fields", "symmetry"},
    "normalizer": {"fields", "spec", "symmetry"},
    "augment": {"fields", "spec", "symmetry"},
    "nn": {"nn", "symmetry"},
    "encoders": {"encoders", "fields", "nn", "spec", "symmetry"},
    "denoisers": {"denoisers", "nn", "spec", "symmetry"},
    "guidance": set(),
    "diffusion": {"guidance", "symmetry"},
    "policy": {"augment", "diffusion", "guidance", "normalizer", "spec", "symmetry"},
    "compose": {"config", "perception", "policy", "spec"},
    "provenance": set(),
    "checkpoint": {"config", "fields", "policy", "provenance", "spec", "untrusted"},
}


def _files(part: str) -> list[Path]:
    return [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else sorted((PACKAGE / part).rglob("*.py"))


def _imports(file: Path, everywhere: bool) -> set[str]:
    """Dotted names that a file imports, at module level or everywhere; not those for type checkers only."""
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return
        if everywhere or not inside:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside or function)

    visit(ast.parse(file.read_text()), False)
    return found


def _own(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("equidiff.")}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_direction_of_dependencies(part: str) -> None:
    files = _files(part)
    assert files
    for file in files:
        assert _own(_imports(file, everywhere=True)) <= MAY_IMPORT[part] | {part}, file


def test_only_sim_imports_simulators() -> None:
    for file in PACKAGE.rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(file, everywhere=True)}
        if "sim" not in file.relative_to(PACKAGE).parts:
            assert not roots & SIMULATORS, file


def test_training_and_data_do_not_depend_on_what_starts_them() -> None:
    for file in [*_files("train"), *_files("data")]:
        names = _imports(file, everywhere=False)
        roots = {name.split(".")[0] for name in names}
        assert not roots & {"hydra", "omegaconf"}, file
        if file.stem != "loggers":
            assert "wandb" not in roots, file
        assert not _own(names) & {"sim", "report"}, file


def test_nothing_unpickles_or_evaluates() -> None:
    """`torch.load` and pickle run code from a file; eval and exec run it from a string."""
    for file in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "scripts").rglob("*.py")]:
        roots = {name.split(".")[0] for name in _imports(file, everywhere=True)}
        assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, file
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "torch.save"), file
                for keyword in node.keywords:  # numpy's loader unpickles only if asked to
                    assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False", file


def _fresh(code: str) -> set[str]:
    """Top-level modules loaded after running `code` in a new interpreter."""
    program = f"{code}\nimport sys\nprint('MODULES', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("MODULES ")[2].split())


def test_loading_and_running_a_policy_needs_neither_simulator_nor_training(tmp_path: Path) -> None:
    few = ["diffusion.inference_steps=2"]
    policy = make(4, few)
    save_checkpoint(tmp_path / "last", policy, policy_tree(config(4, few)))
    loaded = _fresh(
        "import torch\n"
        "from equidiff.checkpoint import load_policy\n"
        f"policy = load_policy({str(tmp_path / 'last')!r})\n"
        "shapes = policy.spec.observation.shapes\n"
        "obs = {key: torch.rand(2, policy.spec.horizon.obs, *shape) for key, shape in shapes.items()}\n"
        "assert policy.act(obs).action.shape == (2, 4, 7)\n"
    )
    assert {"torch", "equidiff", "diffusers"} <= loaded
    assert not loaded & (FOREIGN - {"PIL", "accelerate"})
    # diffusers imports these two itself where they happen to be installed; we never do
    assert "PIL" not in loaded or "diffusers" in loaded


def test_perception_needs_numpy_alone() -> None:
    """It runs on the computer of the arm, which has no simulator and need not have torch."""
    loaded = _fresh("import equidiff.perception")
    assert "numpy" in loaded
    assert not loaded & (FOREIGN | {"torch", "scipy", "hydra", "omegaconf"})


def test_files_stay_readable() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
