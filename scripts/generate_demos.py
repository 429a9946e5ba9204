"""Make demonstrations of a task with its scripted expert.

    python scripts/generate_demos.py task=lift n=100
    python scripts/generate_demos.py task=stack n=200 out=outputs/demos/stack.hdf5 workers=8
    python scripts/generate_demos.py task=square n=50 task.placement.peg.radius='[0,0.1]'

Writes the robomimic HDF5 layout. Only episodes that are solved in their final state are kept. A call
that was interrupted goes on where it stopped. Keys: task (a file of configs/task), n (demonstrations),
out (default outputs/demos/<task>_<n>.hdf5), seed (first seed), workers, valid_fraction (share that goes into
the mask "valid").
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    print(f"starting the simulator for {config.task.name} ...", flush=True)
    from equidiff.sim.demos import generate

    task = OmegaConf.to_container(config.task, resolve=True)
    out = config.out or f"outputs/demos/{config.task.name}_{config.n}.hdf5"
    report = generate(
        task,  # type: ignore[arg-type]
        config.n,
        Path(out),
        seed=config.seed,
        workers=config.workers,
        valid_fraction=config.valid_fraction,
    )
    expert = (
        f"; the expert solved {report.solved} of {report.tried} episodes"
        if report.tried
        else ", nothing was left to do"
    )
    print(f"{report.path}: {report.written} demonstrations{expert}")


if __name__ == "__main__":
    run_app(main, "generate", __doc__)
