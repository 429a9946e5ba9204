"""Make observations from the states of a file: pictures, depth, voxels, point clouds; poses always.

    python scripts/prepare_data.py data=demos.hdf5
    python scripts/prepare_data.py data=demos.hdf5 obs=[image,depth,voxel,point_cloud] workers=8
    python scripts/prepare_data.py data=demos.hdf5 size=128 cameras=[agentview,birdview] out=big.hdf5
    python scripts/prepare_data.py data=demos.hdf5 like=point_cloud          # what obs=point_cloud trains on
    python scripts/prepare_data.py data=demos.hdf5 cameras=[top] own_cameras='{top:{position:[0,0,2],target:[0,0,1]}}'
    python scripts/prepare_data.py data=stack_d1.hdf5 task=stack_d1          # a file from elsewhere

Any robomimic or MimicGen file with states will do; it is only read. Writes a copy with obs/<camera>_image (uint8),
<camera>_depth (uint16, 0.1 mm), <camera>_pose (camera to world), voxels, point_cloud, the poses and absolute actions,
compressed, without next_obs. The attribute `perception` has the settings, the renderer's and the cameras' intrinsics.
A call that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app


def main(config: DictConfig) -> None:
    source = Path(config.data.path)
    print(f"preparing {source} ...", flush=True)
    from equidiff.sim.prepare import prepare
    from equidiff.sim.prepare_settings import find_task, like_observation, perception_of
    from equidiff.sim.render import RendererSettings
    from equidiff.sim.task import Task

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    task = tree.get("task") or find_task(source, CONFIGS)
    described = Task.from_config(task)
    if config.like is not None:
        perception, name = like_observation(config.like, task, CONFIGS), config.like
    else:
        perception, name = perception_of(tree, described), "_".join(tree["obs"]["make"]) or "state"
    out = Path(config.out) if config.out else source.with_name(f"{source.stem}_{name}.hdf5")
    if out.exists():
        print(f"{out} exists already; nothing was done. Remove it, or choose another out=")
        return
    renderer = RendererSettings.from_config(tree["renderer"])
    prepare(source, described, out, perception=perception, renderer=renderer, workers=config.workers)
    megabytes = out.stat().st_size / 1e6
    print(f"{out}: {megabytes:.1f} MB. Look at it: python scripts/inspect_data.py data={out}")


if __name__ == "__main__":
    run_app(main, "prepare", __doc__)
