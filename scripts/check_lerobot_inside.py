"""The part of scripts/check_lerobot.py that runs in LeRobot's environment; needs only lerobot and numpy.

python check_lerobot_inside.py read DATASET RESULT.npz     # everything LeRobotDataset gives, frame by frame
python check_lerobot_inside.py write SOURCE.npz DATASET    # a dataset recorded by LeRobotDataset
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
from lerobot.datasets import LeRobotDataset


def read(dataset: Path, result: Path) -> None:
    """Load every frame, a window of two steps for each camera, and the statistics."""
    data = LeRobotDataset("check/exported", root=dataset, video_backend="pyav")
    frames = [data[i] for i in range(len(data))]
    arrays: dict[str, Any] = {}
    for key in data.meta.features:
        values = np.stack([np.asarray(frame[key]) for frame in frames])
        if key in data.meta.camera_keys:  # (N, 3, H, W) in [0, 1]
            values = np.rint(np.moveaxis(values, 1, -1) * 255).astype(np.uint8)
        arrays[key] = values
    windows = LeRobotDataset(
        "check/exported",
        root=dataset,
        video_backend="pyav",
        delta_timestamps={key: [-1 / data.fps, 0.0] for key in ["action", *data.meta.camera_keys]},
    )
    sample = windows[1]
    about = {
        "lerobot": lerobot.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "frames": len(data),
        "episodes": data.num_episodes,
        "fps": data.fps,
        "tasks": [frame["task"] for frame in frames[:1]],
        "window": {key: list(sample[key].shape) for key in ["action", *data.meta.camera_keys]},
        "stats": {
            key: {name: np.asarray(value).ravel().tolist() for name, value in stats.items()}
            for key, stats in data.meta.stats.items()
        },
    }
    np.savez(result, about=np.array(json.dumps(about)), **arrays)


def write(source: Path, dataset: Path) -> None:
    """Record the episodes of `source` as a user of LeRobot does: one camera as video, one as pictures."""
    with np.load(source, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    shape = arrays["video"].shape[1:]
    names = ["height", "width", "channels"]
    features = {
        "observation.state": {"dtype": "float32", "shape": arrays["state"].shape[1:], "names": None},
        "action": {"dtype": "float32", "shape": arrays["action"].shape[1:], "names": None},
        "observation.images.video": {"dtype": "video", "shape": shape, "names": names},
        "observation.images.still": {"dtype": "image", "shape": shape, "names": names},
    }
    data = LeRobotDataset.create("check/recorded", int(arrays["fps"]), features, root=dataset, use_videos=True)
    start = 0
    for end in arrays["ends"]:
        for i in range(start, end):
            data.add_frame(
                {
                    "observation.state": arrays["state"][i],
                    "action": arrays["action"][i],
                    "observation.images.video": arrays["video"][i],
                    "observation.images.still": arrays["still"][i],
                    "task": "check",
                }
            )
        data.save_episode()
        start = int(end)
    data.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
