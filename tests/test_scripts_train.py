"""scripts/train.py as a user meets it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import yaml
from demo_files import write_demos
from torch import Tensor
from training_toys import assert_same, metrics

from equidiff.checkpoint import inspect_checkpoint, load_policy
from equidiff.spec import Batch
from equidiff.train import Trainer

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
SMALL = [
    "task=lift",
    "symmetry=c4",
    "encoder.channels=4",
    "diffusion.inference_steps=2",
    "trainer.batch_size=16",
    "trainer.log_every=2",
    "trainer.valid_every=2",
    "trainer.device=cpu",
]


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demos(tmp_path_factory.mktemp("data") / "demos.hdf5", n=6, valid_fraction=0.3)


@functools.cache
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("train_script", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, demos: Path) -> Callable[..., int]:
    """The script's entry point, in this process; returns the exit code."""

    def run(*overrides: str, data: Path | None = demos) -> int:
        path = [f"data.path={data}"] if data is not None else []
        monkeypatch.setattr(sys, "argv", ["train.py", *path, *SMALL, *overrides])
        with pytest.raises(SystemExit) as ended:
            script().run_app(script().main, "train", script().__doc__)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def test_everything_is_where_the_docstring_says(train: Callable[..., int], tmp_path: Path) -> None:
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=4", "data.n_demo=2") == 0
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 4
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"step", "train/loss", "lr", "time_s"}
    assert set(lines[1]) == {"step", "valid/loss"}
    manifest = inspect_checkpoint(tmp_path / "checkpoints/final")
    assert manifest["task"]["name"] == "lift"
    assert manifest["control"] == "absolute"
    assert manifest["step"] == 4
    assert "trainer.max_steps=4" in manifest["command"]
    assert manifest["data"]["n_demo"] == 2
    assert manifest["data"]["path"].endswith("demos.hdf5")
    policy = load_policy(tmp_path / "checkpoints/final")
    assert policy.spec.action_size == 7


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=state_equivariant", "symmetry=c8"],
        ["experiment=state_plain"],
        ["experiment=state_augmented"],
        ["action=relative", "obs.horizon=2", "data.pad=published"],
        ["action=absolute", "obs.fields.absolute=true", "data.val_ratio=0.3", "data.valid_mask=null"],
        ["action=gripper_trajectory", "optim=paper", "trainer.accumulate=2"],
        ["denoiser=fibrewise_unet_small", "diffusion=ddpm", "normalizer=range", "diffusion.inference_steps=3"],
    ],
)
def test_choices_compose_and_train(train: Callable[..., int], tmp_path: Path, overrides: list[str]) -> None:
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=2", *overrides) == 0
    load_policy(tmp_path / "checkpoints/final")


def test_the_papers_recipe_counts_in_epochs(train: Callable[..., int], tmp_path: Path) -> None:
    assert train(f"run_dir={tmp_path}", "trainer=paper", "trainer.demo_epochs=8", "optim=paper") == 0
    # 4 demonstrations of 20 to 23 steps: 86 windows, 6 steps of 16, 8 / 4 epochs
    assert inspect_checkpoint(tmp_path / "checkpoints/final")["step"] == 12


def test_stop_and_resume_equal_no_stop(train: Callable[..., int], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(f"run_dir={whole}", "trainer.max_steps=4") == 0
    assert train(f"run_dir={parts}", "trainer.max_steps=4", "trainer.stop_after=2") == 0
    assert train(f"run_dir={parts}", "trainer.max_steps=4", "resume=true") == 0
    assert_same(whole / "checkpoints/final", parts / "checkpoints/final")
    assert_same(whole / "checkpoints/last", parts / "checkpoints/last")
    assert metrics(whole) == metrics(parts)


def command(demos: Path, run_dir: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), f"data.path={demos}", *SMALL, f"run_dir={run_dir}", *more]


@pytest.mark.slow
def test_killed_and_resumed_equals_not_killed(demos: Path, train: Callable[..., int], tmp_path: Path) -> None:
    steps = ["trainer.max_steps=2000", "trainer.save_every=10", "trainer.valid_every=50"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    process = subprocess.Popen(command(demos, parts, *steps), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (parts / "checkpoints/last/manifest.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # somewhere in training or saving
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (parts / "checkpoints/final").exists()
    saved = [p for p in (parts / "checkpoints").glob("*last*") if (p / "manifest.json").exists()]
    # the schedule must be that of the whole run, which stops soon after the kill to keep the test short
    end = max(json.loads((p / "manifest.json").read_text())["step"] for p in saved) + 5
    stop = [*steps, f"trainer.stop_after={end}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # a kill between two renames is told
        assert train(f"run_dir={parts}", "resume=true", *stop) == 0
    assert train(f"run_dir={whole}", *stop, "trainer.save_every=null") == 0
    assert inspect_checkpoint(parts / "checkpoints/last")["step"] == end
    assert_same(whole / "checkpoints/last", parts / "checkpoints/last")
    assert metrics(whole) == metrics(parts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_shows_in_the_exit_code(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    optimise = Trainer._optimise

    def interrupted(self: Trainer, step: int, batches: Sequence[Batch]) -> Tensor:
        if step == 2:
            os.kill(os.getpid(), number)
        return optimise(self, step, batches)

    monkeypatch.setattr(Trainer, "_optimise", interrupted)
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=5") == 128 + number
    assert inspect_checkpoint(tmp_path / "checkpoints/last")["step"] == 2
    assert not (tmp_path / "checkpoints/final").exists()


@pytest.mark.slow
def test_two_processes_share_a_batch(demos: Path, tmp_path: Path) -> None:
    # what `accelerate launch` does for several GPUs; on CPUs it would need MPI
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += command(demos, tmp_path, "trainer.max_steps=3")[1:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=180, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "cpu x 2" in done.stdout
    assert done.stdout.count("finished 3 steps") == 1
    assert [line["step"] for line in metrics(tmp_path)] == [2, 2, 3, 3]
    load_policy(tmp_path / "checkpoints/final")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.max_stepz=3"], "trainer.max_stepz: no such setting; did you mean 'trainer.max_steps'?"),
        (["tsk=lift"], "tsk: no such setting; did you mean 'task'?"),
        (["task=lfit"], "task=lfit: no such choice; did you mean 'lift'?; there are: "),
        (["experiment=state_equivarient"], "did you mean 'state_equivariant'?"),
        (
            ["denoiser=fibrewise_unet", "denoiser.kernal=3"],
            "denoiser.kernal: no such setting; did you mean 'denoiser.kernel'?",
        ),
        (["+denoiser.chanels=3"], "has no argument 'chanels'; did you mean 'channels'?"),
        (["optim.schedule=cosin"], "did you mean 'cosine'?"),
        (["data.n_demo=50"], "data.n_demo=50, but only 4 demonstrations are there"),
        (["data.mask=vaild"], "no mask 'vaild'; did you mean 'valid'?"),
        (["data.pad=ful"], "expected 'published' or 'full', got 'ful'"),
        (["resume=true"], "resume=true needs the run to go on with: run_dir=..."),
        (["horizon.execute=20"], "horizon.execute"),
        (["trainer.max_steps=null"], "exactly one of max_steps, epochs and demo_epochs"),
        (["trainer.max_steps"], "trainer.max_steps"),
        (["denoiser=fibrewise_unet", "denoiser.kernel=4"], "config.denoiser: FibrewiseUNet: kernel must be odd"),
        (
            ["experiment=equidiff_image_abs", "task=stack_d1", "encoder.channels=8", "obs.fields.size=85"],
            "config.encoder.encoders.scene: SceneImageEncoder('agentview_image'): crop=76 of 85 would move the middle",
        ),
        (["experiment=equidiff_image_abs", "task=stack_d1", "encoder.channels=8", "augment=crop"], "RandomCrop: "),
        (
            [
                "encoder=equi_image",
                "obs=image",
                "encoder.channels=8",
                "+encoder.encoders.wrist.norm=batch",
                "+encoder.encoders.wrist.weights=none.safetensors",
            ],
            "encoder.encoders.wrist.weights: no such file none.safetensors",
        ),
        (
            ["run_dir=/proc/nowhere/run", "trainer.max_steps=2"],
            "error: /proc/nowhere: No such file or directory; check",
        ),
    ],
)
def test_mistakes_are_answered_in_a_line(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert train(*overrides) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert "Traceback" not in told


def test_no_data_is_named(train: Callable[..., int], capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    assert train(data=None) == 2
    assert "data.path is not set" in capsys.readouterr().err
    assert train(data=demos.with_name("dems.hdf5")) == 2
    assert "did you mean 'demos.hdf5'?" in capsys.readouterr().err


def test_bad_data_is_named(train: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_demos(tmp_path / "demos.hdf5", n=2)
    with h5py.File(path, "a") as file:
        file["data/demo_1/obs/cube_pos"][3, 0] = np.nan
    assert train(data=path) == 2
    assert "demo_1: 'obs/cube_pos' is nan at index (3, 0)" in capsys.readouterr().err


def test_an_earlier_run_is_not_overwritten(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=2") == 0
    config = (tmp_path / "config.yaml").read_bytes()
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=3") == 2
    assert "go on with resume=true, or choose another run_dir" in capsys.readouterr().err
    assert train(f"run_dir={tmp_path}", "trainer.max_steps=2", "resume=true", "seed=1") == 2
    assert "trainer.seed: 0 there, 1 now" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_bytes() == config


def test_help(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--help") == 0
    told = capsys.readouterr().out
    assert "python scripts/train.py data.path=demos.hdf5" in told
    experiments = sorted(path.stem for path in (Path(__file__).parents[1] / "configs/experiment").glob("*.yaml"))
    assert f"experiment   {', '.join(experiments)}\n" in told
    assert "max_steps: 3000" in told
