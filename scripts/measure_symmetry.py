"""Time and symmetry error of denoisers: C_N, continuous SO(2) with an exact and with a sampled nonlinearity, soft.

    python scripts/measure_symmetry.py
    python scripts/measure_symmetry.py batch=64 record=docs/measurements/symmetry.json

For each policy, with random parameters: parameters, processor time of a training step (forward, backward; one thread)
and of an action chunk, and the error of the whole sampler in float64: rotated observation and noise against rotated
actions, the largest difference relative to the largest feature, at the given angles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from equidiff.hydra_app import CONFIGS, run_app

POLICIES: dict[str, list[str]] = {
    "group_mlp, C_8": ["symmetry=c8"],
    "group_mlp, C_16": ["symmetry=c16"],
    "so2_mlp after C_8": ["symmetry=c8", "denoiser=so2_mlp"],
    "so2_mlp, product": ["experiment=state_so2"],
    "so2_mlp, Fourier, 9 samples": [
        "experiment=state_so2",
        "denoiser.nonlinearity=fourier",
        "denoiser.samples=9",
        "encoder.encoders.state.nonlinearity=fourier",
        "encoder.encoders.state.samples=9",
    ],
    "so2_mlp, Fourier, 18 samples": [
        "experiment=state_so2",
        "denoiser.nonlinearity=fourier",
        "encoder.encoders.state.nonlinearity=fourier",
    ],
    "so2_mlp, Fourier, 36 samples": [
        "experiment=state_so2",
        "denoiser.nonlinearity=fourier",
        "denoiser.samples=36",
        "encoder.encoders.state.nonlinearity=fourier",
        "encoder.encoders.state.samples=36",
    ],
    "soft_group_mlp": ["experiment=state_soft"],
    "soft_group_mlp, weight 0": ["experiment=state_soft", "denoiser.weight=0"],
}


def main(config: DictConfig) -> None:
    """Measure and print."""
    print("loading ...", flush=True)
    import torch
    from tqdm import tqdm

    from equidiff.results import write_json

    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for name, overrides in tqdm(POLICIES.items(), unit="policy"):
        rows[name] = row = _measured(overrides, config)
        errors = "  ".join(f"{angle} deg {error:.0e}" for angle, error in row["errors"].items())
        tqdm.write(f"{name:<30} {row['parameters']:>8,} parameters  step {row['step_ms']:6.1f} ms  {errors}")
    if config.record:
        about = {"date": str(date.today()), "command": "python scripts/measure_symmetry.py", "batch": config.batch}
        print(f"recorded: {write_json(config.record, {**about, 'policies': rows})}")


def _measured(overrides: list[str], config: DictConfig) -> dict[str, Any]:
    import torch

    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.testing import random_batch

    GlobalHydra.instance().clear()  # the script itself is a Hydra app
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        settings = [f"task={config.task}", f"encoder.channels={config.channels}"]
        composed = compose("train", overrides=[*overrides, *settings])
    spec = make_spec(composed)
    torch.manual_seed(0)
    policy = make_policy(policy_tree(composed), spec)
    generator = torch.Generator().manual_seed(0)

    large = random_batch(spec, config.batch, generator)
    policy.fit([large])
    with torch.no_grad():  # a new policy ends with zeros, which would hide errors
        for parameter in policy.parameters():
            fan = parameter.shape[-1] if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan))
    one = {key: value[:1] for key, value in large["obs"].items()}
    four = random_batch(spec, 4, generator)["obs"]
    return {
        "parameters": sum(p.numel() for p in policy.parameters()),
        "step_ms": round(1000 * _shortest(lambda: policy.train().loss(large).backward(), config.repeats), 2),
        "chunk_ms": round(1000 * _shortest(lambda: policy.eval().act(one), config.repeats), 2),
        "errors": {str(angle): _error(policy.eval().double(), four, angle) for angle in config.angles},
    }


def _shortest(run: Callable[[], object], repeats: int) -> float:
    """Processor seconds (other programs do not count) of the fastest of `repeats` runs after a first one."""
    run()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


def _error(policy: Any, obs: dict[str, Any], degrees: float) -> float:
    import torch

    spec, angle = policy.spec, math.radians(degrees)
    obs = {key: value.double() for key, value in obs.items()}
    noise = torch.randn(4, *policy.noise_shape, generator=torch.Generator().manual_seed(1)).double()
    before = policy.act(obs, noise=noise).predicted
    turned = spec.rotate_observation(obs, angle)
    after = policy.act(turned, noise=spec.action.irreps.rotate(noise, angle)).predicted
    want = spec.decode_action(spec.rotate_action(before, angle), turned)
    difference = spec.decode_action(after, turned) - want
    return float(f"{float(difference.abs().max() / want.abs().max()):.2g}")


if __name__ == "__main__":
    run_app(main, "measure_symmetry", __doc__)
