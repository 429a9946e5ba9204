"""The stages in order: what runs, what is reused, what a failure or a kill leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from equidiff.demo.evaluation import read_film, write_film
from equidiff.demo.run import Demo
from equidiff.demo.settings import DemoError, load_settings
from equidiff.demo.summary import make_record, make_study, save_record, write_report
from equidiff.demo.training import Training, train_all

Calls = Callable[[Path], list[str]]


def make(root: Path, evaluation: Any, *overrides: str) -> Demo:
    out = f"out={root.parent / 'out'}"
    return Demo(load_settings(root / "configs" / "demo", "lift", [out, *overrides]), root, evaluation)


def test_everything_runs_once_and_is_then_reused(root: Path, evaluation: Any, calls: Calls) -> None:
    demo = make(root, evaluation)
    trained = demo.run()
    assert [run.key for run in trained] == ["equivariant", "plain"]
    assert evaluation.calls == ["Equivariant", "Plain"]
    assert demo.demonstrations.read_text() == "3"  # two to learn from, one for validation
    assert demo.reused == []
    again = make(root, evaluation)
    again.run()
    assert len(again.reused) == 5
    assert evaluation.calls == ["Equivariant", "Plain"]
    assert all(len(calls(run.folder)) == 1 for run in trained)


@pytest.mark.parametrize(
    ("change", "trainings", "evaluations"),
    [
        ("steps=4", 2, 2),
        ("n_demo=1", 2, 2),
        ("rollouts=3", 0, 2),
        ("fresh=true", 2, 2),
        ("goal=0.9", 0, 0),
        ("camera=birdview", 0, 2),
        ("workers=1", 0, 0),
    ],
)
def test_a_change_repeats_what_depends_on_it(
    root: Path, evaluation: Any, calls: Calls, change: str, trainings: int, evaluations: int
) -> None:
    make(root, evaluation).run()
    before = len(evaluation.calls)
    demo = make(root, evaluation, change)
    trained = demo.run()
    assert sum(text.startswith("training") for text in demo.reused) == 2 - trainings
    assert len(evaluation.calls) - before == evaluations
    assert all(len(calls(run.folder)) == 1 for run in trained)  # a repeated one began in an empty folder
    again = make(root, evaluation, change.replace("fresh=true", "fresh=false"))
    again.run()
    assert len(again.reused) == 5


def test_after_an_interrupt_nothing_that_fresh_started_over_is_reused(root: Path, evaluation: Any) -> None:
    make(root, evaluation).run()
    (root / "scripts" / "generate_demos.py").write_text("import sys; sys.exit('interrupted')")
    with pytest.raises(DemoError, match="interrupted"):
        make(root, evaluation, "fresh=true").run()
    assert make(root, evaluation).pending
    assert not (root.parent / "out" / "lift" / "plain" / "seed0").exists()


@pytest.mark.parametrize(
    ("file", "trained", "evaluated"),
    [
        ("equidiff/policy.py", True, True),
        ("equidiff/train/trainer.py", True, True),
        ("equidiff/demo/run.py", False, False),
        ("configs/optim/adamw.yaml", True, True),
        ("configs/task/lift.yaml", True, True),
        ("configs/task/stack.yaml", False, False),
    ],
)
def test_results_of_other_code_or_configs_are_not_reused(
    root: Path, evaluation: Any, file: str, trained: bool, evaluated: bool
) -> None:
    make(root, evaluation).run()
    (root / file).write_text("changed: 2\n")
    demo = make(root, evaluation)
    demo.run()
    assert ("training of 'Plain'" not in demo.reused) == trained
    assert (len(evaluation.calls) == 4) == evaluated


def test_a_file_of_demonstrations_replaces_the_recording(root: Path, evaluation: Any) -> None:
    file = root.parent / "mine.hdf5"
    with pytest.raises(DemoError, match=r"no file .*mine.hdf5"):
        make(root, evaluation, f"data={file}")
    file.write_text("episodes")
    demo = make(root, evaluation, f"data={file}")
    trained = demo.run()
    assert f"data.path={file}" in trained[0].command
    assert not (demo.settings.folder / "demonstrations").exists()
    study = make_study(demo, trained, ["x"])
    assert not any("generate_demos" in line for _, line in study.commands)
    file.write_text("other episodes")
    again = make(root, evaluation, f"data={file}")
    again.run()
    assert again.reused == []


def test_relative_paths_are_of_the_folder_where_the_demo_was_started(
    root: Path, evaluation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = root.parent / "some, where (1)"  # characters that Hydra would take for its own
    here.mkdir()
    (here / "mine.hdf5").write_text("episodes")
    monkeypatch.chdir(here)
    settings = load_settings(root / "configs" / "demo", "lift", ["out=made", "film=0"])
    demo = Demo(settings, root, evaluation)
    command = OverridesParser.create().parse_overrides(
        [*demo.generate_command()[1:], *demo.train_command("plain", 0)[1:]]
    )
    assert {"out", "run_dir", "data.path"} <= {o.key_or_group for o in command}
    assert all(Path(str(o.value())).is_relative_to(here) for o in command if o.key_or_group in ("out", "run_dir"))
    monkeypatch.chdir(here.parent)
    (here.parent / "mine.hdf5").write_text("episodes")
    given = load_settings(root / "configs" / "demo", "lift", ["out=made", "data=mine.hdf5"])
    trained = Demo(given, root, evaluation).run()
    assert trained[0].checkpoint == here.parent / "made" / "lift" / "equivariant" / "seed0" / "checkpoints" / "final"
    assert trained[0].checkpoint.is_dir()
    assert not (root / "made").exists()


def test_commands_name_what_is_in_the_checkout_from_there(
    root: Path, evaluation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    demo = Demo(load_settings(root / "configs" / "demo", "lift"), root, evaluation)
    assert "out=outputs/demo/lift/demonstrations/demos.hdf5" in demo.generate_command()
    assert demo.eval_command("plain", 0)[1] == "checkpoint=outputs/demo/lift/plain/seed0/checkpoints/final"


def test_files_of_somebody_else_are_found_before_any_work(root: Path, evaluation: Any) -> None:
    demo = make(root, evaluation)
    thesis = demo.settings.folder / "plain" / "seed0" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.touch()
    for again in ("fresh=false", "fresh=true"):
        with pytest.raises(DemoError, match="plain/seed0: has files that the demo did not make"):
            make(root, evaluation, again).run()
    assert thesis.exists()
    assert not demo.demonstrations.exists()


def test_what_needs_no_episode_needs_no_simulator(root: Path, evaluation: Any) -> None:
    demo = make(root, evaluation)
    assert demo.pending
    demo.run()
    assert not make(root, evaluation).pending
    assert make(root, evaluation, "fresh=true").pending
    assert make(root, evaluation, "rollouts=3").pending


def test_several_training_seeds(root: Path, evaluation: Any) -> None:
    demo = make(root, evaluation, "seeds=2")
    trained = demo.run()
    study = make_study(demo, trained, ["scripts/demo.py", "lift"])
    assert [str(e.pooled.trials) for e in study.entrants] == ["8", "8"]
    assert demo.train_command("plain", 1)[-2:] == ("seed=1", f"run_dir={demo.settings.folder / 'plain' / 'seed1'}")


def test_a_failing_training_is_explained_and_stops_the_others(root: Path, evaluation: Any) -> None:
    file = root / "configs" / "demo" / "lift.yaml"
    file.write_text(
        file.read_text().replace("[symmetry=trivial]", "[fail=true]").replace("[symmetry=c8]", "[slow=true]")
    )
    begun = time.monotonic()
    with pytest.raises(DemoError, match=r"(?s)training of 'Plain' failed.*fail=true.*no gradient today.*train.log"):
        make(root, evaluation).run()
    assert time.monotonic() - begun < 30  # did not wait for the slow one
    assert evaluation.calls == []


def test_a_failing_generator_is_explained(root: Path, evaluation: Any) -> None:
    (root / "scripts" / "generate_demos.py").write_text("import sys; print('no table'); sys.exit(3)")
    with pytest.raises(DemoError, match=r"(?s)exit status 3.*no table"):
        make(root, evaluation).run()
    (root / "scripts" / "generate_demos.py").write_text("print('done')")
    with pytest.raises(DemoError, match="did not write"):
        make(root, evaluation).run()
    (root / "scripts" / "generate_demos.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DemoError, match=r"killed, as the system does when memory runs out.* workers=1 parallel=1"):
        make(root, evaluation).run()


def test_an_interrupted_training_is_resumed(root: Path, evaluation: Any, calls: Calls) -> None:
    file = root / "configs" / "demo" / "lift.yaml"
    file.write_text(file.read_text().replace("[symmetry=c8]", "[symmetry=c8, slow=true]"))
    demo = make(root, evaluation, "policies=equivariant")
    folder = demo.settings.folder / "equivariant" / "seed0"

    def interrupt() -> None:
        while not (folder / "running").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        demo.run()
    assert (folder / "checkpoints" / "last").is_dir()  # it was told to save
    make(root, evaluation, "policies=equivariant").run()
    assert [line.endswith("resume=true") for line in calls(folder)] == [False, True]


def test_training_reads_metrics_while_they_grow(tmp_path: Path) -> None:
    training = Training("x", tmp_path, ("true",), 10)
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "train/loss": 0.5}\n{"step": 1, "valid/loss": 9}\n{"step": 2, "tr')
    training._tail()
    assert (training.step, training.loss) == (1, 0.5)
    with file.open("a") as stream:
        stream.write('ain/loss": 0.25}\n')
    training._tail()
    assert (training.step, training.loss) == (2, 0.25)
    file.write_text('{"step": 1, "train/loss": 0.75}\n')  # a resumed run has dropped lines
    training._tail()
    assert (training.step, training.loss) == (1, 0.75)


def test_bars_on_a_terminal(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    import sys

    folders = [root / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    jobs = [
        Training(f.name, f, (sys.executable, "scripts/train.py", f"run_dir={f}", "trainer.max_steps=5", "late=1"), 5)
        for f in folders
    ]
    train_all(jobs, parallel=1, cwd=root)
    shown = capsys.readouterr().err
    assert "waiting" in shown
    assert "starting" in shown
    assert "5/5" in shown
    assert "loss 0.2000, done" in shown


def test_report_and_record_hold_the_outcomes(root: Path, evaluation: Any) -> None:
    target = root / "docs" / "demo.json"
    demo = make(root, evaluation, f"record={target}")
    trained = demo.run()
    command = ["scripts/demo.py", "lift"]
    study = make_study(demo, trained, command)
    made = write_report(demo, trained, study)
    assert {name: path.name for name, path in made.items()} == {
        "sheet": "contact_sheet.png",
        "video": "video.mp4",
        "page": "report.html",
    }
    page = made["page"].read_text()
    assert "python scripts/train.py task=lift" in page
    assert page.index(f"cd {root}") < page.index("python scripts/demo.py lift")
    assert "Training loss" in page
    record = make_record(demo, trained, study, command)
    assert [path.name for path in save_record(record, demo)] == ["demo.json", "demo.json"]
    assert target.exists()
    assert record["equivariant"]["successes"] == 4
    assert record["plain"]["successes"] == 2
    assert record["plain"]["rollouts"] == 4
    assert record["plain"]["outcomes"] == ["1010"]
    assert record["seeds"] == [100000, 100003]
    assert record["command"] == "python scripts/demo.py lift"
    assert record["paired"]["equivariant against plain"] == {
        "both": 2,
        "only_first": 2,
        "only_second": 0,
        "neither": 0,
        "p": 0.5,
    }
    assert set(record["wall_s"]) == {"demonstrations", "training", "evaluation"}


def test_films_are_stored_without_loss(tmp_path: Path) -> None:
    frames = {seed: np.random.default_rng(seed).integers(0, 256, (seed, 8, 6, 3), np.uint8) for seed in (2, 3)}
    write_film(tmp_path, frames)
    back = read_film(tmp_path)
    assert set(back) == {2, 3}
    assert all(np.array_equal(back[seed], frames[seed]) for seed in frames)
    assert read_film(tmp_path / "film") == {}


def test_without_film_there_is_still_a_page(root: Path, evaluation: Any) -> None:
    demo = make(root, evaluation, "film=0")
    trained = demo.run()
    assert set(write_report(demo, trained, make_study(demo, trained, ["x"]))) == {"page"}
