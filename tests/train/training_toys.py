"""A policy small enough to train in a test, and the configs it is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from equidiff.compose import make_policy
from equidiff.data import Episode, WindowDataset
from equidiff.fields import Position, Scalars
from equidiff.spec import Horizon, Space, Spec
from equidiff.train import OptimConfig, Trainer, TrainerConfig

SPEC = Spec(
    observation=Space((Position("at"), Scalars("grip", size=1))),
    action=Space((Position("to"), Scalars("close"))),
    horizon=Horizon(obs=1, predict=4, execute=2),
)

TREE: dict[str, Any] = {
    "_target_": "equidiff.policy.DiffusionPolicy",
    "symmetry": {"_target_": "equidiff.symmetry.Symmetry", "order": 4},
    "encoder": {
        "_target_": "equidiff.encoders.ObservationEncoder",
        "_partial_": True,
        "channels": 4,
        "encoders": {"state": {"_target_": "equidiff.encoders.StateEncoder", "_partial_": True, "channels": 4}},
    },
    "denoiser": {
        "_target_": "equidiff.denoisers.GroupMLP",
        "_partial_": True,
        "channels": 4,
        "blocks": 1,
        "dropout": 0.1,  # so that training draws from the generators in more than one place
    },
    "diffusion": {
        "_target_": "equidiff.diffusion.Diffusion",
        "inference_steps": 2,
        "scheduler": {
            "_target_": "diffusers.schedulers.DDIMScheduler",
            "num_train_timesteps": 10,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "sample",
            "clip_sample": False,
        },
    },
    "normalizer": {"_target_": "equidiff.normalizer.Normalizer", "_partial_": True},
    "augment": {"_target_": "equidiff.augment.RandomRotation"},
}

OPTIM = OptimConfig(warmup_steps=2, lr=1e-2)


def windows(n: int = 2, seed: int = 0) -> WindowDataset:
    """n demonstrations of ten steps that go where the first observation lies."""
    rng = np.random.default_rng(seed)
    episodes = []
    for i in range(n):
        at = rng.normal(size=(10, 3)).astype(np.float32)
        grip = rng.uniform(size=(10, 1)).astype(np.float32)
        episodes.append(Episode(f"demo_{i}", {"at": at, "grip": grip}, np.concatenate([at * 0.5, grip], 1)))
    return WindowDataset.of(episodes, SPEC)


def settings(**changed: Any) -> TrainerConfig:
    """Four steps, nothing in between."""
    plain: dict[str, Any] = {"max_steps": 4, "batch_size": 8, "log_every": 1, "valid_every": 2, "save_every": None}
    return TrainerConfig(**{**plain, **changed})


def trainer(run_dir: Path, config: TrainerConfig | None = None, tree: Mapping[str, Any] = TREE, **more: Any) -> Trainer:
    """A trainer of a fresh policy, always initialised alike."""
    config = config or settings()
    torch.manual_seed(0)
    policy = make_policy(OmegaConf.to_container(OmegaConf.create(dict(tree))), SPEC)  # type: ignore[arg-type]
    optim = more.pop("optim", OPTIM)
    return Trainer(policy, tree, more.pop("train", windows()), run_dir, config, optim, **more)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by file and name."""
    return {
        f"{file.relative_to(checkpoint)}:{name}": value
        for file in sorted(checkpoint.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def assert_same(first: Path, second: Path) -> None:
    """Two checkpoints hold the same tensors, bit for bit."""
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert a
    differing = [name for name in a if not torch.equal(a[name], b[name])]
    assert not differing, differing


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s"} for line in lines]
