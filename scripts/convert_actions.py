"""Convert the actions of demonstrations from relative to absolute control, or back: a converted copy.

    python scripts/convert_actions.py data=stack_d1.hdf5 control=absolute
    python scripts/convert_actions.py data=stack_d1.hdf5 control=relative out=again.hdf5

absolute: `actions_abs` of the stored `actions` (relative OSC_POSE). relative: `actions` of the stored absolute ones;
steps whose target is further than one action reaches are cut, and their share is reported. The poses at which the
actions start are those of the stored states, so the file must have states. The original is only read.
scripts/replay_actions.py shows whether the demonstrations still succeed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app


def main(config: DictConfig) -> None:
    """Convert as `config` says."""
    source = Path(config.data.path)
    print(f"converting {source} ...", flush=True)
    from equidiff.sim.convert_file import convert_actions
    from equidiff.sim.prepare_settings import find_task

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    task = tree.get("task") or find_task(source, CONFIGS)
    out = Path(config.out) if config.out else source.with_name(f"{source.stem}_{config.control}.hdf5")
    if out.exists():
        print(f"{out} exists already; nothing was done. Remove it, or choose another out=")
        return
    done = convert_actions(source, task, out, config.control)
    cut = f"; {done.clipped} of them cut ({done.clipped_share:.2%})" if config.control == "relative" else ""
    print(f"{done.path}: {done.demonstrations} demonstrations, {done.steps} steps{cut}")


if __name__ == "__main__":
    run_app(main, "convert_actions", __doc__)
