"""Train a policy on demonstrations.

    python scripts/train.py data.path=demos.hdf5 task=lift data.n_demo=5
    python scripts/train.py data.path=demos.hdf5 experiment=state_plain run_dir=outputs/plain
    python scripts/train.py data.path=demos.hdf5 run_dir=outputs/run resume=true      # go on after a stop or a kill
    python scripts/train.py data.path=demos.hdf5 trainer.max_steps=20000 logger=wandb
    accelerate launch --num_processes 4 scripts/train.py data.path=demos.hdf5 run_dir=outputs/run       # 4 GPUs
    torchrun --standalone --nproc_per_node 2 scripts/train.py data.path=demos.hdf5 run_dir=outputs/run  # 2 processors

Writes to run_dir (default outputs/train/<date>_<time>):

    config.yaml          every setting
    metrics.jsonl        {"step": n, "train/loss": x, "lr": x, "time_s": x}, {"step": n, "valid/loss": x}, ...
    checkpoints/last     policy and the state to resume from; also written on Ctrl-C and on SIGTERM
    checkpoints/final    policy of the finished run
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> int:
    """Train as `config` says; the exit code: 0, or 128 + the signal that stopped the run."""
    print("loading ...", flush=True)
    import torch  # after the config is composed, so that mistakes on the command line are told at once
    from accelerate import PartialState

    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.data import WindowDataset
    from equidiff.data.source import load_training_data
    from equidiff.encoders.pretrained import load_pretrained
    from equidiff.train import OptimConfig, Trainer, TrainerConfig
    from equidiff.train.settings import TrainError, from_node

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    trainer_config = from_node(TrainerConfig, tree["trainer"], "trainer")
    optim_config = from_node(OptimConfig, tree["optim"], "optim")
    if config.resume and config.run_dir is None:
        raise TrainError("resume=true needs the run to go on with: run_dir=...")
    if config.run_dir is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainError("several processes need one place to write to: run_dir=...")
    run_dir = Path(config.run_dir or f"outputs/train/{datetime.now():%Y-%m-%d_%H-%M-%S}")
    task, control = tree["task"], tree["action"]["control"]

    spec = make_spec(config)
    policy_config = policy_tree(config)
    torch.manual_seed(config.seed)
    policy = make_policy(policy_config, spec)
    load_pretrained(policy)
    with PartialState(cpu=trainer_config.device == "cpu").main_process_first():  # only one prepares a file
        source = load_training_data(tree["data"], spec, control, task, run_dir.parent / "prepared", seed=config.seed)
    train = WindowDataset.of(source.train, spec, tree["data"]["pad"])
    valid = WindowDataset.of(source.valid, spec, tree["data"]["pad"]) if source.valid else None

    evaluator = None
    if trainer_config.eval_every:
        from equidiff.sim.evaluate import RolloutEvaluator

        evaluator = RolloutEvaluator(
            task, control, **tree["evaluation"], perception=source.about["perception"], spec=spec
        )
    loggers = []
    if tree["logger"]["wandb"] is not None:
        from equidiff.train.loggers import Wandb

        loggers.append(functools.partial(Wandb, run_dir, tree, **tree["logger"]["wandb"]))
    trainer = Trainer(
        policy,
        policy_config,
        train,
        run_dir,
        trainer_config,
        optim_config,
        valid=valid,
        evaluator=evaluator,
        loggers=loggers,
        data={**{k: v for k, v in source.about.items() if k != "perception"}, "pad": tree["data"]["pad"]},
        extra={
            "task": task,
            "control": control,
            "perception": source.about["perception"],
            "command": shlex.join(["python", *sys.argv]),
        },
        settings=tree,
    )
    try:
        result = trainer.run(resume=config.resume)
    finally:
        if evaluator is not None:
            evaluator.close()
    if trainer.accelerator.is_main_process:
        print(result.sentence(), flush=True)
    return 0 if result.signal is None else 128 + result.signal


if __name__ == "__main__":
    run_app(main, "train", __doc__)
