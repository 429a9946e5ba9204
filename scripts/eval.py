"""Measure the success rate of a checkpoint in simulation.

    python scripts/eval.py checkpoint=outputs/train/run/checkpoints/final
    python scripts/eval.py checkpoint=... n=200 workers=8 film=6 out=outputs/eval/run

n episodes from the fixed seeds seed, seed + 1, ...; success is judged in the final state (success at any
step is reported beside it), with an exact 95 % binomial interval. Writes <out>/result.json with every
episode, and, with film > 0, contact_sheet.png and video.mp4. Two results on the same seeds are compared
by scripts/compare.py.
Keys: checkpoint, n, seed, workers, batch (episodes per call of the policy), horizon (control steps,
default the task's), physics (fast | robosuite), stop_on_success, device, film (episodes), ignore_mismatch (of the
renderer), out.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    checkpoint = Path(config.checkpoint)
    print(f"loading {checkpoint} and starting the simulator ...", flush=True)
    from equidiff.report.pictures import Clip, contact_sheet, write_video
    from equidiff.sim.evaluate import evaluate_checkpoint

    result, episodes = evaluate_checkpoint(
        checkpoint,
        n=config.n,
        seed=config.seed,
        workers=config.workers,
        batch=config.batch,
        horizon=config.horizon,
        physics=config.physics,
        stop_on_success=config.stop_on_success,
        device=config.device,
        film=config.film,
        label=config.label,
        ignore_mismatch=config.ignore_mismatch,
    )
    out = Path(config.out) if config.out else checkpoint.parent.parent / "eval" / checkpoint.name
    path = result.write(out / "result.json")
    clips = [Clip(e.frames, f"seed {e.seed}", e.success) for e in episodes if e.frames is not None]
    print(f"{result.task}: solved in the final state {result.at_end}, at any step {result.at_any}")
    print(f"episodes: {path}")
    if clips:
        contact_sheet(clips).save(out / "contact_sheet.png")
        columns = min(4, len(clips))
        write_video(out / "video.mp4", [clips[i : i + columns] for i in range(0, len(clips), columns)])
        print(f"pictures: {out / 'contact_sheet.png'}, {out / 'video.mp4'}")


if __name__ == "__main__":
    run_app(main, "eval", __doc__)
