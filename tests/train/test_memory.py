"""Pictures of a cache do not pile up in memory, whatever is done with them in training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from equidiff.data.bench import peak_memory

STEPS, SIDE = 150, 96
_TRAINS = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from equidiff.data import WindowDataset
from equidiff.memory import PeakMemory
from equidiff.data.source import load_training_data
from equidiff.fields import Image, Position, Rotation, Scalars
from equidiff.spec import Horizon, Space, Spec
from equidiff.train.batches import ReadAhead, fitting_batches, validation_draws

path, side = Path(sys.argv[1]), int(sys.argv[2])
action = (Position("position"), Rotation("rotation", storage="rotvec"), Scalars("gripper"))
spec = Spec(Space((Image("a_image", height=side, width=side), Position("p"))), Space(action), Horizon(2, 16, 8))

def trains(cache):
    with PeakMemory() as peak:
        node = {"path": str(path), "cache": cache, "val_ratio": 0.3}
        source = load_training_data(node, spec, "absolute", {}, path.parent)
        windows, valid = (WindowDataset.of(part, spec) for part in (source.train, source.valid))
        for batch in fitting_batches(windows, spec):
            batch["obs"]["p"].sum()
        plan = lambda step: torch.randint(len(windows), (16,), generator=torch.Generator().manual_seed(step))
        ahead = ReadAhead(plan, windows.batch, 60, 2)
        total = sum(int(ahead(step)["obs"]["a_image"].sum()) for step in range(60))
        ahead.close()
        total += sum(int(valid.batch(rows)["obs"]["a_image"].sum()) for rows in validation_draws(valid, 16)[:60])
    return peak.grown, total

print(json.dumps([trains("disk"), trains("memory")]))
"""


def write(path: Path, n: int) -> int:
    """Demonstrations whose pictures are one grey each; returns the bytes of the pictures."""
    with h5py.File(path, "w") as file:
        for i in range(n):
            demo = file.create_group(f"data/demo_{i}")
            demo["actions_abs"], demo["obs/p"] = np.zeros((STEPS, 7)), np.zeros((STEPS, 3))
            shape = (STEPS, SIDE, SIDE, 3)
            demo.create_dataset("obs/a_image", shape, np.uint8, chunks=(10, *shape[1:]), fillvalue=i + 1)
    return n * STEPS * SIDE * SIDE * 3


def test_training_from_disk_holds_few_of_the_pictures(tmp_path: Path) -> None:
    """Normaliser, read-ahead and validation; from memory the same takes what the pictures take, so this can fail."""
    pictures = write(tmp_path / "demos.hdf5", n=60)
    done = subprocess.run(
        [sys.executable, "-c", _TRAINS, str(tmp_path / "demos.hdf5"), str(SIDE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (disk, read), (memory, same) = json.loads(done.stdout.splitlines()[-1])
    assert read == same > 0
    assert disk < 0.4 * pictures
    assert memory > 0.9 * pictures


def test_the_peak_of_a_program_is_its_own() -> None:
    program = "import time; held = bytearray(80_000_000); time.sleep(0.3)"
    found = peak_memory([sys.executable, "-c", program])
    assert 80 < found["anonymous_mb"] <= found["peak_mb"] < 150
    assert found["seconds"] > 0.3
