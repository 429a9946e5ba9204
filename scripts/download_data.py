"""Fetch the published demonstrations of a task from the Hugging Face hub.

    python scripts/download_data.py task=stack_d1
    python scripts/download_data.py task=threading_d2 out=/data/threading_d2.hdf5
    python scripts/download_data.py task=square_d2 collection=source   # ten demonstrations by people
    HF_ENDPOINT=https://a.mirror python scripts/download_data.py task=stack_d1

Files of MimicGen (licence CC BY-NC-SA 4.0), 1 to 13 GB each with pictures. An interrupted call goes on where it
stopped; the file gets its name when its checksum is that of the hub, and is not fetched again after that. An existing
file is never replaced. Needs the extra `train`, no simulator.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    """Fetch, then say what is in the file."""
    from equidiff.config import ConfigError
    from equidiff.download import HubFile, endpoint_in_use, fetch
    from equidiff.published_data import published_path

    task = OmegaConf.to_container(config.task, resolve=True) if "task" in config else None
    if not isinstance(task, dict):
        raise ConfigError("task is not set; say whose demonstrations: task=stack_d1 (--help lists all)")
    node = {str(key): value for key, value in task.items()}
    file = HubFile(config.repo, published_path(node, config.collection), config.revision)
    suffix = "_source" if config.collection == "source" else ""
    out = Path(config.out or f"outputs/data/{config.task.name}{suffix}.hdf5")
    print(f"{file.path} of {file.repo} at {endpoint_in_use()}", flush=True)
    got = fetch(file, out, check=config.check)
    if got.received or got.kept:
        kept = f", {got.kept / 1e6:.1f} MB were there" if got.kept else ""
        print(f"{got.path}: fetched {got.received / 1e6:.1f} MB{kept}, sha256 {got.sha256[:16]}..., {got.commit[:8]}")
    else:
        print(f"{got.path}: there already, verified, {got.commit[:8]}")
    from equidiff.data.summary import summary  # with torch, seconds: not before there is something to read

    print(summary(got.path, node))


if __name__ == "__main__":
    run_app(main, "download", __doc__)
