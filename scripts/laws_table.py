"""The equivariance laws of every encoder and denoiser and of the whole sampler, measured, at several sizes and N.

    python scripts/laws_table.py
    python scripts/laws_table.py only=points orders=[4,8] record=laws.json

Every row is a policy of random weights that looks at random scenes, in float64. Encoder and denoiser are measured each
alone, the sampler as a whole: turned scene and turned noise against turned actions. An error is |f(g x) - g f(x)| /
|f(x)|; at an angle that is not a rotation of C_N the encoder and the denoiser have no law, and the sampler's error
says how far the whole policy is from it.
"""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass
from datetime import date
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from equidiff.hydra_app import CONFIGS, run_app

_MLP = ("denoiser=group_mlp", "diffusion=ddim_x0")
_PICTURES = ("obs=image", "encoder=equi_image", *_MLP, "encoder.channels=16")
_VOXELS = ("obs=voxel", "encoder=equi_voxel", *_MLP, "encoder.channels=16")
_ONE_WRIST = "encoder.encoders.wrist.channels=16"
_UNET = "denoiser.widths=[16,32]"


@dataclass(frozen=True)
class Row:
    """name and size as the table calls them; overrides of scripts/train.py. least: the smallest N that it takes."""

    name: str
    size: str
    overrides: tuple[str, ...]
    least: int = 1


ROWS = (
    Row("state", "8 channels", ("obs=state", "encoder.channels=8")),
    Row("state", "32 channels", ("obs=state", "encoder.channels=32")),
    Row(
        "SO(2) state, so2_mlp",
        "16 channels",
        ("obs=state", "encoder=so2_state", "denoiser=so2_mlp", "encoder.channels=16"),
        least=9,  # its functions have frequencies up to 4
    ),
    Row(
        "soft state, weight 0",
        "16 channels",
        ("obs=state", "encoder=soft_state", "encoder.channels=16", "encoder.weight=0"),
    ),
    Row("soft state, weight 1", "16 channels", ("obs=state", "encoder=soft_state", "encoder.channels=16")),
    Row(
        "state, soft_group_mlp, weight 0",
        "16 channels",
        ("obs=state", "denoiser=soft_group_mlp", "encoder.channels=16", "denoiser.weight=0"),
    ),
    Row(
        "points", "64 points", ("obs=point_cloud", "encoder=point_cloud", "obs.fields.points=64", "encoder.channels=8")
    ),
    Row(
        "points",
        "256 points",
        ("obs=point_cloud", "encoder=point_cloud", "obs.fields.points=256", "encoder.channels=32"),
    ),
    Row("scene and wrist picture, small", "64 pixels", ("obs=overhead_image", "encoder=small_image")),
    Row("scene and wrist picture", "84 pixels, crop 76", (*_PICTURES, _ONE_WRIST)),
    Row(
        "scene and wrist picture",
        "36 pixels, crop 28",
        (
            *_PICTURES,
            _ONE_WRIST,
            "obs.fields.size=36",
            "encoder.encoders.scene.crop=28",
            "encoder.encoders.wrist.crop=null",
        ),
    ),
    Row("voxels and wrist picture", "64 cells, crop 58", (*_VOXELS, _ONE_WRIST)),
    Row(
        "voxels and wrist picture",
        "32 cells, crop 26",
        (*_VOXELS, _ONE_WRIST, "obs.fields.size=32", "encoder.encoders.voxels.crop=26"),
    ),
    Row(
        "frame averaged picture",
        "84 pixels, crop 76",
        ("obs=image", "encoder=frame_averaged_image", *_MLP, "encoder.channels=16"),
    ),
    Row(
        "state, fibrewise_unet",
        "widths 16, 32",
        ("obs=state", "denoiser=fibrewise_unet_small", "encoder.channels=8", _UNET),
    ),
    Row(
        "points, fibrewise_unet",
        "64 points",
        (
            "obs=point_cloud",
            "encoder=point_cloud",
            "denoiser=fibrewise_unet_small",
            "obs.fields.points=64",
            "encoder.channels=8",
            _UNET,
        ),
    ),
)


def main(config: DictConfig) -> None:
    """Measure and print."""
    print("loading ...", flush=True)
    import torch
    from tqdm import tqdm

    from equidiff.results import write_json

    torch.set_num_threads(1)
    chosen = [row for row in ROWS if not config.only or config.only in row.name]
    jobs = [(row, order) for row in chosen for order in config.orders if order >= row.least]
    found: list[dict[str, Any]] = []
    for row, order in tqdm(jobs, unit="policy"):
        errors = errors_of(row, order, config)
        found.append({"policy": row.name, "size": row.size, "order": order, "errors": errors})
        tqdm.write(f"{row.name:<34} {row.size:<20} C_{order:<3} {_line(errors)}")
    if config.record:
        words = [word for word in sys.argv[1:] if not word.startswith("record=")]
        command = shlex.join(["python", "scripts/laws_table.py", *words])
        about = {"date": str(date.today()), "command": command, "angles": list(config.angles), "batch": config.batch}
        print(f"recorded: {write_json(config.record, {**about, 'rows': found})}")


def errors_of(row: Row, order: int, config: DictConfig) -> dict[str, dict[str, float | None]]:
    """{"45": {"encoder": error or None without a law, "denoiser": ..., "sampler": ...}} of every angle."""
    import torch

    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.equivariance.measure import Run
    from equidiff.equivariance.scenes import random_observation
    from equidiff.testing import random_actions

    GlobalHydra.instance().clear()  # the script itself is a Hydra app
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = ["task=lift", "data.path=none", *row.overrides, f"symmetry=c{order}"]
        composed = compose("train", words)
    spec = make_spec(composed)
    torch.manual_seed(0)
    policy = make_policy(policy_tree(composed), spec)
    obs = random_observation(spec, config.batch)
    actions = random_actions(spec, 64, torch.Generator().manual_seed(1))
    policy.fit([{"obs": random_observation(spec, 64), "action": actions}])
    with torch.no_grad():  # a new policy ends with zeros, which would hide errors
        for parameter in policy.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    policy.eval().double()
    found: dict[str, dict[str, float | None]] = {}
    with torch.no_grad():
        run = Run(policy, obs, seed=0)
        for angle in config.angles:
            stages = run.errors(math.radians(angle))
            found[str(angle)] = {stage: stages[stage][0] for stage in ("encoder", "denoiser", "sampler")}
    return found


def _line(errors: dict[str, dict[str, float | None]]) -> str:
    return "  ".join(
        f"{angle} deg: " + " ".join(f"{name} {'-' if x is None else format(x, '.0e')}" for name, x in row.items())
        for angle, row in errors.items()
    )


if __name__ == "__main__":
    run_app(main, "laws_table", __doc__)
