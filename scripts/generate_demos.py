"""Make demonstrations of a task, with its scripted expert or with the NVlabs MimicGen.

    python scripts/generate_demos.py task=lift n=100
    python scripts/generate_demos.py task=stack n=200 out=outputs/demos/stack.hdf5 workers=8
    python scripts/generate_demos.py task=square n=50 task.placement.peg.radius='[0,0.1]'
    python scripts/generate_demos.py task=stack_d1 method=mimicgen n=200 workers=4
    python scripts/generate_demos.py task=coffee_d2 method=mimicgen source=outputs/data/coffee_d2_source.hdf5 n=1000

Writes the robomimic HDF5 layout. Only episodes that are solved in their final state are kept. A call
that was interrupted goes on where it stopped. Keys: task (a file of configs/task), n (demonstrations),
out (default outputs/demos/<task>_<n>.hdf5), seed (first seed), workers, valid_fraction (share that goes into
the mask "valid"). The result does not depend on workers.

MimicGen needs source demonstrations: source=FILE (scripts/download_data.py ... collection=source fetches the published
ones) or, for tasks with a scripted expert, source=null, which first makes n_source of the task's D0 variant.
docs/mimicgen.md says how to install it and how fast it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from omegaconf import DictConfig, OmegaConf

from equidiff.config import ConfigError, did_you_mean
from equidiff.hydra_app import CONFIGS, run_app

if TYPE_CHECKING:
    from equidiff.sim.demos import Report
    from equidiff.sim.task import Task

METHODS = ("expert", "mimicgen")


def main(config: DictConfig) -> None:
    if config.method not in METHODS:
        raise ConfigError(
            f"method: expected expert or mimicgen, got {config.method!r}{did_you_mean(str(config.method), METHODS)}"
        )
    print(f"starting the simulator for {config.task.name} ...", flush=True)
    from equidiff.sim.task import Task

    task = Task.from_config(OmegaConf.to_container(config.task, resolve=True))  # type: ignore[arg-type]
    middle = "_mimicgen" if config.method == "mimicgen" else ""
    out = Path(config.out or f"outputs/demos/{task.name}{middle}_{config.n}.hdf5")
    report = by_mimicgen(task, config, out) if config.method == "mimicgen" else by_expert(task, config, out)
    if not report.tried:
        print(f"{report.path}: {report.written} demonstrations, nothing was left to do")
        return
    who = "MimicGen" if config.method == "mimicgen" else "the expert"
    speed = f", {report.demos_per_minute:.1f} demonstrations a minute"
    at_any = f" ({report.solved_any} at any step)" if report.solved_any != report.solved else ""
    print(
        f"{report.path}: {report.written} demonstrations; {who} solved {report.solved}{at_any} of {report.tried} "
        f"episodes{speed}"
    )


def by_expert(task: Task, config: DictConfig, out: Path) -> Report:
    from equidiff.sim.demos import generate

    return generate(task, config.n, out, seed=config.seed, workers=config.workers, valid_fraction=config.valid_fraction)


def by_mimicgen(task: Task, config: DictConfig, out: Path) -> Report:
    from equidiff.sim.mimicgen_demos import generate_mimicgen
    from equidiff.sim.mimicgen_source import expert_source, open_source

    given = (
        Path(config.source)
        if config.source
        else expert_source(source_task(task), config.n_source, out.parent, seed=config.seed, workers=config.workers)
    )
    source = open_source(given, task, config.n_source)
    for name, reason in source.refused.items():
        print(f"{source.path}: {name} is left out, MimicGen cannot cut it into sub-tasks: {reason}")
    print(f"{len(source.demos)} source demonstrations: {source.path}", flush=True)
    return generate_mimicgen(
        task,
        source,
        config.n,
        out,
        seed=config.seed,
        workers=config.workers,
        per_subtask=config.per_subtask,
        valid_fraction=config.valid_fraction,
    )


def source_task(task: Task) -> Task:
    """The D0 variant of a task of MimicGen, whose scripted expert makes its source demonstrations."""
    from equidiff.sim.mimicgen_task import MimicGenTask
    from equidiff.sim.task import Task

    about = MimicGenTask.of(task)
    found = Task.from_config(yaml.safe_load((CONFIGS / "task" / f"{about.source_task}.yaml").read_text()))
    if found.expert is None:
        raise ConfigError(
            f"source: {about.config} has no scripted expert; give a file of demonstrations, source=FILE, e.g. the "
            f"published one: python scripts/download_data.py task={task.name} collection=source"
        )
    return found


if __name__ == "__main__":
    run_app(main, "generate", __doc__)
