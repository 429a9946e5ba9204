"""Reading a LeRobotDataset v3 without the lerobot package."""

from __future__ import annotations

import functools
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import Feature, mark_of, need, refuse_non_finite
from equidiff.data.formats.lerobot_meta import INDEX_FEATURES, EpisodeRow, read_episodes, read_info, read_tasks
from equidiff.data.formats.video import read_frames

__all__ = ["LeRobotDataset"]


class LeRobotDataset:
    """A dataset folder, read episode by episode; at most one row group of one file is kept in memory."""

    kind = "lerobot"

    def __init__(self, where: Path) -> None:
        need("pyarrow.parquet")
        self.where = where
        self._info = read_info(where)
        self._rows = read_episodes(where, self._info)
        self.features: Mapping[str, Feature] = {
            key: feature for key, feature in self._info.features.items() if key not in INDEX_FEATURES
        }
        self.hz: float | None = self._info.fps
        self.lengths = tuple(row.stop - row.start for row in self._rows)
        self._first: dict[tuple[int, int], int] = {}
        for row in self._rows:
            self._first.setdefault(row.file, row.start)
        self._file: tuple[Path, Any] | None = None
        self._group: tuple[tuple[Path, int, tuple[str, ...]], Any] | None = None
        self._tasks = read_tasks(where)

    @functools.cached_property
    def about(self) -> Mapping[str, Any]:
        """Format, name, tasks, and a mark of the content of all files."""
        return {
            "format": "LeRobotDataset v3.0",
            "name": self.where.name,
            "tasks": list(self._tasks),
            "mark": mark_of(self.where, "data", "meta", "videos"),
        }

    @property
    def valid(self) -> int:
        """Episodes of a split named valid, val or test, if it is the last one."""
        for name in ("valid", "val", "validation", "test"):
            first, _, end = str(self._info.splits.get(name, "")).partition(":")
            if first.isdigit() and end.isdigit() and int(end) == len(self._rows):
                return int(end) - int(first)
        return 0

    def close(self) -> None:
        """Close the open file; may be called twice."""
        if self._file is not None:
            self._file[1].close()
        self._file = self._group = None

    def read(self, episode: int, keys: Collection[str]) -> dict[str, NDArray[Any]]:
        """Arrays (T, *shape) of one episode: numbers as stored, pictures uint8 (T, H, W, 3)."""
        row, at = self._rows[episode], f"{self.where}: episode {episode}"
        columns = [key for key in keys if key not in self._info.video_keys]
        table = self._table(row, [*columns, *(key for key in INDEX_FEATURES if key != "task_index")], at)
        self._check_index(table, row, episode, at)
        arrays = {}
        for key in keys:
            feature = self._info.features[key]
            if key in self._info.depth_keys:
                raise DataError(f"{at}: {key!r} is a depth map, which is not supported; map a colour camera")
            if key in self._info.video_keys:
                file, start = row.videos[key]
                path = self._path(str(self._info.video_path), file, at, video_key=key)
                values: NDArray[Any] = read_frames(path, start, row.stop - row.start, self._info.fps, f"{at}: {key!r}")
            elif feature.picture:
                values = _pictures(table[key], key, at)
            else:
                values = _numbers(table[key], feature, key, at)
            seen = values.shape[1:]
            if feature.picture and seen not in (feature.shape, (*feature.shape[1:], feature.shape[0])):
                raise DataError(f"{at}: {key!r}: the pictures have shape {seen}, meta/info.json says {feature.shape}")
            if feature.picture and seen != feature.shape:
                values = np.moveaxis(values, -1, 1)
            arrays[key] = values
        return arrays

    def _check_index(self, table: Any, row: EpisodeRow, episode: int, at: str) -> None:
        count = row.stop - row.start
        expected = {
            "episode_index": np.full(count, episode),
            "frame_index": np.arange(count),
            "index": np.arange(row.start, row.stop),
        }
        for name, values in expected.items():
            found = table[name].to_numpy()
            if not np.array_equal(found, values):
                step = int(np.argmax(found != values))
                raise DataError(f"{at}: column {name!r} is {found[step]} at step {step}, expected {values[step]}")
        seconds, wanted = table["timestamp"].to_numpy(), np.arange(count) / self._info.fps
        late = np.abs(seconds - wanted) > 0.1 / self._info.fps
        if late.any():
            step = int(np.argmax(late))
            raise DataError(
                f"{at}: timestamp is {seconds[step]:.4f} s at step {step}, expected {wanted[step]:.4f} s: the steps do "
                f"not follow fps={self._info.fps:g} of meta/info.json"
            )

    def _table(self, row: EpisodeRow, columns: list[str], at: str) -> Any:
        """Rows of an episode; a file may hold many episodes in one row group or one in each."""
        arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
        path = self._path(self._info.data_path, row.file, at)
        low = row.start - self._first[row.file]
        high = low + row.stop - row.start
        try:
            if self._file is None or self._file[0] != path:
                self.close()
                self._file = (path, parquet.ParquetFile(path))
            file = self._file[1]
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{at}: {path} has no column {missing[0]!r}")
            parts, begin = [], 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if begin < high and end > low:
                    part = self._row_group(path, file, group, tuple(columns))
                    parts.append(part.slice(max(low - begin, 0), min(high, end) - max(low, begin)))
                begin = end
            if begin < high:
                raise DataError(f"{at}: {path} has {begin} rows, expected at least {high}; it is truncated")
            return arrow.concat_tables(parts)
        except (arrow.ArrowException, OSError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{at}: {path} cannot be read, perhaps truncated ({line}); copy it again") from error

    def _row_group(self, path: Path, file: Any, group: int, columns: tuple[str, ...]) -> Any:
        mark = (path, group, columns)
        if self._group is None or self._group[0] != mark:
            self._group = (mark, file.read_row_group(group, columns=list(columns)))
        return self._group[1]

    def _path(self, template: str, file: tuple[int, int], at: str, **names: str) -> Path:
        try:
            relative = template.format(chunk_index=file[0], file_index=file[1], **names)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"{at}: meta/info.json has the path {template!r}, which cannot be filled in") from error
        path = self.where / relative
        if not path.resolve().is_relative_to(self.where.resolve()) and ".." in Path(relative).parts:
            raise DataError(f"{at}: meta/info.json names {relative!r} outside the dataset")
        if not path.is_file():
            raise DataError(f"{at}: {path} is missing; copy the dataset again")
        return path


def _numbers(column: Any, feature: Feature, key: str, at: str) -> NDArray[Any]:
    """An arrow column of numbers or (nested) lists -> (T, *shape)."""
    array, count = column.combine_chunks(), len(column)
    while hasattr(array.type, "value_type") or hasattr(array, "storage"):
        if array.null_count:
            raise DataError(f"{at}: {key!r} has empty cells")
        array = array.storage if hasattr(array, "storage") else array.flatten()
    if array.null_count:
        raise DataError(f"{at}: {key!r} has empty cells")
    try:
        values = array.to_numpy(zero_copy_only=False)
        shaped: NDArray[Any] = values.reshape(count, *feature.shape)
    except ValueError as error:
        raise DataError(
            f"{at}: {key!r} has {len(array)} values in {count} steps, meta/info.json says {feature.shape} each"
        ) from error
    if shaped.dtype.kind not in "fiub":
        raise DataError(f"{at}: {key!r} holds {array.type}, expected numbers")
    refuse_non_finite(shaped, key, at)
    return shaped


def _pictures(column: Any, key: str, at: str) -> NDArray[np.uint8]:
    """An arrow column {bytes, path} of PNG or JPEG files -> (T, H, W, 3)."""
    pictures = []
    for step, cell in enumerate(column.to_pylist()):
        content = cell.get("bytes") if isinstance(cell, dict) else None
        if not content:
            raise DataError(f"{at}: {key!r} has no picture in step {step}; expected its bytes in the parquet file")
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{at}: {key!r}: the picture of step {step} is damaged ({error})") from error
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise DataError(f"{at}: {key!r} has pictures of different sizes: {sorted(sizes)}")
    return np.stack(pictures)
