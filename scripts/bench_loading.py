"""Windows per second from the cache and directly from HDF5, and the memory each takes, on a file made for it.

    python scripts/bench_loading.py
    python scripts/bench_loading.py n=1000 folder=/data/bench record=docs/measurements/loading.json
    python scripts/bench_loading.py n=1000 folder=/data/bench run=100 record=docs/measurements/loading_run.json

The file has pictures of two cameras, compressed as scripts/prepare_data.py does it, of random boxes on a noisy ground.
It is made in `folder` (a temporary folder by default), and used again if it is there. Every way of reading is measured
in a process of its own, with random batches: "cache" as training reads it, "mapped" from the same files through a
memory map, "hdf5" from the file itself. Memory: peak resident memory, and anonymous memory, which is what cannot be
given back; both above what the process had after its imports. Page cache of the system is not the process's memory;
"cold" measures the cache again after the pages of its files were dropped (posix_fadvise); "memory", up to 2 GB, reads
everything first. For comparison, a training step of the experiment `trained` is timed on random windows, on the GPU if
there is one: what a loader must deliver.

run=STEPS measures instead a whole run of scripts/train.py on the file, in a process of its own: reading, fitting the
normaliser, so many optimiser steps with batches read ahead, two validations, saving. Its peak resident memory, with
everything imported, must stay under 2 GB; the exit status is 1 if it does not.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app

LIMIT_MB = 2000  # of a whole run on 1000 demonstrations


def main(config: DictConfig) -> int:
    """Measure and print; the exit status."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from equidiff.data.bench import consumption, measure, sentence, write_bench_file
    from equidiff.report.measured_data import markdown_loading_run
    from equidiff.results import write_json

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    training: dict[str, Any] = {}
    if config.trained and not config.run:
        from equidiff.compose import make_policy, make_spec, policy_tree

        GlobalHydra.instance().clear()  # this script's own
        words = [f"experiment={config.trained}", "task=stack", "data.path=unused"]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            chosen = compose("train", words)
        policy = make_policy(policy_tree(chosen), make_spec(chosen))
        training = {"experiment": config.trained, **consumption(policy, config.train_batch)}
    with tempfile.TemporaryDirectory(prefix="bench_loading_") as made:
        folder = Path(config.folder or made)
        path = folder / f"bench_{config.n}x{config.steps}x{config.size}.hdf5"
        if not path.exists():
            write_bench_file(path, n=config.n, steps=config.steps, size=config.size)
        if config.run:
            found = whole_run(path, config.run, config.size)
        else:
            found = measure(path, size=config.size, batch=config.batch, seconds=config.seconds, obs=config.obs)
    words = [word for word in sys.argv[1:] if not word.startswith(("folder=", "record="))]
    found["settings"] = {name: tree[name] for name in ("n", "steps", "size", "batch", "obs", "run")}
    found["command"] = shlex.join(["python", "scripts/bench_loading.py", *words])
    print(markdown_loading_run(found) if config.run else sentence(found))
    if training:
        found["training"] = training
        print(f"training takes {training['windows_per_s']} windows/s ({config.trained}, {training['device']})")
    if config.record:
        print(f"recorded: {write_json(config.record, found)}")
    return int(bool(config.run) and found["peak_mb"] > LIMIT_MB)


def whole_run(path: Path, steps: int, size: int) -> dict[str, Any]:
    """Memory and time of a training of so many steps on the file; its policy sees pictures by small networks."""
    from equidiff.data.bench import peak_memory

    script = CONFIGS.parent / "scripts" / "train.py"
    with tempfile.TemporaryDirectory(prefix="bench_run_") as folder:
        words = [
            "experiment=image_equivariant",
            "obs=image",
            f"obs.fields.size={size}",
            "task=stack",
            "data.cache=disk",
        ]
        words += ["encoder.encoders.scene.key=agentview_image", "encoder.encoders.scene.pool=4"]
        words += ["data.val_ratio=0.1", f"trainer.max_steps={steps}", f"trainer.valid_every={max(1, steps // 2)}"]
        command = [sys.executable, str(script), f"data.path={path.resolve()}", f"run_dir={folder}/run", *words]
        found = peak_memory(command, Path(folder))
        metrics = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    validations = sum("valid/loss" in line for line in metrics)
    pictures = 2 * size * size * 3
    return {**found, "limit_mb": LIMIT_MB, "run": words, "validations": validations, "picture_bytes_a_step": pictures}


if __name__ == "__main__":
    run_app(main, "bench_loading", __doc__)
