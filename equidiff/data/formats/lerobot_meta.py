"""The meta folder of a LeRobotDataset v3: info.json, tasks.parquet and the table of episodes.

Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and lerobot/datasets of lerobot 0.6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import Feature, need

__all__ = ["INDEX_FEATURES", "EpisodeRow", "Info", "read_episodes", "read_info", "read_parquet", "read_tasks"]

INDEX_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has beside its features."""


@dataclass(frozen=True)
class Info:
    """What meta/info.json says."""

    fps: float
    features: Mapping[str, Feature]
    video_keys: frozenset[str]
    depth_keys: frozenset[str]
    total_episodes: int
    total_frames: int
    data_path: str
    video_path: str | None
    splits: Mapping[str, str]


@dataclass(frozen=True)
class EpisodeRow:
    """Where an episode lies: rows [start, stop) of the dataset, its files, and {video key: (path, first second)}."""

    start: int
    stop: int
    file: tuple[int, int]
    videos: Mapping[str, tuple[tuple[int, int], float]]


def read_info(root: Path) -> Info:
    """Read and check meta/info.json. Older versions are refused with the converter's name."""
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise DataError(f"{root}: has no meta/info.json, so it is not a LeRobotDataset")
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged JSON ({error}); copy it again") from error
    version = str(node.get("codebase_version")) if isinstance(node, dict) else "None"
    if version.startswith(("v1.", "v2.", "2.", "1.")):
        raise DataError(
            f"{path}: codebase_version is {version}, expected v3.0. Convert it with LeRobot (>= 0.4): "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=NAME"
            + ("" if version == "v2.1" else " (from v2.1; older versions need LeRobot's earlier converters first)")
        )
    if not version.startswith(("v3.", "3.")):
        raise DataError(f"{path}: codebase_version is {version}, expected v3.0")
    try:
        features, videos, depths = {}, set(), set()
        for key, about in node["features"].items():
            names = about.get("names")
            flat = tuple(map(str, names)) if isinstance(names, list) else ()
            shape = tuple(int(n) for n in about["shape"])
            picture = about["dtype"] in ("image", "video")
            features[key] = Feature(
                shape, str(about["dtype"]), flat if flat and len(flat) == shape[-1] else (), picture
            )
            if about["dtype"] == "video":
                videos.add(key)
            notes = {**(about.get("video_info") or {}), **(about.get("info") or {})}
            if notes.get("is_depth_map") or notes.get("video.is_depth_map"):
                depths.add(key)
        info = Info(
            float(node["fps"]),
            features,
            frozenset(videos),
            frozenset(depths),
            int(node["total_episodes"]),
            int(node["total_frames"]),
            str(node["data_path"]),
            node.get("video_path"),
            node.get("splits") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not the layout of v3.0 ({type(error).__name__}: {error})") from error
    if not info.fps > 0:
        raise DataError(f"{path}: fps is {info.fps}, expected a rate > 0")
    return info


def read_parquet(path: Path, columns: list[str] | None = None) -> Any:
    """A whole parquet file as an arrow table."""
    parquet, arrow = need("pyarrow.parquet"), need("pyarrow")
    try:
        return parquet.ParquetFile(path).read(columns=columns)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a readable parquet file, perhaps truncated ({_line(error)}); copy it again"
        ) from error


def read_tasks(root: Path) -> tuple[str, ...]:
    """Descriptions of the tasks, by task_index."""
    path = root / "meta" / "tasks.parquet"
    if not path.is_file():
        return ()
    table = read_parquet(path)
    # pandas stores the text as an index, which older writers left without a name
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise DataError(f"{path}: has columns {', '.join(table.column_names)}; expected task and task_index")
    rows = sorted(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
    return tuple(str(task) for _, task in rows)


def read_episodes(root: Path, info: Info) -> tuple[EpisodeRow, ...]:
    """All rows of meta/episodes, in order, checked against info.json."""
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise DataError(f"{root}: has no meta/episodes/chunk-*/file-*.parquet; the dataset is incomplete")
    wanted = ["episode_index", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
    for key in sorted(info.video_keys):
        wanted += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for path in files:
        table = read_parquet(path, None if path == files[0] else wanted)
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise DataError(f"{path}: has no column {missing[0]!r}")
        rows += table.select(wanted).to_pylist()
    if any(value is None for row in rows for value in row.values()):
        raise DataError(f"{root}/meta/episodes: has empty cells; the dataset was not finalised")
    rows.sort(key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in rows] != list(range(info.total_episodes)):
        raise DataError(
            f"{root}: meta/info.json counts {info.total_episodes} episodes, meta/episodes lists {len(rows)}, expected "
            "them numbered from 0 without gaps"
        )
    found, end = [], 0
    for row in rows:
        start, stop = row["dataset_from_index"], row["dataset_to_index"]
        if start != end or stop <= start:
            raise DataError(
                f"{root}: episode {row['episode_index']} takes rows {start} to {stop}, expected to start at {end} and "
                "to have at least one"
            )
        end = stop
        videos = {
            key: (
                (row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]),
                float(row[f"videos/{key}/from_timestamp"]),
            )
            for key in info.video_keys
        }
        found.append(EpisodeRow(start, stop, (row["data/chunk_index"], row["data/file_index"]), videos))
    if end != info.total_frames:
        raise DataError(f"{root}: meta/info.json counts {info.total_frames} frames, the episodes have {end}")
    return tuple(found)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
