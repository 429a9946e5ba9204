"""The stage between demonstrations and training: what policies see is made once, and again if what it needs changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from equidiff.demo.run import Demo
from equidiff.demo.settings import DemoError, load_settings
from equidiff.demo.summary import make_record, make_study

PREPARE = """
import sys
from pathlib import Path
options = dict(a.split("=", 1) for a in sys.argv[1:])
Path(options["out"]).write_text(Path(options["data"]).read_text() + " seen by " + options["like"])
"""


@pytest.fixture
def seeing(root: Path) -> Path:
    """A checkout whose comparison needs pictures."""
    (root / "scripts" / "prepare_data.py").write_text(PREPARE)
    for group, name in (("obs", "top"), ("obs", "other"), ("experiment", "sees"), ("experiment", "other")):
        (root / "configs" / group).mkdir(exist_ok=True)
        (root / "configs" / group / f"{name}.yaml").write_text("x: 1\n")
    lift = (root / "configs" / "demo" / "lift.yaml").read_text()
    named = lift.replace("[symmetry=c8]", "[symmetry=c8, experiment=sees]")
    (root / "configs" / "demo" / "seen.yaml").write_text(f"{named}\nobserve: top\n")
    return root


def make(root: Path, evaluation: Any, *overrides: str) -> Demo:
    out = f"out={root.parent / 'out'}"
    return Demo(load_settings(root / "configs" / "demo", "seen", [out, *overrides]), root, evaluation)


def test_policies_learn_from_what_was_made_of_the_demonstrations(seeing: Path, evaluation: Any) -> None:
    demo = make(seeing, evaluation)
    trained = demo.run()
    assert demo.settings.folder == seeing.parent / "out" / "seen"
    assert demo.observed.read_text() == "3 seen by top"
    assert all(f"data.path={demo.observed}" in run.command for run in trained)
    assert set(demo.wall_s) == {"demonstrations", "observations", "training", "evaluation"}
    study = make_study(demo, trained, ["x"])
    assert any("scripts/prepare_data.py" in line and "like=top" in line for _, line in study.commands)
    assert make_record(demo, trained, study, ["x"])["observe"] == "top"
    again = make(seeing, evaluation)
    again.run()
    assert len(again.reused) == 6


@pytest.mark.parametrize(
    ("file", "reused"),
    [
        ("configs/obs/top.yaml", 1),  # the demonstrations only
        ("configs/experiment/sees.yaml", 4),  # all but the policy that names it
        ("configs/experiment/other.yaml", 6),
        ("equidiff/train/trainer.py", 2),
        ("equidiff/demo/run.py", 6),
    ],
)
def test_a_change_repeats_what_depends_on_it(seeing: Path, evaluation: Any, file: str, reused: int) -> None:
    make(seeing, evaluation).run()
    (seeing / file).write_text("x: 2\n")
    demo = make(seeing, evaluation)
    demo.run()
    assert len(demo.reused) == reused


def test_a_failing_preparation_is_explained(seeing: Path, evaluation: Any) -> None:
    (seeing / "scripts" / "prepare_data.py").write_text("import sys; print('no light'); sys.exit(3)")
    with pytest.raises(DemoError, match=r"(?s)observations failed \(exit status 3\).*no light"):
        make(seeing, evaluation).run()
    (seeing / "scripts" / "prepare_data.py").write_text("print('done')")
    with pytest.raises(DemoError, match="did not write"):
        make(seeing, evaluation).run()
