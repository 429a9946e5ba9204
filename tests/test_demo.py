"""scripts/demo.py: its command line, its settings, and the whole of it in the real simulator."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.demo.settings import DemoSettings, load_settings
from equidiff.matching import count_parameters

ROOT = Path(__file__).parents[1]
TASKS = sorted(path.stem for path in (ROOT / "configs" / "demo").glob("*.yaml"))


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "demo.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def parameters(settings: DemoSettings, key: str) -> int:
    overrides = [f"task={settings.task}", "data.path=none", *settings.common, *settings.policies[key].overrides]
    config = compose("train", overrides)
    return count_parameters(make_policy(policy_tree(config), make_spec(config)))


@pytest.mark.parametrize("task", TASKS)
def test_the_policies_of_a_demo_are_what_their_labels_say(task: str) -> None:
    settings = load_settings(ROOT / "configs" / "demo", task)
    assert settings.task == task
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        counts = {key: parameters(settings, key) for key in settings.policies}
        configs = {key: compose("train", ["data.path=none", *p.overrides]) for key, p in settings.policies.items()}
    assert counts["plain_parameters"] == pytest.approx(counts["equivariant"], rel=0.05)
    assert counts["plain"] == counts["augmented"]
    order = {key: config.symmetry.order for key, config in configs.items()}
    turns = order.pop("equivariant")
    assert order == {"plain": 1, "plain_parameters": 1, "augmented": 1}
    assert settings.policies["equivariant"].label == f"Equivariant (C{turns})"
    assert turns in (8, 16)
    widths = {key: config.encoder.channels * config.symmetry.order for key, config in configs.items()}
    assert widths["plain"] == widths["equivariant"] == widths["augmented"]
    assert [key for key, config in configs.items() if config.augment is not None] == ["augmented"]


def test_help_names_the_tasks() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert f"Tasks: {', '.join(TASKS)}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lfit",), "did you mean 'lift'"),
        (("lift", "stepz=1"), "did you mean 'steps'"),
        (("lift", "steps=[1"), "steps: '[1' cannot be read"),
        (("lift", "out=README.md"), "README.md is a file"),
    ],
)
def test_mistakes_are_told_without_a_trace(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("robosuite") is None, reason="needs the extra sim")
def test_the_whole_demo_for_real(tmp_path: Path) -> None:
    settings = ("n_demo=2", "n_valid=1", "steps=30", "rollouts=2", "film=1", "policies=equivariant,plain_parameters")
    out = ("out=out", "record=record.json")
    done = run("lift", *settings, *out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "out" / "lift"
    record = json.loads((tmp_path / "record.json").read_text())
    assert record == json.loads((folder / "demo.json").read_text())
    for key in ("equivariant", "plain_parameters"):
        assert record[key]["rollouts"] == 2
        assert 0 <= record[key]["successes"] <= 2
        assert record[key]["mflop_per_chunk"] > 0
    assert record["reused"] == []
    assert record["command"].endswith(f"out={tmp_path / 'out'} record={tmp_path / 'record.json'}")
    assert {path.name for path in folder.iterdir()} >= {"report.html", "contact_sheet.png", "video.mp4", "demo.json"}
    page = (folder / "report.html").read_text()
    assert "Training loss" in page
    assert "Validation loss" in page
    assert "Plain with the same parameters" in done.stdout
    os.truncate(folder / "equivariant" / "seed0" / "rollouts" / "stage.json", 5)
    again = run("lift", *settings, *out, cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    second = json.loads((tmp_path / "record.json").read_text())
    assert len(second["reused"]) == 4  # all but the evaluation whose note was damaged
    assert second["equivariant"]["outcomes"] == record["equivariant"]["outcomes"]


def test_a_terminated_demo_says_how_to_go_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "demo.py").write_text((ROOT / "scripts" / "demo.py").read_text())
    generate = tmp_path / "scripts" / "generate_demos.py"
    generate.write_text("import time; print('begun', flush=True); time.sleep(60)")
    # as started in the background by a shell, which ignores SIGINT there
    ignoring = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); del sys.argv[0]; "
    ignoring += "runpy.run_path(sys.argv[0], run_name='__main__')"
    # without films the simulator is not needed before the first stage
    arguments = ["lift", "film=0", f"out={tmp_path / 'out'}"]
    command = [sys.executable, "-c", ignoring, "scripts/demo.py", *arguments, "fresh=true"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if "begun" in line:
                break
        process.terminate()
        rest = process.stderr.read()
    assert process.wait() == 130
    again = rest.partition("to go on: ")[2].strip()
    assert again.endswith(f"scripts/demo.py {' '.join(arguments)}")  # and not from the beginning
    generate.write_text("import sys; sys.exit('begun again')")
    went_on = subprocess.run(again, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "begun again" in went_on.stderr
