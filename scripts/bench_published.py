"""Memory and time of a training step of the published configurations on this machine, each in a process of its own.

    python scripts/bench_published.py
    python scripts/bench_published.py experiments=[equidiff_voxel_abs] batch=8 record=published.json

A step is what training does: the loss of a batch of random windows, its gradient, AdamW, the moving average of the
weights. Time is processor time with one thread, so other programs do not count; memory is the process's peak resident
memory, that of the imports included and named beside it. A call that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app
from equidiff.memory import process_memory


def main(config: DictConfig) -> None:
    """Measure and print."""
    if config.only:
        print(json.dumps(measured(config.only, config)))
        return
    from equidiff.demo.machine import cpu, versions
    from equidiff.results import write_json

    words = [word for word in sys.argv[1:] if not word.startswith("record=")]
    about = {
        "date": str(date.today()),
        "command": shlex.join(["python", "scripts/bench_published.py", *words]),
        "cpu": cpu(),
        "versions": versions(),
        "batch": config.batch,
    }
    rows = _begun(config.record, about)
    for name in config.experiments:
        if name in rows:
            print(f"{name}: measured before")
            continue
        print(f"{name} ...", flush=True)
        call = [sys.executable, str(Path(__file__).resolve()), *words, f"only={name}"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed (exit status {done.returncode}):\n{done.stderr}")
        rows[name] = row = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"  {row['parameters']:>11,} parameters, {row['step_s']:.1f} s a step of {config.batch}, peak "
            f"{row['peak_mb']} MB ({row['imports_mb']} MB of it imports), built in {row['build_s']} s",
            flush=True,
        )
        if config.record:  # after each, so that an interrupted call goes on there
            write_json(config.record, {**about, "experiments": rows})


def _begun(record: str | None, about: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call of the same command has recorded today."""
    path = Path(record) if record else None
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text())
    same = all(found.get(key) == value for key, value in about.items())
    return dict(found["experiments"]) if same else {}


def measured(name: str, config: DictConfig) -> dict[str, Any]:
    """Figures of one experiment, measured in this process."""
    import torch

    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.equivariance.scenes import random_observation
    from equidiff.testing import random_actions
    from equidiff.train.ema import make_ema
    from equidiff.train.settings import OptimConfig, TrainerConfig, from_node

    torch.set_num_threads(1)
    imports = round(process_memory()["VmHWM"] / 1e6)
    GlobalHydra.instance().clear()  # the script itself is a Hydra app
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = [f"experiment={name}", f"task={config.task}", "data.path=none", *config.overrides]
        chosen = compose("train", words)
    tree: dict[str, Any] = OmegaConf.to_container(chosen, resolve=True)  # type: ignore[assignment]
    spec = make_spec(chosen)
    torch.manual_seed(0)
    begun = time.process_time()
    policy = make_policy(policy_tree(chosen), spec)
    built = time.process_time() - begun
    actions = random_actions(spec, config.batch, torch.Generator().manual_seed(0))
    batch = {"obs": random_observation(spec, config.batch), "action": actions}
    policy.fit([batch])
    optim = from_node(OptimConfig, tree["optim"], "optim")
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    ema = make_ema(policy, from_node(TrainerConfig, tree["trainer"], "trainer").ema)

    def step() -> float:
        begun = time.process_time()
        policy.train().loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.step(policy.parameters())
        return time.process_time() - begun

    step()
    return {
        "parameters": sum(p.numel() for p in policy.parameters()),
        "step_s": round(min(step() for _ in range(config.repeats)), 2),
        "peak_mb": round(process_memory()["VmHWM"] / 1e6),
        "imports_mb": imports,
        "build_s": round(built, 1),
    }


if __name__ == "__main__":
    run_app(main, "bench_published", __doc__)
