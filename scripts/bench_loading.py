"""Windows per second from the cache and directly from HDF5, and the memory each takes, on a file made for it.

    python scripts/bench_loading.py
    python scripts/bench_loading.py n=1000 folder=/data/bench record=docs/measurements/loading.json

The file has pictures of two cameras, compressed as scripts/prepare_data.py does it, of random boxes on a noisy ground.
It is made in `folder` (a temporary folder by default), and used again if it is there. Every way of reading is measured
in a process of its own, with random batches: "cache" as training reads it, "mapped" from the same files through a
memory map, "hdf5" from the file itself. Memory: peak resident memory, and anonymous memory, which is what cannot be
given back; both above what the process had after its imports. Page cache of the system is not the process's memory;
"cold" measures the cache again after the pages of its files were dropped (posix_fadvise); "memory", up to 2 GB, reads
everything first. For comparison, a training step of the experiment `trained` is timed on random windows, on the GPU if
there is one: what a loader must deliver.
"""

from __future__ import annotations

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


def main(config: DictConfig) -> None:
    """Measure and print."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from equidiff.data.bench import consumption, measure, sentence, write_bench_file
    from equidiff.results import write_json

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    training: dict[str, Any] = {}
    if config.trained:
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
        found = measure(path, size=config.size, batch=config.batch, seconds=config.seconds, obs=config.obs)
    words = [word for word in sys.argv[1:] if not word.startswith(("folder=", "record="))]
    found["settings"] = {name: tree[name] for name in ("n", "steps", "size", "batch", "obs")}
    found["command"] = shlex.join(["python", "scripts/bench_loading.py", *words])
    print(sentence(found))
    if training:
        found["training"] = training
        print(f"training takes {training['windows_per_s']} windows/s ({config.trained}, {training['device']})")
    if config.record:
        print(f"recorded: {write_json(config.record, found)}")


if __name__ == "__main__":
    run_app(main, "bench_loading", __doc__)
