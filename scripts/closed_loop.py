"""How often a policy succeeds through the loop of real_robot on the simulated arm, beside the plain rollout.

    python scripts/closed_loop.py checkpoint=outputs/demo/lift/equivariant/seed0/checkpoints/final
    python scripts/closed_loop.py checkpoint=... n=20 real=20 record=docs/measurements/closed_loop.json
    python scripts/closed_loop.py checkpoint=... n=20 real=20 stitches=[]                              # real time alone

The plain rollout computes while the simulator waits. The loop commands at 100 Hz through the safety gate while the
policy computes; its answers come after each of `delays`, exactly, because simulated time passes only as the loop waits.
`real` episodes are run in real time as well, with each of `real_delays`: no answer is used sooner than that after it
was asked for, nor sooner than this computer has it. Same seeds everywhere, success as the task defines it, at any
time of an episode.
"""

from __future__ import annotations

import platform
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    """Measure and print."""
    print("loading ...", flush=True)
    from equidiff.checkpoint import inspect_checkpoint
    from equidiff.results import write_json
    from equidiff.sim.evaluate import evaluate_checkpoint
    from real_robot.report.measured import markdown_closed_loop

    task = inspect_checkpoint(config.checkpoint)["task"]
    longest = task["horizon"] / task["control_hz"]
    plain, _ = evaluate_checkpoint(config.checkpoint, n=config.n, seed=config.seed, workers=1, stop_on_success=True)
    record: dict[str, Any] = {
        "task": task["name"],
        "checkpoint": str(config.checkpoint),
        "command": f"python scripts/closed_loop.py checkpoint={config.checkpoint} n={config.n} real={config.real}",
        "date": date.today().isoformat(),
        "cpu": platform.processor() or platform.machine(),
        "plain": {"solved": plain.at_any.successes, "episodes": config.n},
        "rows": [],
    }
    for stitch in config.stitches:
        for delay in config.delays:
            row = measure(config, config.n, longest, {"virtual": True, "delay": delay, "stitch": stitch})
            record["rows"].append({"delay": delay, "stitch": stitch, "time": "exact", **row})
            print(f"{stitch}, {1000 * delay:.0f} ms: {row['solved']} of {config.n} {row['faults']}", flush=True)
    for delay in config.real_delays if config.real else ():
        row = measure(config, config.real, longest, {"virtual": False, "delay": delay, "stitch": "real_time"})
        record["rows"].append({"delay": delay or None, "stitch": "real_time", "time": "real", **row})
        print(f"real time, {1000 * delay:.0f} ms: {row['solved']} of {config.real} {row['faults']}", flush=True)
    print(markdown_closed_loop(record))
    if config.record:
        write_json(Path(config.record), record)
        print(f"recorded: {config.record}")


def measure(config: DictConfig, n: int, longest: float, how: dict[str, Any]) -> dict[str, Any]:
    """n episodes of the loop: {"solved", "episodes", "seconds": mean of the solved, "faults": {name: count}, ...}."""
    import json

    import numpy as np
    from omegaconf import OmegaConf
    from tqdm import tqdm

    from real_robot.session import Session

    changed: Any = OmegaConf.merge(config, {
        "robot": {"virtual": how["virtual"]},
        "policy": {"delay": how["delay"]},
        "schedule": {"stitch": how["stitch"]},
        "run": {"longest": longest},
    })  # fmt: skip
    faults: dict[str, int] = {}
    seconds, solved, delays, jumps = [], 0, [], []
    label = f"{how['stitch']} {how['delay']:g} s" + ("" if how["virtual"] else " in real time")
    folder = Path(config.run_dir) / label.replace(" ", "_")
    with ExitStack() as stack:
        session = Session(changed, stack, say=lambda text: None)
        for number in tqdm(range(n), desc=label):
            where = folder / f"episode{number:03d}"
            (where / "run.jsonl").unlink(missing_ok=True)
            result = session.episode(number, where)
            solved += result.success is True
            seconds += [result.seconds] if result.success else []
            report = json.loads((where / "report.json").read_text())
            jumps += jumps_of(where / "run.jsonl")
            delays.append(report["latency_s"].get("observation to plan", {}).get("p50"))
            for fault in result.faults:
                faults[fault.kind.label] = faults.get(fault.kind.label, 0) + 1
    known = [delay for delay in delays if delay is not None]
    return {
        "solved": solved,
        "episodes": n,
        "seconds": round(float(np.mean(seconds)), 2) if seconds else None,
        "observation_to_plan_s": round(float(np.median(known)), 3) if known else None,
        "jump_mm": round(1000 * float(np.median(jumps)), 1) if jumps else None,
        "faults": faults,
    }


def jumps_of(record: Path) -> list[float]:
    """Metres by which the target moved from the tick before a new plan to the one with it, for each plan."""
    import numpy as np

    from real_robot.records import read_records

    jumps, last, new = [], None, False
    for row in read_records(record):
        if row["kind"] == "plan":
            new = not row["dropped"]
        elif row["kind"] == "tick":
            here = None if row["target"] is None else np.array(row["target"][:3])
            if new and here is not None and last is not None:
                jumps.append(float(np.linalg.norm(here - last)))
            last, new = here, False
    return jumps


if __name__ == "__main__":
    run_app(main, "closed_loop", __doc__)
