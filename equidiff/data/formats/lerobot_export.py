"""A file in robomimic's layout -> a LeRobotDataset v3, written without the lerobot package."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.export_source import ExportSource
from equidiff.data.formats.foreign import need, writing
from equidiff.data.formats.lerobot_meta import INDEX_FEATURES
from equidiff.data.formats.lerobot_stats import episode_stats, merge_stats, plain
from equidiff.data.formats.lerobot_tables import (
    DATA_PATH,
    EPISODES_PATH,
    VIDEO_PATH,
    Limits,
    TableFiles,
    VideoFiles,
    data_schema,
    episode_table,
    write_tasks,
)
from equidiff.data.formats.video import CODECS
from equidiff.results import write_json

__all__ = ["MAPPING_FILE", "ExportReport", "export_lerobot"]

MAPPING_FILE = "meta/equidiff_mapping.yaml"
"""The way back: a mapping file in every exported dataset (LeRobot does not look at it)."""

STATE, ACTION = "observation.state", "action"


@dataclass(frozen=True)
class ExportReport:
    """What was written, and which arrays of the file were left out and why."""

    path: Path
    episodes: int
    steps: int
    left_out: Mapping[str, str]


def export_lerobot(
    data: Path,
    out: Path,
    control: str = "absolute",
    obs: Sequence[str] | None = None,
    images: str = "video",
    codec: str = "libsvtav1",
    crf: int = 18,
    task: str | None = None,
    robot_type: str = "panda",
    control_hz: float | None = None,
    limits: Limits | None = None,
    progress: bool = True,
) -> ExportReport:
    """Write all demonstrations of `data` to the new folder `out`.

    obs: observation keys; None: all vectors and colour pictures. images: "video" (mp4, with loss) or "png" (in the
    parquet files, without loss). crf: quality of the video, lower is better. Training demonstrations come first, those
    of mask/valid last. Nothing is left under the name `out` unless everything was written. Raises DataError.
    """
    need("pyarrow.parquet")
    if images not in ("video", "png"):
        raise DataError(f"images={images}: expected video or png{did_you_mean(images, ('video', 'png'))}")
    if codec not in CODECS:
        raise DataError(f"codec={codec}: no such encoder{did_you_mean(codec, CODECS)}; there are: {', '.join(CODECS)}")
    if not 0 <= crf <= 51:
        raise DataError(f"crf={crf}: expected a quality from 0 (best) to 51")
    if out.exists():
        raise DataError(f"{out}: exists already; remove it or choose another name")
    limits = limits or Limits()
    with ExportSource(data, control, obs, control_hz) as source:
        part = out.parent / f".{out.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            with writing(out):
                part.mkdir(parents=True)
                steps = _write(source, part, images, codec, crf, task or source.task, robot_type, limits, progress)
                part.rename(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return ExportReport(out, len(source.names), steps, source.left_out)


def _write(
    source: ExportSource,
    root: Path,
    images: str,
    codec: str,
    crf: int,
    task: str,
    robot_type: str,
    limits: Limits,
    progress: bool,
) -> int:
    cameras = {f"observation.images.{key.removesuffix('_image')}": key for key in source.pictures}
    videos = {}
    if images == "video":
        videos = {
            name: VideoFiles(root, name, source.pictures[key][:2], source.fps, limits, codec, crf)
            for name, key in cameras.items()
        }
    vectors = {STATE: len(source.state_names), ACTION: len(source.action_names)}
    vectors = {key: size for key, size in vectors.items() if size}
    schema = data_schema(vectors, [] if videos else list(cameras))
    total: dict[str, dict[str, NDArray[Any]]] = {}
    steps = 0
    arrow = need("pyarrow")
    with TableFiles(root, DATA_PATH, limits) as data, TableFiles(root, EPISODES_PATH, limits) as episodes:
        try:
            for i, name in enumerate(tqdm(source.names, desc="episodes", unit="episode", disable=not progress)):
                state, action, pictures = source.episode(name)
                count = len(action)
                arrays: dict[str, NDArray[Any]] = {ACTION: action, **({STATE: state} if STATE in vectors else {})}
                arrays |= {camera: pictures[key] for camera, key in cameras.items()}
                arrays |= {
                    "timestamp": np.arange(count, dtype=np.float32) / np.float32(source.fps),
                    "frame_index": np.arange(count),
                    "episode_index": np.full(count, i),
                    "index": np.arange(steps, steps + count),
                    "task_index": np.zeros(count, dtype=np.int64),
                }
                place, at = data.place(), episodes.place()
                row: dict[str, Any] = {"episode_index": i, "tasks": [task], "length": count}
                row |= {"data/chunk_index": place[0], "data/file_index": place[1]}
                row |= {"dataset_from_index": steps, "dataset_to_index": steps + count}
                data.add(episode_table(schema, arrays))
                for camera, video in videos.items():
                    file, start, end = video.add(arrays[camera])
                    row |= {f"videos/{camera}/chunk_index": file[0], f"videos/{camera}/file_index": file[1]}
                    row |= {f"videos/{camera}/from_timestamp": start, f"videos/{camera}/to_timestamp": end}
                for key, values in arrays.items():
                    stats = episode_stats(values, picture=key in cameras)
                    total[key] = merge_stats(total[key], stats) if key in total else stats
                    row |= {f"stats/{key}/{stat}": value for stat, value in plain(stats).items()}
                row |= {"meta/episodes/chunk_index": at[0], "meta/episodes/file_index": at[1]}
                episodes.add(arrow.Table.from_pylist([row]))
                steps += count
        finally:
            for video in videos.values():
                video.close()
    write_tasks(root, [task])
    write_json(root / "meta" / "stats.json", {key: plain(stats) for key, stats in total.items()})
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": len(source.names),
        "total_frames": steps,
        "total_tasks": 1,
        "chunks_size": limits.files,
        "data_files_size_in_mb": limits.data_mb,
        "video_files_size_in_mb": limits.video_mb,
        "fps": source.fps,
        "splits": source.splits,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if videos else None,
        "features": _features(source, cameras, codec if videos else None),
    }
    write_json(root / "meta" / "info.json", info)
    mapping = {"name": source.env_name, **source.mapping(STATE, ACTION, cameras)}
    head = "# How this dataset was made from a robomimic file, so that it can be imported again.\n"
    (root / MAPPING_FILE).write_text(head + yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")
    return steps


def _features(source: ExportSource, cameras: Mapping[str, str], codec: str | None) -> dict[str, Any]:
    features: dict[str, Any] = {}
    for key, names in ((STATE, source.state_names), (ACTION, source.action_names)):
        if names:
            features[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    for camera, key in cameras.items():
        height, width, _ = source.pictures[key]
        features[camera] = {
            "dtype": "video" if codec else "image",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
        if codec:
            features[camera]["info"] = {
                "video.height": height,
                "video.width": width,
                "video.codec": {"libsvtav1": "av1"}.get(codec, codec),
                "video.pix_fmt": "yuv420p",
                "video.fps": source.fps,
                "video.channels": 3,
                "is_depth_map": False,
                "has_audio": False,
            }
    for key, dtype in INDEX_FEATURES.items():
        features[key] = {"dtype": dtype, "shape": [1], "names": None}
    return features
