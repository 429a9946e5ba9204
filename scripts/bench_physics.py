"""Time of a control step and of a picture, fast against robosuite's own, interleaved in one run.

    python scripts/bench_physics.py
    python scripts/bench_physics.py task=stack steps=200 record=docs/measurements/physics.json

The same actions are executed by both, so the largest difference of the positions is printed as well
(that of the objects is the contact solver's: robosuite runs it more often in each step). A picture is
timed as drawn here (mirrors dull) and with the model's own materials.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    """Measure and print."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("starting the simulator ...", flush=True)
    import numpy as np
    from tqdm import trange

    from equidiff.results import write_json
    from equidiff.sim.env import make_env
    from equidiff.sim.render import Camera

    task = OmegaConf.to_container(config.task, resolve=True)
    environments = {kind: make_env(task, "relative", kind) for kind in ("fast", "robosuite")}  # type: ignore[arg-type]
    for env in environments.values():
        env.reset(seed=0)
    seconds: dict[str, list[float]] = {kind: [] for kind in environments}
    rng, joints, rest = np.random.default_rng(0), 0.0, 0.0
    arm = list(environments["fast"].env.robots[0]._ref_joint_pos_indexes)
    others = [i for i in range(environments["fast"].model.nq) if i not in arm]
    for _ in trange(config.steps, desc="control steps"):
        action = rng.uniform(-1, 1, 7)
        for kind, env in environments.items():
            seconds[kind].append(_timed(lambda env=env, action=action: env.step(action)))  # type: ignore[misc]
        off = np.abs(environments["fast"].data.qpos - environments["robosuite"].data.qpos)
        joints, rest = max(joints, float(off[arm].max())), max(rest, float(off[others].max()))
    env = environments["fast"]
    dull, shiny = (Camera(env.model, 84, 84, dull=kind) for kind in (True, False))
    pictures: dict[str, list[float]] = {"dull": [], "shiny": []}
    for _ in trange(config.pictures, desc="pictures"):
        for name, camera in (("dull", dull), ("shiny", shiny)):
            pictures[name].append(_timed(lambda camera=camera: camera.picture(env.data, "agentview")))  # type: ignore[misc]
    step = {kind: 1e3 * statistics.median(times) for kind, times in seconds.items()}
    picture = {kind: 1e3 * statistics.median(times) for kind, times in pictures.items()}
    result = {
        "task": config.task.name,
        "step_ms": {kind: round(value, 2) for kind, value in step.items()},
        "step_speedup": round(step["robosuite"] / step["fast"], 2),
        "largest_difference": {"arm_joints": joints, "fingers_and_objects": rest},
        "picture_ms": {kind: round(value, 2) for kind, value in picture.items()},
        "picture_speedup": round(picture["shiny"] / picture["dull"], 2),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "command": f"python scripts/bench_physics.py task={config.task.name} steps={config.steps}",
    }
    print(
        f"control step   fast {step['fast']:.2f} ms, robosuite {step['robosuite']:.2f} ms: "
        f"{result['step_speedup']} times\n"
        f"largest difference: arm joints {joints:.1e} rad, fingers and objects {rest:.1e}\n"
        f"picture 84x84  dull {picture['dull']:.1f} ms, mirroring {picture['shiny']:.1f} ms: "
        f"{result['picture_speedup']} times"
    )
    if config.record:
        print(f"recorded: {write_json(config.record, result)}")


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    run_app(main, "bench_physics", __doc__)
