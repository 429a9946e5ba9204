"""`Trainer`: optimiser steps on windows, EMA, validation, evaluation, checkpoints; resumes exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator, PartialState
from torch import Tensor, nn
from tqdm import tqdm

from equidiff.checkpoint import load_resume, save_checkpoint
from equidiff.data.windows import WindowDataset
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Batch
from equidiff.train.batches import ReadAhead, fitting_batches, on_device, pinned, validation_draws
from equidiff.train.ema import averaged, make_ema
from equidiff.train.evaluator import Evaluator
from equidiff.train.loggers import JsonLines, Logger
from equidiff.train.order import SampleOrder, seed_everything
from equidiff.train.precision import choose_precision
from equidiff.train.report import TrainResult, how_to_go_on, other_length
from equidiff.train.schedule import make_schedule, same_rates
from equidiff.train.settings import OptimConfig, TrainerConfig, TrainError
from equidiff.train.signals import StopSignal
from equidiff.train.state import check_identity, pack, unpack
from equidiff.writing import write_text

__all__ = ["Trainer"]

_ON_DEVICE = 2 * 2**30  # bytes of windows that are kept on the accelerator


class Trainer:
    """Trains a policy and writes RUN_DIR/metrics.jsonl, RUN_DIR/checkpoints/last and, at the end, final.

    policy_config: the resolved tree the policy was built from (stored in checkpoints). data: what the
    manifest says about the data; it also identifies the run when it resumes. extra: further JSON for
    the manifest. settings: what the run was started with, for RUN_DIR/config.yaml. loggers: factories,
    called in the main process only. evaluator: see Evaluator.

    Start it with `accelerate launch` to train in several processes: each takes its share of every batch.
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        policy_config: Mapping[str, Any],
        train: WindowDataset,
        run_dir: Path,
        config: TrainerConfig,
        optim: OptimConfig,
        *,
        valid: WindowDataset | None = None,
        evaluator: Evaluator | None = None,
        loggers: Sequence[Callable[[], Logger]] = (),
        data: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        cpu = config.device == "cpu"
        self.precision = choose_precision(config.mixed_precision, PartialState(cpu=cpu).device)
        self.accelerator = Accelerator(
            mixed_precision=self.precision, cpu=cpu, gradient_accumulation_steps=config.accumulate
        )
        shares = self.accelerator.num_processes * config.accumulate
        if config.batch_size % shares:
            raise TrainError(
                f"trainer.batch_size={config.batch_size}: expected a multiple of processes x accumulate = {shares}"
            )
        if config.eval_every and evaluator is None:
            raise TrainError("trainer.eval_every is set, but there is no evaluator; set it to null or give one")
        self.policy, self.policy_config = policy, policy_config
        self.train, self.valid = train, valid
        self.run_dir, self.config, self.optim = Path(run_dir), config, optim
        self.evaluator, self.data, self.extra = evaluator, dict(data or {}), dict(extra or {})
        self.total = config.total_steps(len(train), len(train.lengths))
        self._factories, self._settings = loggers, settings
        self._stop = StopSignal()
        self._metrics: dict[str, float] = {}
        self._step = self._saved = 0

    @property
    def last(self) -> Path:
        """The checkpoint that `run(resume=True)` goes on from."""
        return self.run_dir / "checkpoints" / "last"

    @property
    def final(self) -> Path:
        """The checkpoint of the finished run."""
        return self.run_dir / "checkpoints" / "final"

    def run(self, resume: bool = False) -> TrainResult:
        """Train to the end, to stop_after or to a signal (SIGINT, SIGTERM: saves first).

        resume: go on from checkpoints/last if it is there, else start. It then gives the same run as no stop, bit for
        bit on a CPU, unless `max_steps` and the like have changed under a schedule that spans the whole run, which is
        told and noted in the metrics. Raises TrainError, also if what else shapes a run has changed; an error on the
        way says how to go on.
        """
        stored = self._stored(resume)
        threads = torch.get_num_threads()
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        try:
            with self._stop:
                return self._run(stored)
        except TrainError:
            raise
        except Exception as error:
            if self._step:
                error.add_note(how_to_go_on(self.last, self._saved))
            raise
        finally:
            torch.set_num_threads(threads)

    def _summary(self) -> list[str]:
        """Lines that say what `run` will do."""
        config, accelerator, policy = self.config, self.accelerator, self.policy
        parameters = sum(p.numel() for p in policy.parameters())
        valid = (
            "no validation"
            if self.valid is None
            else f"validation on {len(self.valid.lengths)} ({len(self.valid)} windows)"
        )
        device = accelerator.device.type + (f" x {accelerator.num_processes}" if accelerator.num_processes > 1 else "")
        precision = "float32" if self.precision == "no" else self.precision
        threads = config.threads or torch.get_num_threads()
        return [
            f"policy  {type(policy).__name__} with C_{policy.symmetry.order}, {parameters:,} parameters",
            f"data    {len(self.train.lengths)} demonstrations, {len(self.train)} windows; {valid}",
            f"train   {self.total} steps of {config.batch_size} on {device}, {threads} CPU threads, {precision}",
            f"write   {self.run_dir}",
        ]

    # -- set-up ------------------------------------------------------------------------------------

    def _stored(self, resume: bool) -> dict[str, Any] | None:
        there = self.last.exists() or self.last.with_name(f".{self.last.name}.previous").exists()
        if there and not resume:
            raise TrainError(
                f"{self.run_dir}: holds a training run already; go on with resume=true, or choose another run_dir"
            )
        stored = None
        if there:
            stored = load_resume(self.last)
            check_identity(stored["state"]["identity"], json.loads(json.dumps(self._identity())))
        if self.accelerator.is_main_process:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            if self._settings is not None:
                write_text(self.run_dir / "config.yaml", yaml.safe_dump(dict(self._settings), sort_keys=False))
            for line in self._summary():
                print(line, flush=True)
        self.accelerator.wait_for_everyone()
        return stored

    def _identity(self) -> dict[str, Any]:
        """What must not change between a run and its continuation."""
        config = dataclasses.asdict(self.config)
        kept = ("batch_size", "accumulate", "clip_norm", "ema", "seed")
        return {
            "trainer": {**{name: config[name] for name in kept}, "mixed_precision": self.precision},
            "processes": self.accelerator.num_processes,  # each draws its own noise
            "optim": dataclasses.asdict(self.optim),
            "data": {k: v for k, v in self.data.items() if k != "path"},
            "windows": len(self.train),
            "spec": self.policy.spec.to_json(),
            "policy": dict(self.policy_config),
        }

    def _prepare(self, stored: Mapping[str, Any] | None) -> None:
        config, accelerator = self.config, self.accelerator
        if stored is None:
            self.policy.fit(fitting_batches(self.train, self.policy.spec))
        self.module = accelerator.prepare(_Loss(self.policy))
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        optim = self.optim
        raw = torch.optim.AdamW(
            parameters, lr=optim.lr, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay, fused=True
        )
        self.schedule = make_schedule(optim, raw, self.total)
        # without a gradient scaler accelerate's wrapper has nothing to do; after the schedule, which counts steps in it
        self.optimizer = raw if accelerator.scaler is None else accelerator.prepare(raw)
        self._raw_optimizer = raw
        self.ema = make_ema(self.policy, config.ema)
        if accelerator.device.type != "cpu" and self.train.nbytes <= _ON_DEVICE and not self.train.on_disk:
            self.train.to(accelerator.device)
        self._order = SampleOrder(len(self.train), config.batch_size, config.seed)
        self._step, self._saved, self._earlier_s = 0, 0, 0.0
        self._notes: dict[str, float] = {}
        self._pending: list[Tensor] = []
        if stored is not None:
            state = unpack(stored, self.policy, raw, self.schedule, self.ema)
            self._step, self._earlier_s, self._metrics = state["step"], state["time_s"], state["metrics"]
            self._pending = [torch.tensor(x, device=accelerator.device) for x in state["pending"]]
            self._saved = self._step
            if accelerator.scaler is not None and state["scaler"]:
                accelerator.scaler.load_state_dict(state["scaler"])
            if not same_rates(optim, state["total"], self.total, self._step):
                self._notes = {"resume/total_before": state["total"], "resume/total": self.total}
                if accelerator.is_main_process:
                    print(other_length(optim.schedule, self._step, state["total"], self.total), flush=True)

    # -- the loop ----------------------------------------------------------------------------------

    def _run(self, stored: Mapping[str, Any] | None) -> TrainResult:
        config, accelerator = self.config, self.accelerator
        self._prepare(stored)
        self._started = time.monotonic()
        stop = min(self.total, config.stop_after or self.total)
        main = accelerator.is_main_process
        with contextlib.ExitStack() as ending:  # closes all, also if one fails
            loggers: list[Logger] = []
            if main:
                for make in (lambda: JsonLines(self.run_dir / "metrics.jsonl", after=self._step), *self._factories):
                    loggers.append(make())
                    ending.callback(loggers[-1].close)
            bar = tqdm(
                total=self.total,
                initial=self._step,
                desc="train",
                unit="step",
                disable=not main,
                mininterval=0.2 if sys.stderr.isatty() else 5.0,
                dynamic_ncols=True,
            )
            ending.callback(bar.close)
            ready = not self.train.on_disk and self.train.device.type == accelerator.device.type
            ahead = ReadAhead(self._mine, self._read, stop, 0 if ready else config.read_ahead)
            ending.callback(ahead.close)
            self._loop(stop, ahead, loggers, bar)
        path = self.final if self._step >= self.total else self.last
        return TrainResult(self._step, self.total, self._stop.number, path, dict(self._metrics))

    def _loop(self, stop: int, ahead: ReadAhead[list[Batch]], loggers: Sequence[Logger], bar: Any) -> None:
        config, accelerator, main = self.config, self.accelerator, self.accelerator.is_main_process
        self.policy.train()
        begun = self._step
        if self._notes and begun < stop:
            self._log(loggers, self._notes)
        while self._step < stop and self._stop.number is None:
            self._step += 1
            self._pending.append(self._optimise(self._step, ahead(self._step)))
            bar.update()
            if self._due(config.log_every):
                self._log(loggers, self._train_numbers())
                bar.set_postfix(self._shown(), refresh=False)
            if self.valid is not None and self._due(config.valid_every):
                self._log(loggers, self._validate() if main else {})
                bar.set_postfix(self._shown(), refresh=False)
            if self.evaluator is not None and config.eval_every and self._due(config.eval_every):
                self._log(loggers, self._evaluate() if main else {})
            if config.save_every and self._step % config.save_every == 0 and self._step < stop:
                self._save(self.last, resume=True)
            if accelerator.num_processes > 1:  # all stop after the same step, whichever got the signal
                code = torch.tensor([self._stop.number or 0], device=accelerator.device)
                self._stop.number = int(accelerator.gather(code).max()) or None
        if self._step != self._saved:
            self._save(self.last, resume=True)
        if self._step >= self.total and (self._step != begun or not self.final.exists()):
            self._save(self.final, resume=False)

    def _mine(self, step: int) -> Tensor:
        """Windows of this process in a step."""
        return self._order(step)[self.accelerator.process_index :: self.accelerator.num_processes]

    def _read(self, windows: Tensor) -> list[Batch]:
        """The parts of a step, in memory that a GPU can copy from meanwhile."""
        pin = self.accelerator.device.type == "cuda" and self.train.device.type == "cpu"
        parts = [self.train.batch(part) for part in windows.chunk(self.config.accumulate)]
        return [pinned(part) for part in parts] if pin else parts

    def _optimise(self, step: int, parts: Sequence[Batch]) -> Tensor:
        """One optimiser step; the loss of this process's share, not yet read from the device."""
        accelerator, config = self.accelerator, self.config
        seed_everything(config.seed, step, accelerator.process_index, device=accelerator.device)
        losses = []
        for i, part in enumerate(parts):
            batch = on_device(part, accelerator.device)
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.module):
                loss = self.module(batch)
                accelerator.backward(loss)
            losses.append(loss.detach())
        if config.clip_norm is not None:
            accelerator.unscale_gradients(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.clip_norm, foreach=True)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step(self.policy.parameters())
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _due(self, every: int | None) -> bool:
        return every is not None and (self._step % every == 0 or self._step == self.total)

    def _train_numbers(self) -> dict[str, float]:
        mean = torch.stack(self._pending).mean()
        self._pending = []
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(mean, "mean")
        value = float(mean)
        if not value < float("inf"):
            raise TrainError(
                f"the training loss is {value} at step {self._step}; lower optim.lr or set trainer.clip_norm. "
                f"{self.last} holds the last good state, if any"
            )
        more = {f"train/{name}": float(number) for name, number in self.policy.metrics.items()}  # of the last step
        return {"train/loss": value, **more, "lr": self.schedule.get_last_lr()[0], "time_s": round(self._elapsed(), 3)}

    def _elapsed(self) -> float:
        return self._earlier_s + time.monotonic() - self._started

    def _log(self, loggers: Sequence[Logger], values: Mapping[str, float]) -> None:
        self._metrics.update({k: v for k, v in values.items() if k != "time_s"})
        for logger in loggers:
            logger.log(self._step, values)
        self.accelerator.wait_for_everyone()

    def _shown(self) -> dict[str, str]:
        names = {"loss": "train/loss", "valid": "valid/loss"}
        return {short: f"{self._metrics[name]:.4f}" for short, name in names.items() if name in self._metrics}

    # -- judging and saving --------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss of the EMA weights on always the same windows with always the same noise and diffusion steps."""
        assert self.valid is not None
        device, pieces = self.accelerator.device, validation_draws(self.valid, self.config.batch_size)
        seed_everything("validation", device=device)
        total = 0.0
        with averaged(self.policy, self.ema) as policy:
            for piece in pieces:
                total += float(policy.loss(on_device(self.valid.batch(piece), device))) * len(piece)
        return {"valid/loss": total / sum(map(len, pieces))}

    def _evaluate(self) -> dict[str, float]:
        assert self.evaluator is not None
        with averaged(self.policy, self.ema) as policy:
            found = self.evaluator(policy, self._step)
        return {f"eval/{name}": float(value) for name, value in found.items()}

    def _save(self, path: Path, resume: bool) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            position = {
                "step": self._step,
                "total": self.total,
                "time_s": self._elapsed(),
                "metrics": self._metrics,
                "pending": [float(x) for x in self._pending],
                "scaler": None if scaler is None else scaler.state_dict(),
                "identity": self._identity(),
            }
            state = pack(self.policy, self._raw_optimizer, self.schedule, self.ema, position) if resume else None
            with averaged(self.policy, self.ema) as policy:
                save_checkpoint(
                    path,
                    policy,
                    self.policy_config,
                    metrics=self._metrics,
                    data=self.data,
                    extra={**self.extra, "step": self._step},
                    resume=state,
                )
        if resume:
            self._saved = self._step
        self.accelerator.wait_for_everyone()


class _Loss(nn.Module):
    """Makes the loss the forward pass, which is what data-parallel wrappers and autocast hook into."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch) -> Tensor:
        return self.policy.loss(batch)
