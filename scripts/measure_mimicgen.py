"""How often MimicGen succeeds, how fast it is, and whether what it made replays.

    python scripts/measure_mimicgen.py
    python scripts/measure_mimicgen.py tasks='[[stack_d1,100]]' workers=8 record=docs/measurements/mimicgen.json

Generates demonstrations from scripted sources. Then the actions of the first ones are executed again from their first
state: relative ones by the fast physics step, the same by robosuite's own step, and absolute ones by the fast step.
Success counts in the final state. The rates have exact 95 % intervals over attempts. A killed call goes on if repeated;
other tasks of an existing record stay in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from equidiff.hydra_app import CONFIGS, run_app

if TYPE_CHECKING:
    from equidiff.sim.task import Task

# (control, physics, actions of the file)
REPLAYS = (
    ("relative", "fast", "actions"),
    ("relative", "robosuite", "actions"),
    ("absolute", "fast", "actions_abs"),
)


def main(config: DictConfig) -> None:
    """Measure and print."""
    print("starting the simulator ...", flush=True)
    from equidiff.results import write_json
    from equidiff.sim.mimicgen_demos import generate_mimicgen
    from equidiff.sim.mimicgen_source import expert_source, open_source
    from equidiff.sim.mimicgen_task import MimicGenTask
    from equidiff.statistics import Proportion

    rows: dict[str, Any] = recorded(config.record)
    for name, n in config.tasks:
        task, out = load_task(name), Path(config.out)
        first = load_task(MimicGenTask.of(task).source_task)
        sources = expert_source(first, config.n_source, out, workers=config.workers)
        source = open_source(sources, task, config.n_source)
        path = out / f"{name}.hdf5"
        generate_mimicgen(task, source, n, path, seed=config.seed, workers=config.workers)
        facts = generation_facts(path)
        rate = Proportion(facts["successes"], facts["attempts"])
        rows[name] = {
            "date": str(date.today()),
            "source_demonstrations": len(source.demos),
            "successes": rate.successes,
            "attempts": rate.trials,
            "interval": list(rate.interval()),
            "last_run": facts["last_run"],
            "replays": {f"{kind[0]}, {kind[1]} step": replay(path, task, config.replays, *kind) for kind in REPLAYS},
        }
        print(f"{name:<16} {rate}  {facts['last_run']['demos_per_minute']} demos a minute", flush=True)
        for kind, found in rows[name]["replays"].items():
            print(f"    replayed, {kind}: {found['successes']} of {found['demonstrations']}", flush=True)
        if config.record:  # after each task, so that a kill loses only the one under way
            about = {"date": str(date.today()), "seed": config.seed, "command": "python scripts/measure_mimicgen.py"}
            print(f"recorded: {write_json(config.record, {**about, 'tasks': rows})}", flush=True)


def recorded(path: str | None) -> dict[str, Any]:
    """Rows of the tasks that a record has already; those measured again replace theirs."""
    if path is None or not Path(path).exists():
        return {}
    rows: dict[str, Any] = json.loads(Path(path).read_text())["tasks"]
    return rows


def load_task(name: str) -> Task:
    from equidiff.sim.task import Task

    return Task.from_config(yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text()))


def generation_facts(path: Path) -> Mapping[str, Any]:
    """What the file notes about its generation."""
    import h5py

    with h5py.File(path, "r") as file:
        facts: Mapping[str, Any] = json.loads(file["data"].attrs["generation"])
    return facts


def replay(path: Path, task: Task, most: int, control: str, physics: str, key: str) -> dict[str, float]:
    """Execute the stored actions from the first stored state: how many end solved, how far from the stored path."""
    import h5py
    import numpy as np
    from tqdm import tqdm

    from equidiff.sim.env import make_env

    solved, errors = 0, []
    env = make_env(task, control, physics)
    try:
        with h5py.File(path, "r") as file:
            names = sorted(file["data"], key=lambda name: int(name.rpartition("_")[2]))[:most]
            for name in tqdm(names, desc=f"replay, {control}, {physics} step", unit="demo"):
                demo = file[f"data/{name}"]
                env.reset(seed=int(demo.attrs["seed"]))  # the scene of the demonstration
                env.set_state(demo["states"][0])
                positions = []
                for action in demo[key]:
                    positions.append(env.eef[0])
                    env.step(action)
                solved += env.success
                errors.append(np.abs(np.stack(positions) - demo["obs/robot0_eef_pos"][()]).max())
    finally:
        env.close()
    return {
        "demonstrations": len(errors),
        "successes": solved,
        "largest_position_error_m": float(np.max(errors)),
        "median_position_error_m": float(np.median(errors)),
    }


if __name__ == "__main__":
    run_app(main, "measure_mimicgen", __doc__)
