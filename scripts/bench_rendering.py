"""Pictures per second of CPU time and how they differ: the fast renderer against robosuite's own, in one run.

    python scripts/bench_rendering.py
    python scripts/bench_rendering.py tasks=[lift,stack,stack_d1] record=docs/measurements/rendering.json
    python scripts/bench_rendering.py picture=docs/pictures/rendering.png

For states along the experts' episodes, both draw the same pictures, in turn. The difference is the mean absolute
one over pixels, colours and cameras, in grey levels of 255. The fast renderer must draw at least 10 times as many
pictures at a difference under 3: the last line says whether it does, and the exit status is 1 if not. "default" is
robosuite's quality drawn by our code, and should not differ at all; "smooth" is the fast one with samples=2.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import CONFIGS, run_app

FASTER, DIFFERENCE = 10.0, 3.0  # times as many pictures, at least; grey levels, less than


def main(config: DictConfig) -> int:
    """Measure and print; the exit status."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("starting the simulator ...", flush=True)
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from equidiff.demo.machine import cores, cpu
    from equidiff.perception import CameraSettings
    from equidiff.results import write_json
    from equidiff.sim.env import make_env
    from equidiff.sim.experts import make_expert
    from equidiff.sim.render import Renderer, RendererSettings

    cameras = {name: CameraSettings(config.size, config.size) for name in config.cameras}
    kinds = {"default": RendererSettings("default"), "fast": RendererSettings(), "smooth": RendererSettings(samples=2)}
    rows: list[np.ndarray] = []
    theirs: list[Any] = []
    result: dict[str, Any] = {}
    for task in config.tasks:
        env = make_env(OmegaConf.to_container(OmegaConf.load(CONFIGS / "task" / f"{task}.yaml")), "relative")  # type: ignore[arg-type]
        seconds = dict.fromkeys(("robosuite", *kinds), 0.0)
        difference: dict[str, list[float]] = {kind: [] for kind in kinds}
        by_camera: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in cameras} for kind in kinds}
        for state in tqdm(range(config.states), desc=task, unit="state"):
            env.reset(seed=state)
            expert = make_expert(env)
            for _ in range(15 * state):
                target = expert()
                if target is None:
                    break
                env.step(env.relative_action(target.position, target.rotation, target.grip))
            env.observe()
            own = {kind: Renderer(env.model, cameras, settings) for kind, settings in kinds.items()}
            theirs.append(_robosuite(env, config.size))  # kept: freeing one while another is current breaks that one
            draw = {"robosuite": theirs[-1]} | {
                kind: (lambda name, r=renderer, data=env.data: r.frame(data, name, False).image)
                for kind, renderer in own.items()
            }
            pictures = {}
            for kind, picture in draw.items():
                pictures[kind] = np.stack([picture(name) for name in cameras]).astype(int)  # the first is not timed
                began = time.process_time()
                for _ in range(config.repeats):
                    for name in cameras:
                        picture(name)
                seconds[kind] += time.process_time() - began
            for kind in kinds:
                off = np.abs(pictures[kind] - pictures["robosuite"])
                difference[kind].append(float(off.mean()))
                for number, name in enumerate(cameras):
                    by_camera[kind][name].append(float(off[number].mean()))
            if state == config.states // 2:
                rows.append(np.concatenate([*pictures["robosuite"], *pictures["fast"]], 1).astype(np.uint8))
            for renderer in own.values():
                renderer.close()
        env.close()
        count = config.states * config.repeats * len(cameras)
        result[task] = {
            "pictures_per_cpu_second": {kind: round(count / value, 1) for kind, value in seconds.items()},
            "speedup": {kind: round(seconds["robosuite"] / seconds[kind], 1) for kind in kinds},
            "difference": {kind: round(float(np.mean(values)), 2) for kind, values in difference.items()},
            "difference_by_camera": {
                kind: {name: round(float(np.mean(values)), 2) for name, values in by_camera[kind].items()}
                for kind in kinds
            },
        }
        print(_sentence(task, result[task]))
    if config.picture:
        strip = Image.fromarray(np.concatenate(rows, 0))
        Path(config.picture).parent.mkdir(parents=True, exist_ok=True)
        strip.resize((strip.width * 2, strip.height * 2), Image.Resampling.NEAREST).save(config.picture)
        print(f"picture: {config.picture} (left robosuite's, right the fast ones)")
    if config.record:
        chosen = " ".join(f"{key}={config[key]}" for key in ("states", "repeats", "size"))
        command = f"python scripts/bench_rendering.py tasks=[{','.join(config.tasks)}] {chosen}"
        write_json(
            config.record,
            {
                "tasks": result,
                "size": config.size,
                "cameras": list(config.cameras),
                "command": command,
                "cpu": cpu(),
                "cores": cores(),
            },
        )
        print(f"recorded: {config.record}")
    failed = shortcomings(result)
    print("; ".join(failed) or f"every task: at least {FASTER:g} times as many, under {DIFFERENCE:g} grey levels")
    return 1 if failed else 0


def shortcomings(result: Mapping[str, Any]) -> list[str]:
    """What the fast renderer falls short of, by task."""
    failed = []
    for task, figures in result.items():
        speedup, difference = figures["speedup"]["fast"], figures["difference"]["fast"]
        if speedup < FASTER:
            failed.append(f"{task}: {speedup} times as many pictures, expected at least {FASTER:g}")
        if difference >= DIFFERENCE:
            failed.append(f"{task}: {difference} grey levels off, expected less than {DIFFERENCE:g}")
    return failed


def _robosuite(env: Any, size: int) -> Any:
    """robosuite's own off-screen renderer, upright."""
    from robosuite.utils.binding_utils import MjRenderContextOffscreen

    sim = env.env.sim
    context = MjRenderContextOffscreen(sim, device_id=-1)
    context.vopt.geomgroup[0], context.vopt.geomgroup[1] = 0, 1

    def picture(name: str) -> Any:
        context.gl_ctx.make_current()
        context.render(size, size, camera_id=sim.model.camera_name2id(name))
        return context.read_pixels(size, size, depth=False)[::-1]

    return picture


def _sentence(task: str, figures: dict[str, Any]) -> str:
    rate = figures["pictures_per_cpu_second"]
    return f"{task}: {rate['robosuite']:.0f} pictures per CPU second of robosuite; " + "; ".join(
        f"{kind} {rate[kind]:.0f}, {figures['speedup'][kind]:.1f} times as many, mean difference "
        f"{figures['difference'][kind]:.2f} grey levels ({', '.join(f'{v:.2f}' for v in cameras.values())})"
        for kind, cameras in figures["difference_by_camera"].items()
    )


if __name__ == "__main__":
    run_app(main, "bench_rendering", __doc__)
