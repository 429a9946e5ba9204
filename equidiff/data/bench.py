"""How fast and with how much memory windows of pictures are read: from the cache, mapped, and from HDF5."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import trange

from equidiff.data.cache import cache_folders, open_cache
from equidiff.data.needed import action_key, needed_arrays
from equidiff.data.robomimic import DemoFile, load_episodes
from equidiff.data.steps import ACTION, CachedEpisode
from equidiff.data.windows import WindowDataset
from equidiff.fields.presets import absolute_action, camera_observation
from equidiff.memory import PeakMemory, process_memory
from equidiff.spec import Batch, Horizon, Space, Spec

__all__ = ["WAYS", "consumption", "measure", "peak_memory", "sentence", "write_bench_file"]

WAYS = ("cache", "mapped", "hdf5", "memory", "cold")  # the last one drops the pages that the others find
_CAMERAS = ("agentview", "robot0_eye_in_hand")
_DIFFERENT = 20
_IN_MEMORY = 2e9  # bytes of pictures up to which they are also read from memory, for comparison
_CHUNK = 2**20  # bytes of one compressed piece, as scripts/prepare_data.py writes


def write_bench_file(path: Path, n: int, steps: int, size: int, progress: bool = True) -> Path:
    """A file in robomimic's layout with pictures (size x size) of two cameras that compress about as rendered ones do.

    The demonstrations after the first 20 repeat them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    rows = max(1, _CHUNK // (3 * size * size))
    with h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        for i in trange(n, desc=f"writing {path.name}", unit="demo", disable=not progress):
            if i >= _DIFFERENT:
                file.copy(f"data/demo_{i % _DIFFERENT}", data, name=f"demo_{i}")
                continue
            rng, demo = np.random.default_rng(i), data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = steps
            demo.create_dataset("actions_abs", data=rng.normal(size=(steps, 7)))
            for key, width in (("eef_pos", 3), ("eef_quat_site", 4), ("gripper_qpos", 2)):
                demo.create_dataset(f"obs/robot0_{key}", data=rng.normal(size=(steps, width)).astype(np.float32))
            for name in _CAMERAS:
                demo.create_dataset(
                    f"obs/{name}_image",
                    data=_pictures(rng, steps, size),
                    chunks=(min(rows, steps), size, size, 3),
                    compression="gzip",
                    compression_opts=4,
                )
    temporary.replace(path)
    return path


def _pictures(rng: np.random.Generator, steps: int, size: int) -> np.ndarray:
    """(steps, size, size, 3) uint8: boxes that move over a ground with a little noise, another one in each picture."""
    ground = np.linspace(90, 170, size)[:, None, None] + rng.normal(0, 1.5, (size, size, 3))
    pictures = ground + rng.normal(0, 0.3, (steps, size, size, 3))
    for _ in range(4):
        colour, side = rng.uniform(0, 255, 3), int(rng.integers(size // 10 + 1, size // 4 + 2))
        track = rng.uniform(0, size - side, 2) + np.cumsum(rng.normal(0, 0.5, (steps, 2)), 0)
        for t, (x, y) in enumerate(np.clip(track, 0, size - side).astype(int)):
            pictures[t, y : y + side, x : x + side] = colour
    return pictures.clip(0, 255).astype(np.uint8)


def measure(path: Path, size: int, batch: int, seconds: float, obs: int, ways: Sequence[str] = WAYS) -> dict[str, Any]:
    """Figures of building the cache and of each way of reading, every one in a process of its own."""
    found: dict[str, Any] = {}
    for way in ("build", *ways):
        if way == "memory" and found["build"]["gb"] * 1e9 > _IN_MEMORY:
            continue
        program = (
            f"from equidiff.data import bench; bench.child({str(path)!r}, {way!r}, {size}, {batch}, {seconds}, {obs})"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"bench_loading: {way} failed: {done.stderr.strip().splitlines()[-1:]}")
        found[way] = json.loads(done.stdout.splitlines()[-1])
    cache = found["cache"]["windows_per_s"]
    return {
        "file_gb": round(path.stat().st_size / 1e9, 3),
        "cache_gb": found["build"]["gb"],
        **found,
        "cache_over_hdf5": round(cache / found["hdf5"]["windows_per_s"], 1),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def sentence(found: Mapping[str, Any]) -> str:
    """What was found, in lines."""
    build = found["build"]
    lines = [
        f"file {found['file_gb']} GB, cache {found['cache_gb']} GB, built in {build['seconds']} s "
        f"with {build['peak_mb']} MB at the peak",
        *(
            f"{way:<7} {found[way]['windows_per_s']:>8} windows/s, peak {found[way]['peak_mb']} MB, "
            f"anonymous {found[way]['anonymous_mb']} MB"
            for way in WAYS
            if way in found
        ),
        f"cache over HDF5: {found['cache_over_hdf5']} times",
    ]
    return "\n".join(lines)


def consumption(policy: Any, batch: int, steps: int = 3) -> dict[str, Any]:
    """How many windows per second training takes: loss, gradient and AdamW on random windows, the best of `steps`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec: Spec = policy.spec
    windows: Batch = {"obs": {}, "action": torch.randn(batch, spec.horizon.predict, spec.action_size)}
    for key, source in spec.observation.sources.items():
        shape = (batch, spec.horizon.obs, *source.shape)
        pictures = torch.randint(255, shape, dtype=torch.uint8)
        windows["obs"][key] = torch.randn(shape) if source.dtype is None else pictures
    policy.fit([windows])
    policy.to(device).train()
    given = {"obs": {k: v.to(device) for k, v in windows["obs"].items()}, "action": windows["action"].to(device)}
    optimiser, seconds = torch.optim.AdamW(policy.parameters()), []
    for _ in range(steps):
        began = time.perf_counter()
        policy.loss(given).backward()
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return {"windows_per_s": round(batch / min(seconds), 1), "batch": batch, "device": device}


def child(path: str, way: str, size: int, batch: int, seconds: float, obs: int) -> None:
    """One measurement; prints it as a line of JSON. Run in a process of its own, because a peak stays."""
    torch.set_num_threads(1)
    observation = camera_observation(_CAMERAS[:1], _CAMERAS[1:], size)
    spec = Spec(Space(observation), Space(absolute_action()), Horizon(obs=obs, predict=16, execute=8))
    before = process_memory()
    with PeakMemory() as peak:
        result = _build(path, spec) if way == "build" else _read(path, spec, way, batch, seconds)
    after = process_memory()
    result["peak_mb"] = round((after["VmHWM"] - before["VmRSS"]) / 1e6)
    result["anonymous_mb"] = round(peak.grown / 1e6)
    print(json.dumps(result))


def _cached(path: str, spec: Spec) -> list[CachedEpisode]:
    with DemoFile(path) as file:
        return open_cache(file, needed_arrays(spec, "absolute"), file.names, progress=False)


def _build(path: str, spec: Spec) -> dict[str, Any]:
    shutil.rmtree(cache_folders(Path(path))[0], ignore_errors=True)
    began = time.perf_counter()
    windows = _cached(path, spec)
    seconds = time.perf_counter() - began
    files = windows[0].files.values()
    return {"seconds": round(seconds, 1), "gb": round(sum(f.path.stat().st_size for f in files) / 1e9, 3)}


def _read(path: str, spec: Spec, way: str, batch: int, seconds: float) -> dict[str, Any]:
    episodes = _cached(path, spec)
    windows = WindowDataset.of(episodes, spec)
    take: Callable[[Tensor], Batch] = windows.batch
    if way == "memory":
        windows = WindowDataset.of(load_episodes(path, spec, "absolute"), spec)
        take = windows.batch
    if way == "mapped":
        windows._source = _Mapped(windows._source, episodes)
    if way == "hdf5":
        windows._source = _Direct(windows._source, path, episodes)
    if way == "cold":
        for file in episodes[0].files.values():
            with file.path.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    generator = torch.Generator().manual_seed(0)
    count, total = 0, 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or count < 2:
        got = take(torch.randint(len(windows), (batch,), generator=generator))
        total += int(got["obs"][f"{_CAMERAS[0]}_image"][:, -1, 0, 0, 0].sum())  # the values arrived
        count += 1
    return {"windows_per_s": round(count * batch / spent), "batches": count, "checksum": total}


class _Other:
    """Steps whose large arrays are read in another way; the rest is as before."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Mapped(_Other):
    def __init__(self, inner: Any, episodes: list[CachedEpisode]) -> None:
        super().__init__(inner)
        self._maps = {
            key: np.load(file.path, mmap_mode="r", allow_pickle=False)
            for key, file in episodes[0].files.items()
            if inner.on_disk(key)
        }

    def take(self, key: str, rows: Tensor) -> Tensor:
        if key not in self._maps:
            taken: Tensor = self._inner.take(key, rows)
            return taken
        return torch.from_numpy(self._maps[key][rows.numpy()])


class _Direct(_Other):
    """Every array of every window from the HDF5 file, one read per window."""

    def __init__(self, inner: Any, path: str, episodes: list[CachedEpisode]) -> None:
        super().__init__(inner)
        self._file = h5py.File(path, "r")
        self._first = np.array([e.first for e in episodes])
        self._names = [e.name for e in episodes]

    def take(self, key: str, rows: Tensor) -> Tensor:
        name = action_key("absolute") if key == ACTION else f"obs/{key}"
        windows = []
        for window in rows.numpy():
            demo = int(np.searchsorted(self._first, window[0], side="right")) - 1
            steps = window - self._first[demo]
            stored = self._file[f"data/{self._names[demo]}/{name}"][steps[0] : steps[-1] + 1]
            windows.append(stored[steps - steps[0]])
        values = torch.from_numpy(np.stack(windows))
        return values.float() if values.is_floating_point() else values


def peak_memory(command: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Run a program in `folder`; its seconds, peak resident and largest anonymous memory, imports and all.

    What it prints is not shown. Raises RuntimeError if it fails.
    """
    began, most = time.perf_counter(), {"VmHWM": 0, "RssAnon": 0}
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, cwd=folder, stdout=said, stderr=said) as run:
        while run.poll() is None:
            try:
                now = process_memory(str(run.pid))
            except (OSError, KeyError):  # it has just ended
                now = {}
            most = {key: max(value, now.get(key, 0)) for key, value in most.items()}
            time.sleep(0.01)
        said.seek(0)
        last = said.read().strip().splitlines()[-1:]
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with status {run.returncode}: {last}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": round(most["VmHWM"] / 1e6),
        "anonymous_mb": round(most["RssAnon"] / 1e6),
    }
