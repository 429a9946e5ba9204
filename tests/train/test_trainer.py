"""The loop: it learns, stops and goes on exactly, and says what is wrong."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_toys import OPTIM, SPEC, TREE, assert_same, metrics, settings, trainer, weights, windows

from equidiff.checkpoint import CheckpointError, inspect_checkpoint, load_policy
from equidiff.train import EmaConfig, OptimConfig, TrainError
from equidiff.train.loggers import JsonLines


def test_it_learns_and_writes_what_it_says(tmp_path: Path) -> None:
    run = trainer(tmp_path, settings(max_steps=150, log_every=50, valid_every=50), valid=windows(1, seed=9))
    result = run.run()
    assert result.finished
    assert result.sentence().startswith("finished 150 steps, train/loss 0.")
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [50, 50, 100, 100, 150, 150]
    assert set(lines[0]) == {"step", "train/loss", "lr"}
    assert set(lines[1]) == {"step", "valid/loss"}
    assert lines[-2]["train/loss"] < 0.8 * lines[0]["train/loss"]
    assert lines[-2]["lr"] == 0.0
    manifest = inspect_checkpoint(result.checkpoint)
    assert manifest["step"] == 150
    assert manifest["metrics"]["valid/loss"] == lines[-1]["valid/loss"]
    policy = load_policy(result.checkpoint)
    assert policy.act({"at": torch.zeros(1, 1, 3), "grip": torch.zeros(1, 1, 1)}).action.shape == (1, 2, 4)


def test_two_then_four_equals_four(tmp_path: Path) -> None:
    """Law 5, bit for bit: also the optimiser, the EMA and the logged numbers."""
    more = {"valid": windows(1, seed=9)}
    trainer(tmp_path / "whole", settings(log_every=3), **more).run()
    stopped = trainer(tmp_path / "parts", settings(log_every=3, stop_after=2), **more).run()
    assert (stopped.step, stopped.finished) == (2, False)
    assert "go on with resume=true" in stopped.sentence()
    assert not (tmp_path / "parts/checkpoints/final").exists()
    resumed = trainer(tmp_path / "parts", settings(log_every=3), **more).run(resume=True)
    assert resumed.finished
    for name in ("final", "last"):
        assert_same(tmp_path / "whole/checkpoints" / name, tmp_path / "parts/checkpoints" / name)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert any("optimizer.safetensors:exp_avg_sq/" in name for name in weights(tmp_path / "whole/checkpoints/last"))


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8, 16])  # 4 above
def test_two_then_four_equals_four_of_every_order(tmp_path: Path, order: int) -> None:
    tree = {**TREE, "symmetry": {**TREE["symmetry"], "order": order}}
    trainer(tmp_path / "whole", tree=tree).run()
    trainer(tmp_path / "parts", settings(stop_after=2), tree).run()
    trainer(tmp_path / "parts", tree=tree).run(resume=True)
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "parts/checkpoints/final")


def test_validation_and_evaluation_do_not_disturb_training(tmp_path: Path) -> None:
    def evaluator(policy: Any, step: int) -> dict[str, float]:
        assert not policy.training
        torch.randn(100)
        return {"success": step / 10}

    trainer(tmp_path / "alone", settings(valid_every=None)).run()
    config = settings(valid_every=1, eval_every=2, save_every=1)
    trainer(tmp_path / "judged", config, valid=windows(1, seed=9), evaluator=evaluator).run()
    assert_same(tmp_path / "alone/checkpoints/last", tmp_path / "judged/checkpoints/last")
    success = [(m["step"], m["eval/success"]) for m in metrics(tmp_path / "judged") if "eval/success" in m]
    assert success == [(2, 0.2), (4, 0.4)]


def test_seeds_and_settings_matter(tmp_path: Path) -> None:
    trainer(tmp_path / "a").run()
    trainer(tmp_path / "b", settings(seed=1)).run()
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a/checkpoints/final", tmp_path / "b/checkpoints/final")


def test_ema_is_what_is_saved_and_raw_weights_go_on(tmp_path: Path) -> None:
    """Without EMA the raw weights are saved; with it an average that follows the stated law."""
    trainer(tmp_path / "raw", settings(ema=None)).run()
    trainer(tmp_path / "ema", settings(ema=EmaConfig(decay=0.5))).run()
    raw, ema = weights(tmp_path / "raw/checkpoints/final"), weights(tmp_path / "ema/checkpoints/final")
    resume = weights(tmp_path / "ema/checkpoints/last")
    name = "policy.safetensors:denoiser.lift.weight"
    assert torch.equal(resume[name.replace("policy.", "resume/weights.", 1)], raw[name])
    assert not torch.equal(ema[name], raw[name])
    # the average once more, from runs that stop after 1 to 4 steps: (1 + k) / (10 + k), the first update copies
    average = None
    for step in range(1, 5):
        trainer(tmp_path / f"stop{step}", settings(ema=None, stop_after=step)).run()
        current = weights(tmp_path / f"stop{step}/checkpoints/last")[name]
        decay = 0.0 if step == 1 else min(0.5, step / (9 + step))
        average = current if average is None else decay * average + (1 - decay) * current
    assert isinstance(average, Tensor)
    torch.testing.assert_close(ema[name], average)


def test_accumulation_is_the_same_batch_in_parts(tmp_path: Path) -> None:
    """Without dropout and noise of the diffusion the gradient is the mean over the parts."""
    grads = []
    for parts in (1, 4):
        run = trainer(tmp_path / str(parts), settings(accumulate=parts))
        run._prepare(None)
        run.policy.eval()  # neither dropout nor augmentation
        run.policy.diffusion.loss = lambda denoise, clean: (
            (  # type: ignore[method-assign]
                denoise(clean, torch.zeros(len(clean), dtype=torch.long)) - clean
            )
            .square()
            .mean()
        )
        run.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
        run._optimise(1, run._read(run._mine(1)))
        grads.append({n: p.grad.clone() for n, p in run.policy.named_parameters() if p.grad is not None})
    assert grads[0]
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name])


def test_clipping_limits_the_gradient(tmp_path: Path) -> None:
    run = trainer(tmp_path, settings(clip_norm=1e-3))
    run._prepare(None)
    run.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]
    run._optimise(1, run._read(run._mine(1)))
    norm = torch.stack([p.grad.norm() for p in run.policy.parameters() if p.grad is not None]).norm()
    assert 0.9e-3 < float(norm) < 1.001e-3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_rest_is_exact(tmp_path: Path, number: signal.Signals) -> None:
    def interrupt(policy: Any, step: int) -> dict[str, float]:
        if step == 2:
            os.kill(os.getpid(), number)
        return {}

    before = signal.getsignal(number)
    result = trainer(tmp_path / "parts", settings(eval_every=1), evaluator=interrupt).run()
    assert (result.step, result.signal) == (2, number)
    assert signal.getsignal(number) is before
    trainer(tmp_path / "parts").run(resume=True)
    trainer(tmp_path / "whole").run()
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "parts/checkpoints/final")


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    def interrupt(policy: Any, step: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, settings(eval_every=1), evaluator=interrupt).run()


def test_a_failing_evaluator_leaves_raw_weights_and_the_last_checkpoint(tmp_path: Path) -> None:
    def fail(policy: Any, step: int) -> dict[str, float]:
        raise RuntimeError("simulator died")

    run = trainer(tmp_path / "parts", settings(eval_every=3, save_every=2), evaluator=fail)
    with pytest.raises(RuntimeError, match="simulator died"):
        run.run()
    assert run.policy.training
    trainer(tmp_path / "parts").run(resume=True)
    trainer(tmp_path / "whole").run()
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "parts/checkpoints/final")


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path, settings(stop_after=2)).run()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equidiff.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*the previous checkpoint is kept") as caught:
        trainer(tmp_path).run(resume=True)
    monkeypatch.undo()
    assert "last holds step 2: go on from there with resume=true" in caught.value.__notes__[0]
    assert inspect_checkpoint(tmp_path / "checkpoints/last")["step"] == 2
    (tmp_path / "checkpoints/.last.saving-abc").mkdir()  # what a kill in the middle of saving leaves
    assert trainer(tmp_path).run(resume=True).finished
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["final", "last"]


def test_a_full_disk_under_the_metrics_loses_nothing_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JsonLines.log

    def full_at_three(self: JsonLines, step: int, values: Mapping[str, float]) -> None:
        if step == 3:
            self._file.close()
            self._file = Path("/dev/full").open("w")  # noqa: SIM115
        log(self, step, values)

    monkeypatch.setattr(JsonLines, "log", full_at_three)
    with pytest.raises(OSError, match="No space left on device") as caught:
        trainer(tmp_path, settings(save_every=2)).run()
    monkeypatch.undo()
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    last = tmp_path / "checkpoints/last"
    assert caught.value.__notes__ == [f"{last} holds step 2: go on from there with resume=true run_dir={tmp_path}"]
    trainer(tmp_path).run(resume=True)
    trainer(tmp_path / "whole").run()
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "checkpoints/final")
    assert metrics(tmp_path) == metrics(tmp_path / "whole")


def test_a_full_disk_on_the_way_keeps_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path, settings(stop_after=2), settings={"a": 1}).run()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*config.yaml"):
        trainer(tmp_path, settings={"a": 2}).run(resume=True)
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    before = (tmp_path / "checkpoints/final/manifest.json").read_bytes()
    result = trainer(tmp_path).run(resume=True)
    assert result.finished
    assert (tmp_path / "checkpoints/final/manifest.json").read_bytes() == before


def test_a_run_can_be_prolonged(tmp_path: Path) -> None:
    trainer(tmp_path, optim=OptimConfig(schedule="constant")).run()
    trainer(tmp_path, settings(max_steps=6), optim=OptimConfig(schedule="constant")).run(resume=True)
    trainer(tmp_path / "whole", settings(max_steps=6), optim=OptimConfig(schedule="constant")).run()
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "checkpoints/final")


def test_a_run_prolonged_under_a_schedule_of_its_length_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cosine of four steps is not that of two: the run goes on, and says in words and numbers that it differs."""
    trainer(tmp_path, settings(max_steps=2), optim=OptimConfig(warmup_steps=0)).run()
    capsys.readouterr()
    trainer(tmp_path, settings(stop_after=3), optim=OptimConfig(warmup_steps=0)).run(resume=True)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    assert len(told) == 1
    assert "first 2 steps followed the cosine schedule of 2 steps, the rest follows that of 4" in told[0]
    assert "not the same run as 4 steps from the start" in told[0]
    noted = {"resume/total_before": 2, "resume/total": 4}
    assert {"step": 2, **noted} in metrics(tmp_path)
    # once it is on its way, going on again is nothing new; what it went through stays in the manifest
    trainer(tmp_path, optim=OptimConfig(warmup_steps=0)).run(resume=True)
    assert "note " not in capsys.readouterr().out
    assert metrics(tmp_path).count({"step": 2, **noted}) == 1
    assert noted.items() <= inspect_checkpoint(tmp_path / "checkpoints/final")["metrics"].items()


def test_prolonging_within_the_warm_up_is_exact_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, settings(max_steps=4, stop_after=2), optim=OptimConfig(warmup_steps=3)).run()
    trainer(tmp_path, settings(max_steps=6), optim=OptimConfig(warmup_steps=3)).run(resume=True)
    assert "note " not in capsys.readouterr().out
    trainer(tmp_path / "whole", settings(max_steps=6), optim=OptimConfig(warmup_steps=3)).run()
    assert_same(tmp_path / "whole/checkpoints/final", tmp_path / "checkpoints/final")


def test_what_shapes_the_batches_must_stay(tmp_path: Path) -> None:
    trainer(tmp_path, settings(stop_after=2)).run()
    with pytest.raises(TrainError, match=r"trainer.accumulate: 1 there, 4 now\nUse the same settings"):
        trainer(tmp_path, settings(accumulate=4)).run(resume=True)
    run = trainer(tmp_path)
    run.accelerator = SimpleNamespace(num_processes=2, is_main_process=True)  # type: ignore[assignment]
    with pytest.raises(TrainError, match="processes: 1 there, 2 now"):
        run.run(resume=True)
    assert trainer(tmp_path).run(resume=True).finished


def test_refusals(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    with pytest.raises(TrainError, match=r"holds a training run already; go on with resume=true"):
        trainer(tmp_path).run()
    with pytest.raises(TrainError, match=r"trainer.seed: 0 there, 1 now") as caught:
        trainer(tmp_path, settings(seed=1), optim=OptimConfig(lr=1.0)).run(resume=True)
    assert f"optim.lr: {OPTIM.lr} there, 1.0 now" in str(caught.value)
    wider = copy.deepcopy(TREE)
    wider["denoiser"]["channels"] = 8
    wider["encoder"]["channels"] = 8
    with pytest.raises(TrainError, match=r"policy.denoiser.channels: 4 there, 8 now"):
        trainer(tmp_path, tree=wider).run(resume=True)
    with pytest.raises(TrainError, match="windows: 20 there, 30 now"):
        trainer(tmp_path, train=windows(3)).run(resume=True)
    with pytest.raises(TrainError, match=r"batch_size=8: expected a multiple of processes x accumulate = 3"):
        trainer(tmp_path, settings(accumulate=3))
    with pytest.raises(TrainError, match="there is no evaluator"):
        trainer(tmp_path, settings(eval_every=1))


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    run = trainer(tmp_path, settings(max_steps=60), optim=OptimConfig(lr=1e30, schedule="constant", warmup_steps=0))
    with pytest.raises(TrainError, match=r"the training loss is (nan|inf) at step \d+; lower optim.lr"):
        run.run()


def test_validation_is_the_loss_of_the_ema_on_fixed_noise(tmp_path: Path) -> None:
    run = trainer(tmp_path, settings(max_steps=3), valid=windows(1, seed=9))
    run.run()
    first = run._validate()
    torch.manual_seed(5)
    assert run._validate() == first
    assert SPEC.horizon.predict == 4
