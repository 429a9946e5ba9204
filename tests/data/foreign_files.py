"""Small foreign datasets written by hand, so that a reader is not tested with the misunderstandings of its writer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from demo_files import arrays
from PIL import Image

from equidiff.data import DemoWriter

FPS = 20
IDENTITY = """
name: test
control_hz: 20
obs:
  robot0_eef_pos: {from: observation.state, slice: [0, 3], kind: position}
  robot0_eef_quat_site: {from: observation.state, slice: [3, 7], kind: rotation, storage: quat_xyzw}
  robot0_gripper_qpos: {from: observation.state, slice: [7, 9], kind: scalars}
  cube_pos: {from: observation.state, slice: [9, 12], kind: position}
  cube_quat: {from: observation.state, slice: [12, 16], kind: rotation, storage: quat_xyzw}
actions_abs:
  position: {from: action, slice: [0, 3]}
  rotation: {from: action, slice: [3, 6], storage: rotvec}
  gripper: {from: action, slice: [6, 7], open: -1, closed: 1}
"""
ORDER = ("robot0_eef_pos", "robot0_eef_quat_site", "robot0_gripper_qpos", "cube_pos", "cube_quat")


def pictures(seed: int, steps: int, side: int = 64) -> np.ndarray[Any, Any]:
    """(T, side, side, 3) uint8: a shaded ground and a block that moves."""
    y, x = np.mgrid[:side, :side]
    out = np.repeat(np.stack([60 + x, 90 + y, 180 - x], -1)[None], steps, 0)
    for t in range(steps):
        out[t, 10:26, 8 + t : 24 + t] = (200, 40 + 10 * seed, 60)
    return out.astype(np.uint8)


def vectors(seed: int, steps: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(state (T, 16), action (T, 7)) float32 of the lift-like toy task."""
    made = arrays(seed, steps)
    state = np.concatenate([made["obs"][key] for key in ORDER], 1)
    return state.astype(np.float32), made["actions_abs"].astype(np.float32)


def write_picture_demos(path: Path, n: int = 3) -> Path:
    """A file of ours with a camera."""
    with DemoWriter(path, {"env_name": "Lift", "env_kwargs": {"control_freq": FPS}}) as writer:
        for seed in range(n):
            made = arrays(seed, 20 + seed)
            made["obs"]["agentview_image"] = pictures(seed, 20 + seed)
            writer.add(seed, **made)
        return writer.finish(valid_fraction=0.34)


def write_zarr(path: Path, n: int = 4, pack: bool = False, **changes: Any) -> Path:
    """diffusion_policy's replay buffer; `changes` replaces arrays by name (None: leaves them out)."""
    episodes = [vectors(seed, 18 + seed) for seed in range(n)]
    content = {
        "data/observation.state": np.concatenate([state for state, _ in episodes]),
        "data/action": np.concatenate([action for _, action in episodes]),
        "data/img": np.concatenate([pictures(i, len(a), 16) for i, (_, a) in enumerate(episodes)]),
        "meta/episode_ends": np.cumsum([len(a) for _, a in episodes]),
    }
    content |= changes
    store = zarr.ZipStore(str(path), mode="w") if pack else zarr.DirectoryStore(str(path))
    root = zarr.group(store)
    for name, values in content.items():
        if values is not None:
            root.create_dataset(name, data=values, chunks=(10, *values.shape[1:]))
    if pack:
        store.close()
    return path


def write_lerobot(root: Path, n: int = 4, picture: bool = True, one_group: bool = True, version: str = "v3.0") -> Path:
    """LeRobotDataset v3 from pyarrow alone: two episodes to a file, in one row group or one each."""
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [16], "names": None},
        "action": {"dtype": "float32", "shape": [7], "names": {"motors": list("abcdefg")}},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    features |= {k: {"dtype": "int64", "shape": [1], "names": None} for k in ("index", "frame_index", "episode_index")}
    if picture:
        features["observation.images.top"] = {"dtype": "image", "shape": [16, 16, 3], "names": ["height", "width", "c"]}
    rows, start = [], 0
    for file in range((n + 1) // 2):
        members = range(2 * file, min(2 * file + 2, n))
        tables = []
        for i in members:
            state, action = vectors(i, 18 + i)
            count = len(action)
            columns = {
                "action": pa.array(action.tolist(), pa.list_(pa.float32(), 7)),
                "observation.state": pa.array(state.tolist(), pa.list_(pa.float32())),  # either kind of list is valid
                "timestamp": pa.array(np.arange(count) / FPS, pa.float32()),
                "frame_index": pa.array(range(count)),
                "episode_index": pa.array([i] * count),
                "index": pa.array(range(start, start + count)),
                "task_index": pa.array([0] * count),
            }
            if picture:
                columns["observation.images.top"] = pa.array(
                    [{"bytes": _png(p), "path": None} for p in pictures(i, count, 16)]
                )
            tables.append(pa.table(columns))
            rows.append(
                {
                    "episode_index": i,
                    "tasks": ["lift"],
                    "length": count,
                    "dataset_from_index": start,
                    "dataset_to_index": start + count,
                    "data/chunk_index": 0,
                    "data/file_index": file,
                }
            )
            start += count
        path = root / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = pa.concat_tables(tables)
        pq.write_table(joined, path, row_group_size=len(joined) if one_group else len(tables[0]))
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "__index_level_0__": ["lift"]}), root / "meta/tasks.parquet")
    info = {
        "codebase_version": version,
        "fps": FPS,
        "features": features,
        "total_episodes": n,
        "total_frames": start,
        "total_tasks": 1,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "splits": {"train": f"0:{n}"},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def _png(picture: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
