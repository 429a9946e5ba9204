"""Measure how far a policy is from turning with the scene, stage by stage, and show it.

    python scripts/check_equivariance.py checkpoint=outputs/train/run/checkpoints/final
    python scripts/check_equivariance.py checkpoint=... data=demos.hdf5 angles=32 float64=true out=outputs/equivariance

Turns observations (real ones of `data`, or random ones) about the workspace centre and compares, for each stage (law
of each field, normaliser, encoder, denoiser, both together, the whole sampler with turned noise), what the policy does
with the turned input and the turned result: the relative error is |f(g x) - g f(x)| / |f(x)|. Prints a table and writes
equivariance.json, index.html, errors.svg and scenes.svg (turned scenes with the planned path). Exit status: 0; 1 if an
error is above its limit, with the stage named; 2 if the checkpoint or the data cannot be read. Limits: `threshold`
where the law is exact; `between`, if it is set, at those angles of the group at which pictures or voxel grids are
interpolated, as a share of the error that there would be had these not been turned. Other angles are shown, not judged.
"""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.config import ConfigError
from equidiff.hydra_app import CONFIGS, run_app


def main(config: DictConfig) -> int:
    print("loading ...", flush=True)
    import torch

    from equidiff.checkpoint import inspect_checkpoint, load_policy
    from equidiff.equivariance import Judgement, measure, random_observation, views
    from equidiff.report.equivariance_page import error_curves, render_equivariance, scenes_figure
    from equidiff.report.html import write_html
    from equidiff.report.svg import standalone
    from equidiff.results import write_json

    try:
        judgement = Judgement(config.threshold, config.between, config.order)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for name in ("windows", "angles"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ConfigError(f"{name}: expected a whole number >= 1, got {config[name]!r}")
    checkpoint = Path(config.checkpoint)
    policy, manifest = load_policy(checkpoint, device=config.device), inspect_checkpoint(checkpoint)
    if config.data.path is None:
        obs = random_observation(policy.spec, config.windows, config.seed)
        subject = f"{checkpoint}, {config.windows} random scenes"
    else:
        obs = _windows(Path(config.data.path), policy.spec, manifest, config)
        subject = f"{checkpoint}, {config.windows} scenes of {config.data.path}"
    obs = {key: value.to(config.device) for key, value in obs.items()}
    report = measure(policy, obs, config.angles, judgement, seed=config.seed, double=config.float64)
    out = Path(config.out) if config.out else checkpoint.parent.parent / "equivariance" / checkpoint.name
    shown = [0.0, *(2 * math.pi * k / report.order for k in range(1, min(report.order, 4)))]
    shown += [math.pi / report.order, math.pi]
    cameras = _cameras(manifest.get("perception"), config.data.path)
    drawn = views(policy, obs, sorted({round(a, 12) for a in shown}), config.seed, cameras=cameras)
    line = shlex.join(["python", "scripts/check_equivariance.py", *sys.argv[1:]])
    settings: dict[str, Any] = {"checkpoint": str(checkpoint), "data": config.data.path, "windows": config.windows}
    settings |= {"seed": config.seed, "float64": config.float64, "torch": torch.__version__, "command": line}
    write_json(out / "equivariance.json", {**settings, **report.to_json()})
    page = render_equivariance(report, drawn, policy.spec.workspace.centre, subject, line)
    write_html(out / "index.html", page)
    write_html(out / "errors.svg", standalone(error_curves(report)))
    write_html(out / "scenes.svg", scenes_figure(drawn, policy.spec.workspace.centre) + "\n")
    print(f"{subject}\n{report.table()}\npage: {out / 'index.html'}\nnumbers: {out / 'equivariance.json'}")
    for failure in report.failures[:20]:
        print(f"above the limit: {failure}", file=sys.stderr)
    return 1 if report.failures else 0


def _cameras(about: dict[str, Any] | None, data: str | None) -> dict[str, Any]:
    """{camera: (intrinsics, pose)}: cameras of our own, and those whose pose the data has."""
    import numpy as np

    from equidiff.data.robomimic import DemoFile
    from equidiff.data.source import first_poses
    from equidiff.perception import PerceptionSettings, intrinsics

    if not about:
        return {}
    settings = PerceptionSettings.from_config(about["settings"])
    poses = dict(settings.own_poses)
    if data is not None:
        with DemoFile(data) as file:
            poses |= first_poses(file, file.names[0])
    known = {name: np.asarray(matrix, np.float32) for name, matrix in (about.get("intrinsics") or {}).items()}
    for name in settings.own_poses:
        camera = settings.cameras[name]
        known.setdefault(name, intrinsics(camera.fovy, camera.width, camera.height))
    return {name: (known[name], pose) for name, pose in poses.items() if name in known}


def _windows(path: Path, spec: Any, manifest: dict[str, Any], config: DictConfig) -> dict[str, Any]:
    """Observations {key: (windows, To, *shape)} at random places of a file."""
    import torch

    from equidiff.data import WindowDataset
    from equidiff.data.source import load_training_data

    if "task" not in manifest or "control" not in manifest:
        raise ConfigError(f"checkpoint={config.checkpoint}: names no task, so data={path} cannot be read for it")
    node: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "data" / "default.yaml"))
    node["path"] = str(path)
    source = load_training_data(node, spec, manifest["control"], manifest["task"], path.parent / "prepared", seed=0)
    data = WindowDataset.of(source.train, spec)
    generator = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(data), generator=generator)[: config.windows]
    observed: dict[str, Any] = data.batch(chosen)["obs"]
    return observed


if __name__ == "__main__":
    run_app(main, "check_equivariance", __doc__)
