"""Writing a LeRobotDataset v3's tables and videos: many episodes to a file, the next file when one is full."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from equidiff.data.formats.foreign import need
from equidiff.data.formats.lerobot_meta import INDEX_FEATURES
from equidiff.data.formats.video import VideoFile

__all__ = ["Limits", "TableFiles", "VideoFiles", "data_schema", "episode_table", "write_tasks"]

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


class Limits:
    """Sizes at which the next file is begun (bytes), and files to a chunk; the defaults are LeRobot's."""

    def __init__(self, data_mb: float = 100, video_mb: float = 200, files: int = 1000) -> None:
        self.data_mb, self.video_mb, self.files = data_mb, video_mb, files

    def after(self, at: tuple[int, int]) -> tuple[int, int]:
        """(chunk, file) that comes next."""
        chunk, file = at
        return (chunk + 1, 0) if file == self.files - 1 else (chunk, file + 1)


class TableFiles:
    """Parquet files at `template`, one row group for each table that is added."""

    def __init__(self, root: Path, template: str, limits: Limits) -> None:
        self._root, self._template, self._limits = root, template, limits
        self._writer: Any = None
        self._path = root
        self._largest = 0  # bytes of the largest table in the open file
        self.at = (0, 0)

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def place(self) -> tuple[int, int]:
        """(chunk, file) that takes the next table; begins a new file if another table may not fit."""
        if self._writer is not None and self._path.stat().st_size + self._largest >= self._limits.data_mb * 2**20:
            self.close()
            self.at, self._largest = self._limits.after(self.at), 0
        return self.at

    def add(self, table: Any) -> None:
        """Append a table to the file of the last `place`."""
        if self._writer is None:
            self._path = self._root / self._template.format(chunk_index=self.at[0], file_index=self.at[1])
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = need("pyarrow.parquet").ParquetWriter(self._path, table.schema, compression="snappy")
        before = self._path.stat().st_size
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self._largest = max(self._largest, self._path.stat().st_size - before)

    def close(self) -> None:
        """Finish the open file; may be called twice."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VideoFiles:
    """The mp4 files of one camera."""

    def __init__(
        self, root: Path, key: str, shape: tuple[int, int], fps: int, limits: Limits, codec: str, crf: int
    ) -> None:
        self._root, self._key, self._shape, self._fps = root, key, shape, fps
        self._limits, self._codec, self._crf = limits, codec, crf
        self._video: VideoFile | None = None
        self._largest = 0
        self._at = (0, 0)

    def add(self, pictures: NDArray[np.uint8]) -> tuple[tuple[int, int], float, float]:
        """Append an episode (T, H, W, 3): (chunk and file, first and end second in it)."""
        if self._video is not None and self._video.size + self._largest >= self._limits.video_mb * 2**20:
            self.close()
            self._at, self._largest = self._limits.after(self._at), 0
        if self._video is None:
            name = VIDEO_PATH.format(video_key=self._key, chunk_index=self._at[0], file_index=self._at[1])
            self._video = VideoFile(self._root / name, self._shape, self._fps, self._codec, self._crf)
        before, start = self._video.size, self._video.frames
        self._video.add(pictures)
        self._largest = max(self._largest, self._video.size - before)
        return self._at, start / self._fps, self._video.frames / self._fps

    def close(self) -> None:
        """Finish the open file; may be called twice."""
        if self._video is not None:
            self._video.close()
            self._video = None


def data_schema(vectors: Mapping[str, int], pictures: Sequence[str]) -> Any:
    """Arrow schema of a data file; its metadata tells Hugging Face's `datasets` the same."""
    arrow = need("pyarrow")
    fields, about = [], {}
    for key, size in vectors.items():
        fields.append(arrow.field(key, arrow.list_(arrow.float32(), size) if size > 1 else arrow.float32()))
        value = {"dtype": "float32", "_type": "Value"}
        about[key] = {"feature": value, "length": size, "_type": "Sequence"} if size > 1 else value
    for key in pictures:
        fields.append(arrow.field(key, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])))
        about[key] = {"_type": "Image"}
    for key, dtype in INDEX_FEATURES.items():
        fields.append(arrow.field(key, getattr(arrow, dtype)()))
        about[key] = {"dtype": dtype, "_type": "Value"}
    return arrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": about}})})


def episode_table(schema: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Arrays (T, ...) of one episode as a table of `schema`; pictures become PNG, without loss."""
    arrow = need("pyarrow")
    columns = []
    for field in schema:
        values = arrays[field.name]
        if arrow.types.is_struct(field.type):
            cells = [{"bytes": _png(picture), "path": f"frame-{i:06d}.png"} for i, picture in enumerate(values)]
            columns.append(arrow.array(cells, type=field.type))
        elif arrow.types.is_fixed_size_list(field.type):
            flat = arrow.array(np.ascontiguousarray(values, np.float32).ravel())
            columns.append(arrow.FixedSizeListArray.from_arrays(flat, field.type.list_size))
        else:
            columns.append(arrow.array(values.reshape(len(values)), type=field.type))
    return arrow.Table.from_arrays(columns, schema=schema)


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """meta/tasks.parquet as pandas writes a table {task_index} with the index `task`."""
    arrow = need("pyarrow")
    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    about = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {**text, "name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
            text,
        ],
        "creator": {"library": "pyarrow", "version": arrow.__version__},
        "pandas_version": "2.0.0",
    }
    schema = arrow.schema(
        [("task_index", arrow.int64()), ("task", arrow.string())], metadata={"pandas": json.dumps(about)}
    )
    table = arrow.table({"task_index": list(range(len(tasks))), "task": list(tasks)}, schema=schema)
    (root / "meta").mkdir(parents=True, exist_ok=True)
    need("pyarrow.parquet").write_table(table, root / "meta" / "tasks.parquet")


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
