"""The equivariance laws of every encoder and denoiser and of the whole sampler, measured, at several sizes and N.

    python scripts/laws_table.py
    python scripts/laws_table.py only=points orders=[4,8] record=laws.json

With `record`, rows that the file has already, of the same angles and batch, are kept as they are, so that an
interrupted call goes on where it was and new rows can be added; again=true measures all of them.

Every row is a policy of random weights that looks at random scenes, in float64. Encoder and denoiser are measured each
alone, the sampler as a whole: turned scene and turned noise against turned actions. An error is |f(g x) - g f(x)| /
|f(x)|; at an angle that is not a rotation of C_N the encoder and the denoiser have no law, and the sampler's error
says how far the whole policy is from it.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
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
_NO_SCENE = "~encoder.encoders.scene"


def _framed(encoder: str, arguments: str) -> str:
    """The override that adds an encoder of the package, frame averaged."""
    package = "equidiff.encoders"
    inside = f"{{_target_:{package}.{encoder},_partial_:true,{arguments}}}"
    return f"+encoder.encoders.framed={{_target_:{package}.FrameAveraged,_partial_:true,encoder:{inside}}}"


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
    *(
        Row(
            "SO(2) state, so2_mlp",
            f"{channels} channels",
            ("obs=state", "encoder=so2_state", "denoiser=so2_mlp", f"encoder.channels={channels}"),
            least=9,  # its functions have frequencies up to 4
        )
        for channels in (16, 32)
    ),
    *(
        Row(
            f"{name}, weight {weight}",
            f"{channels} channels",
            ("obs=state", f"{part}={choice}", f"encoder.channels={channels}", f"{part}.weight={weight}"),
        )
        for name, part, choice in (
            ("soft state", "encoder", "soft_state"),
            ("state, soft_group_mlp", "denoiser", "soft_group_mlp"),
        )
        for weight in (0, 1)
        for channels in (16, 32)
    ),
    Row(
        "points", "64 points", ("obs=point_cloud", "encoder=point_cloud", "obs.fields.points=64", "encoder.channels=8")
    ),
    Row(
        "points",
        "256 points",
        ("obs=point_cloud", "encoder=point_cloud", "obs.fields.points=256", "encoder.channels=32"),
    ),
    *(
        Row(
            "scene and wrist picture, small",
            f"{size} pixels",
            ("obs=overhead_image", "encoder=small_image", f"obs.fields.size={size}"),
        )
        for size in (64, 46)
    ),
    *(
        Row(
            "wrist picture alone, keypoints",
            f"{size} pixels",
            ("obs=overhead_image", "encoder=small_image", f"obs.fields.size={size}", "obs.fields.scene=[]", _NO_SCENE),
        )
        for size in (64, 46)
    ),
    *(
        Row(
            "wrist picture alone, ResNet-18",
            f"{size} pixels, crop {crop}",
            (
                *_PICTURES,
                _ONE_WRIST,
                f"obs.fields.size={size}",
                f"encoder.encoders.wrist.crop={crop}",
                "obs.fields.scene=[]",
                _NO_SCENE,
            ),
        )
        for size, crop in ((84, 76), (52, 44))
    ),
    *(
        Row(
            "scene depth and wrist picture",
            f"{size} pixels, crop {crop}",
            (
                *_PICTURES,
                _ONE_WRIST,
                f"obs.fields.size={size}",
                "obs.fields.scene=[]",
                "obs.fields.depth=[agentview]",
                "encoder.encoders.scene.key=agentview_depth",
                f"encoder.encoders.scene.crop={crop}",
                "encoder.encoders.wrist.crop=null",
            ),
        )
        for size, crop in ((84, 76), (36, 28))
    ),
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
    *(
        Row(
            "frame averaged picture",
            f"{size} pixels, crop {crop}",
            (
                "obs=image",
                "encoder=frame_averaged_image",
                *_MLP,
                "encoder.channels=16",
                f"obs.fields.size={size}",
                f"encoder.encoders.scene.encoder.crop={crop}",
                f"encoder.encoders.wrist.crop={crop}",
            ),
        )
        for size, crop in ((84, 76), (52, 44))
    ),
    *(
        Row(
            "frame averaged voxels",
            f"{size} cells, crop {crop}",
            (
                *_VOXELS,
                _ONE_WRIST,
                f"obs.fields.size={size}",
                "~encoder.encoders.voxels",
                _framed("VoxelEncoder", f"key:voxels,channels:16,crop:{crop},paddings:[[0],[1,1],[0,1],[1,1]]"),
            ),
        )
        for size, crop in ((64, 58), (32, 26))
    ),
    *(
        Row(
            "frame averaged points",
            f"{points} points",
            (
                "obs=point_cloud",
                "encoder=point_cloud",
                f"obs.fields.points={points}",
                "encoder.channels=8",
                "~encoder.encoders.points",
                _framed("PointCloudEncoder", "key:point_cloud,channels:8,widths:[16,32]"),
            ),
        )
        for points in (64, 256)
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
    words = [word for word in sys.argv[1:] if not word.startswith(("record=", "again="))]
    command = shlex.join(["python", "scripts/laws_table.py", *words])
    about = {"date": str(date.today()), "command": command, "angles": list(config.angles), "batch": config.batch}
    known = {} if config.again else _recorded(config.record, about)
    found: list[dict[str, Any]] = []
    for row, order in tqdm(jobs, unit="policy"):
        one = known.get((row.name, row.size, order))
        if one is None:
            one = {"policy": row.name, "size": row.size, "order": order, "errors": errors_of(row, order, config)}
            tqdm.write(f"{row.name:<34} {row.size:<20} C_{order:<3} {_line(one['errors'])}")
        found.append(one)
        if config.record:  # after each, so that an interrupted call goes on there
            made = {(one["policy"], one["size"], one["order"]) for one in found}
            kept = [other for at, other in known.items() if at not in made]
            write_json(config.record, {**about, "rows": [*found, *kept]})
    if config.record:
        print(f"recorded: {config.record}")


def _recorded(record: str | None, about: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Rows of an earlier call with the same angles and batch, by policy, size and N."""
    path = Path(record) if record else None
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text())
    if any(found.get(key) != about[key] for key in ("angles", "batch")):
        return {}
    return {(row["policy"], row["size"], row["order"]): row for row in found["rows"]}


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
