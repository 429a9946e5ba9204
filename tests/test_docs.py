"""The documentation names what exists, its examples run, and its numbers come from the recorded results."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from equidiff.report.measured_rendering import markdown_rendering
from equidiff.report.recorded import markdown_mimicgen, markdown_symmetry, read_record, replace_block
from equidiff.results import ResultError
from equidiff.sim.task import Task

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OUTCOMES = {"equivariant": "1111", "plain": "1010"}


def blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for kind, text in fences if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_scripts_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).exists(), script


def test_the_tree_in_the_readme_is_the_tree() -> None:
    (tree,) = (block for block in blocks(ROOT / "README.md", "") if "equidiff/ " in block)
    for line in tree.splitlines():
        name = line.split()[0]
        where = ROOT / "equidiff" if line.startswith("  ") else ROOT
        assert (where / name).exists(), name


def test_config_choices_in_the_docs_exist() -> None:
    groups = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    for page in PAGES:
        for group, choice in re.findall(r"(?<![\w.])(\w+)=([a-z]\w+)(?![\w/]|\.\w)", page.read_text()):
            if group in groups and choice not in ("choice", "mug", "print"):
                assert (ROOT / "configs" / group / f"{choice}.yaml").exists(), f"{page.name}: {group}={choice}"


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(name for entry in nav for name in entry.values()) == sorted(
        p.name for p in (ROOT / "docs").glob("*.md")
    )


def test_the_example_task_is_a_task() -> None:
    (example,) = blocks(ROOT / "docs" / "extending.md", "yaml")
    assert Task.from_config(yaml.safe_load(example)).name == "mug"


def test_the_example_field_passes_its_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = "\n".join(blocks(ROOT / "docs" / "extending.md", "python"))
    (tmp_path / "example_field.py").write_text(source)
    (tmp_path / "example_wrong.py").write_text(source.replace("return features", "return 2 * features"))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("example_field")
    with pytest.raises(AssertionError, match="wrist_force"):
        importlib.import_module("example_wrong")


def test_numbers_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "update_results.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run python scripts/update_results.py\n{done.stdout}{done.stderr}"


def record() -> dict[str, object]:
    tree: dict[str, object] = {
        "task": "lift",
        "demonstrations": 5,
        "steps": 3000,
        "training_seeds": [0],
        "seeds": [100000, 100003],
        "goal": 0.95,
        "command": "python scripts/demo.py lift",
        "date": "2026-01-02T03:04:05+00:00",
        "cpu": "a | b",
        "wall_s": {"total": 600.0},
        "paired": {},
    }
    for key, outcome in OUTCOMES.items():
        tree[key] = {
            "label": key.capitalize(),
            "successes": outcome.count("1"),
            "rollouts": 4,
            "parameters": 1000,
            "outcomes": [outcome],
        }
    return tree


def test_recorded_results_fill_the_pages(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from update_results import contents
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    for name in ("README.md", "docs/results.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "docs" / "results").mkdir()
    (tmp_path / "docs" / "results" / "demo.json").write_text(json.dumps(record()))
    (tmp_path / "docs" / "measurements").mkdir()
    row = {"successes": 49, "episodes": 50, "interval": [0.89, 0.999], "mean_steps": 77.9}
    experts = {"date": "2026-01-01", "command": "measure", "experts": {"lift": row}}
    (tmp_path / "docs" / "measurements" / "experts.json").write_text(json.dumps(experts))
    files = {str(path.relative_to(tmp_path)): text for path, text in contents(tmp_path).items()}
    assert set(files) == {"README.md", "docs/results.md", "docs/images/demo.svg"}
    assert "| **Equivariant** | 4/4 | 40–100 % |  | 1,000 |" in files["README.md"]
    assert "solves 4 of 4 new episodes" in files["README.md"]
    assert "10 minutes in all" in files["README.md"]
    assert "demo.png" not in files["README.md"]  # not before the picture exists
    assert "| lift | 5 | Plain | 2/4 |" in files["docs/results.md"]
    assert "| lift | 49/50 | 89–100 % | 78 |" in files["docs/results.md"]
    assert "<!-- physics:begin -->\nNo result is recorded yet." in files["docs/results.md"]
    assert "prefers-color-scheme" in files["docs/images/demo.svg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu": None}, "has no 'cpu'"),
        ({"plain": {"label": "P", "successes": 3, "rollouts": 4, "outcomes": ["1010"]}}, "edited by hand"),
        ({"plain": {"label": "P", "successes": 2, "rollouts": 3, "outcomes": ["101"]}}, "expected 4 characters"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    tree = {key: value for key, value in (record() | change).items() if value is not None}
    file = tmp_path / "demo.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(ResultError, match=message):
        read_record(file)


def test_blocks_need_their_marks() -> None:
    assert (
        replace_block("a <!-- x:begin -->old<!-- x:end --> b", "x", "new")
        == "a <!-- x:begin -->\nnew\n<!-- x:end --> b"
    )
    with pytest.raises(ValueError, match="expected one"):
        replace_block("nothing", "x", "new")


def test_measured_generation_becomes_a_table() -> None:
    replayed = {"demonstrations": 4, "successes": 3}
    run = {"demos_per_minute": 16.04, "workers": 2}
    row = {"successes": 30, "attempts": 33, "interval": [0.757, 0.981], "last_run": run, "replays": {"fast": replayed}}
    text = markdown_mimicgen({"date": "2026-01-01", "command": "measure", "tasks": {"stack_d1": row}})
    assert "| stack_d1 | 30/33 | 76–98 % | 16.0 (2) | 3/4 |" in text
    assert text.endswith("2026-01-01: `measure`")


def test_measured_symmetry_becomes_a_table() -> None:
    row = {"parameters": 12345, "step_ms": 20.4, "chunk_ms": 7.1, "errors": {"45": 3e-15, "37": 0.012}}
    text = markdown_symmetry({"policies": {"so2_mlp": row}, "date": "2026-01-01", "command": "python x.py"})
    header, _, first, *_ = text.splitlines()
    assert header == "| policy | parameters | training step, ms | chunk, ms | error at 45° | error at 37° |"
    assert first == "| so2_mlp | 12,345 | 20 | 7 | 3e-15 | 1e-02 |"
    assert text.endswith("2026-01-01: `python x.py`")


def test_measured_rendering_becomes_a_table() -> None:
    row = {
        "pictures_per_cpu_second": {"robosuite": 12.1, "default": 13.0, "fast": 200.4, "smooth": 100.0},
        "speedup": {"default": 1.1, "fast": 16.6, "smooth": 8.3},
        "difference": {"default": 0.0, "fast": 2.5, "smooth": 1.25},
        "difference_by_camera": {kind: {"a": 3.0, "b": 2.0} for kind in ("default", "fast", "smooth")},
    }
    machine = {"size": 84, "cameras": ["a", "b"], "cpu": "a CPU", "cores": 2, "command": "python x.py"}
    text = markdown_rendering({"tasks": {"lift": row}, **machine})
    assert "| lift | 12 | 200 | 16.6 | 2.50 (3.00, 2.00) | 8.3 | 1.25 (3.00, 2.00) | 0.00 |" in text
    assert text.endswith("of each (a, b). a CPU, 2 cores: `python x.py`")
