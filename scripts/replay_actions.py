"""Execute stored demonstrations again, open loop: the share that still succeeds, and how far the gripper is off.

    python scripts/replay_actions.py data=demos.hdf5
    python scripts/replay_actions.py data=stack_d1.hdf5 control=absolute n=50 workers=2
    python scripts/replay_actions.py data=stack_d1.hdf5 n=50 record=docs/measurements/replay.json

Each demonstration starts in its first stored state. relative and absolute: the stored actions, or converted ones where
the file has only the other kind; round_trip: relative actions made of absolute ones made of the relative ones. Success
is that of the last state, of the demonstrations that were solved in their last stored one. The error is the distance
from the recorded gripper over all steps. `record` adds the figures to a JSON file, under the task's name.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app


def main(config: DictConfig) -> None:
    """Replay as `config` says."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    source = Path(config.data.path)
    print(f"replaying {source} ...", flush=True)
    from equidiff.sim.prepare_settings import find_task
    from equidiff.sim.replay import record, replay, summary, table

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    task = tree.get("task") or find_task(source, CONFIGS)
    controls = [tree["control"]] if isinstance(tree["control"], str) else list(tree["control"])
    replays = replay(source, task, controls, n=config.n, workers=config.workers)
    found = {control: summary([r for r in replays if r.control == control]) for control in controls}
    print(table({str(task["name"]): found}))
    if config.record:
        words = [f"data={source.name}" if word.startswith("data") else word for word in sys.argv[1:]]
        command = shlex.join(["python", "scripts/replay_actions.py", *words])
        print(f"recorded: {record(config.record, str(task['name']), source.name, found, command)}")


if __name__ == "__main__":
    run_app(main, "replay_actions", __doc__)
