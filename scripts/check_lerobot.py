"""Check the LeRobotDataset reader and writer against LeRobot itself, in an environment of its own.

    python scripts/check_lerobot.py                                       # makes the environment: 5 GB, some minutes
    python scripts/check_lerobot.py python=path/to/lerobot/venv/bin/python record=docs/measurements/lerobot.json

Exports demonstrations (pictures as AV1, as H.264 and as PNG), loads them with LeRobotDataset and compares every frame,
the counts and the statistics. Then LeRobot records a dataset, and the importer must read the same from it. Exit code 0
only if all agrees. LeRobot needs numpy 2 and Python 3.12, so it cannot live beside equidiff.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from equidiff.hydra_app import run_app

INSIDE = Path(__file__).parent / "check_lerobot_inside.py"
SIDE, FPS, EPISODES = 96, 20, 4


def main(config: DictConfig) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(config.work or temporary).resolve()
        work.mkdir(parents=True, exist_ok=True)
        python = config.python or _environment(work / "venv", config.base_python, config.version)
        data = Path(config.data.path) if config.data.path else _demonstrations(work / "demos.hdf5")
        checks: dict[str, Any] = {}
        about: dict[str, Any] = {}
        for name, options in (
            ("av1", {"codec": "libsvtav1"}),
            ("h264", {"codec": "h264"}),
            ("png", {"images": "png"}),
        ):
            about = _exported(python, data, work, name, options, checks)
        _recorded(python, work, checks)
    failed = [name for name, value in checks.items() if value is False]
    for name, value in checks.items():
        print(f"{'FAILED ' if value is False else '       '}{name}: {'ok' if value is True else value}")
    if config.record:
        from equidiff.results import write_json

        command = "python scripts/check_lerobot.py"
        versions = {name: about[name] for name in ("lerobot", "python", "numpy")}
        write_json(config.record, {"command": command, **versions, "checks": checks})
    print(f"lerobot {about['lerobot']}: {len(failed)} of {len(checks)} checks failed")
    return 1 if failed else 0


def _environment(where: Path, base: str, version: str) -> str:
    print(f"making an environment with lerobot {version} in {where} ...", flush=True)
    subprocess.run([base, "-m", "venv", str(where)], check=True)
    python = str(where / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"lerobot[dataset]=={version}"], check=True)
    return python


def _inside(python: str, *arguments: object) -> None:
    # LeRobot must neither ask the hub nor see this project
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [python, str(INSIDE), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"LeRobot failed: {done.stderr[-3000:]}")


def _pictures(seed: int, steps: int) -> np.ndarray[Any, Any]:
    """A shaded table with a coloured block that moves: edges and slopes, as in a rendered scene."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    table = np.stack([80 + x, 100 + 0.5 * y, 160 - 0.4 * x], -1)
    pictures = np.repeat(table[None], steps, 0)
    row, column = rng.integers(10, 40, 2)
    colour = rng.integers(0, 255, 3)
    for t in range(steps):
        pictures[t, row + t // 2 : row + t // 2 + 20, column + t : column + t + 20] = colour
    return np.clip(pictures, 0, 255).astype(np.uint8)


def _demonstrations(path: Path) -> Path:
    from equidiff.data import DemoWriter

    with DemoWriter(path, {"env_name": "Check", "env_kwargs": {"control_freq": FPS}}) as writer:
        for seed in range(EPISODES):
            rng, steps = np.random.default_rng(seed), 25 + 5 * seed
            pose = rng.normal(size=(steps, 7))
            quaternion = pose[:, 3:] / np.linalg.norm(pose[:, 3:], axis=1, keepdims=True)
            obs = {"robot0_eef_pos": pose[:, :3], "robot0_eef_quat_site": quaternion}
            obs |= {"agentview_image": _pictures(seed, steps), "robot0_eye_in_hand_image": _pictures(seed + 99, steps)}
            action = np.concatenate([rng.normal(size=(steps, 6)), rng.choice([-1.0, 1.0], (steps, 1))], 1)
            writer.add(seed, actions_abs=action, obs=obs)
        return writer.finish(valid_fraction=0.25)


def _exported(
    python: str, data: Path, work: Path, name: str, options: dict[str, str], checks: dict[str, Any]
) -> dict[str, Any]:
    """Export with `options`, let LeRobot read it, compare with the file and with our own reader."""
    import h5py

    from equidiff.data.formats import import_dataset, open_dataset, read_mapping
    from equidiff.data.formats.lerobot_export import MAPPING_FILE, export_lerobot

    dataset, result = work / f"exported_{name}", work / f"{name}.npz"
    shutil.rmtree(dataset, ignore_errors=True)
    export_lerobot(data, dataset, task="check", progress=False, **options)  # type: ignore[arg-type]
    _inside(python, "read", dataset, result)
    source = open_dataset(dataset)
    keys = list(source.features)
    ours = [source.read(i, keys) for i in range(len(source.lengths))]
    with np.load(result, allow_pickle=False) as theirs:
        about: dict[str, Any] = json.loads(str(theirs["about"]))
        checks[f"{name}: frames, episodes, rate"] = [about["frames"], about["episodes"], about["fps"]] == [
            sum(source.lengths),
            len(source.lengths),
            source.hz,
        ]
        for key in keys:
            seen = np.concatenate([episode[key] for episode in ours])
            checks[f"{name}: {key}: LeRobot and equidiff read the same"] = bool(np.array_equal(seen, theirs[key]))
            if not source.features[key].picture:
                checks[f"{name}: {key}: statistics"] = _statistics(seen, about["stats"][key], len(seen))
            elif name == "png":
                grey = seen.reshape(-1, 3) / 255
                checks[f"{name}: {key}: statistics"] = _statistics(grey, about["stats"][key], len(seen))
            shape = list(source.features[key].shape)
            if key in about["window"]:
                expected = [2, shape[2], *shape[:2]] if source.features[key].picture else [2, *shape]
                checks[f"{name}: {key}: window of two steps"] = about["window"][key] == expected
    again = work / f"again_{name}.hdf5"
    again.unlink(missing_ok=True)
    import_dataset(source, read_mapping(dataset / MAPPING_FILE), again, progress=False)
    source.close()
    with h5py.File(data) as one, h5py.File(again) as other:
        valid = {m.decode() for m in one["mask/valid"]} if "mask/valid" in one else set()
        names = sorted(one["data"], key=lambda n: (n in valid, int(n.rpartition("_")[2])))
        for key in ["actions_abs", *(f"obs/{k}" for k in other["data/demo_0/obs"])]:
            pairs = [(one["data"][n][key][()], other[f"data/demo_{i}"][key][()]) for i, n in enumerate(names)]
            if pairs[0][0].dtype == np.uint8 and name != "png":
                error = [np.abs(a.astype(float) - b) for a, b in pairs]
                checks[f"{name}: {key}: mean error of the video, grey levels"] = round(
                    float(np.mean([e.mean() for e in error])), 3
                )
                checks[f"{name}: {key}: largest error, grey levels"] = int(max(e.max() for e in error))
            else:
                same = all(np.array_equal(a.astype(b.dtype), b) for a, b in pairs)
                checks[f"{name}: {key}: equal after export and import"] = same
    return about


def _statistics(values: np.ndarray[Any, Any], stats: dict[str, list[float]], count: int) -> bool:
    flat = values.reshape(len(values), -1).astype(np.float64)
    expected = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0), "count": [count]}
    quantiles = {"q01", "q10", "q50", "q90", "q99"} <= set(stats)
    return quantiles and all(np.allclose(stats[key], value, atol=1e-6) for key, value in expected.items())


def _recorded(python: str, work: Path, checks: dict[str, Any]) -> None:
    """LeRobot records; we read, and compare with what was recorded and with what LeRobot reads back."""
    from equidiff.data.formats import open_dataset

    lengths = [25, 30, 35]
    rng = np.random.default_rng(7)
    made = {
        "state": rng.normal(size=(sum(lengths), 8)).astype(np.float32),
        "action": rng.normal(size=(sum(lengths), 7)).astype(np.float32),
        "video": np.concatenate([_pictures(i, n) for i, n in enumerate(lengths)]),
        "still": np.concatenate([_pictures(50 + i, n) for i, n in enumerate(lengths)]),
    }
    np.savez(work / "source.npz", fps=np.array(FPS), ends=np.cumsum(lengths), **made)
    dataset = work / "recorded"
    shutil.rmtree(dataset, ignore_errors=True)
    _inside(python, "write", work / "source.npz", dataset)
    _inside(python, "read", dataset, work / "recorded.npz")
    source = open_dataset(dataset)
    checks["recorded by LeRobot: lengths"] = list(source.lengths) == lengths
    names = {
        "state": "observation.state",
        "action": "action",
        "still": "observation.images.still",
        "video": "observation.images.video",
    }
    episodes = [source.read(i, list(names.values())) for i in range(len(lengths))]
    with np.load(work / "recorded.npz", allow_pickle=False) as theirs:
        for name, key in names.items():
            seen = np.concatenate([episode[key] for episode in episodes])
            same = theirs[key] if name == "video" else made[name]
            checks[f"recorded by LeRobot: {key}: equal"] = bool(np.array_equal(seen, same))
    source.close()


if __name__ == "__main__":
    run_app(main, "check_lerobot", __doc__)
