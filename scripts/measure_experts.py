"""Success rate of the scripted experts: episodes solved in their final state, with exact intervals.

    python scripts/measure_experts.py
    python scripts/measure_experts.py tasks='[lift,stack_d1]' n=200 record=docs/measurements/experts.json

Tasks whose simulator is missing are named and left out.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from equidiff.hydra_app import CONFIGS, run_app


def main(config: DictConfig) -> None:
    """Measure and print."""
    print("starting the simulator ...", flush=True)
    from tqdm import tqdm

    from equidiff.results import write_json
    from equidiff.sim.backend import SimulatorError
    from equidiff.sim.demos import episodes
    from equidiff.sim.task import Task
    from equidiff.statistics import Proportion

    rows: dict[str, Any] = {}
    for name in config.tasks:
        task = Task.from_config(yaml.safe_load(Path(CONFIGS / "task" / f"{name}.yaml").read_text()))
        solved, lengths = [], []
        try:
            with episodes(task, config.seed, config.workers) as demonstrations:
                for demo, _ in zip(demonstrations, tqdm(range(config.n), desc=name, unit="episode"), strict=False):
                    solved.append(demo.success)
                    lengths.append(len(demo.actions))
        except SimulatorError as error:
            print(f"{name}: left out; {error}")
            continue
        rate = Proportion(sum(solved), len(solved))
        rows[name] = {
            "successes": rate.successes,
            "episodes": rate.trials,
            "interval": list(rate.interval()),
            "mean_steps": round(sum(lengths) / len(lengths), 1),
        }
        print(f"{name:<16} {rate}  {rows[name]['mean_steps']} control steps", flush=True)
    if config.record:
        about = {"date": str(date.today()), "seed": config.seed, "command": "python scripts/measure_experts.py"}
        print(f"recorded: {write_json(config.record, {**about, 'experts': rows})}")


if __name__ == "__main__":
    run_app(main, "measure_experts", __doc__)
