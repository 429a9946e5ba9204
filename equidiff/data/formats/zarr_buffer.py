"""Reading the replay buffer of diffusion_policy (Chi et al. 2023): zarr v2, data/<key> (N, ...) and meta/episode_ends.

A folder or a .zip of it. Arrays hold all episodes one after the other; episode_ends[i] is the end of episode i.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import Feature, mark_of, need, refuse_non_finite

__all__ = ["ZarrReplayBuffer"]

_PICTURE_CODECS = (
    "imagecodecs_jpeg2k",
    "imagecodecs_jpegxl",
    "imagecodecs_jpeg",
    "imagecodecs_png",
    "imagecodecs_webp",
)


_BLOSC_HEADER = 16
"""Bytes; the last four are the size of the whole chunk (c-blosc's README_CHUNK_FORMAT)."""


class ZarrReplayBuffer:
    """A replay buffer, read episode by episode."""

    kind = "zarr"

    def __init__(self, where: Path) -> None:
        self.where = where
        self.hz: float | None = None
        self._store: Any = None
        zarr = need("zarr")
        if where.is_dir() and (where / "zarr.json").exists():
            raise DataError(f"{where}: is zarr version 3, expected version 2 as diffusion_policy writes it")
        try:
            self._store = zarr.ZipStore(str(where), mode="r") if where.is_file() else zarr.DirectoryStore(str(where))
            root = self._open(zarr)
            self._arrays = self._find_arrays(root)
            ends = self._ends(root)
        except zipfile.BadZipFile as error:
            self.close()
            raise DataError(f"{where}: is a damaged zip archive, perhaps truncated ({error}); copy it again") from error
        except BaseException:
            self.close()
            raise
        self.features: Mapping[str, Feature] = {
            key: Feature(tuple(array.shape[1:]), str(array.dtype), picture=_picture(array.shape[1:]))
            for key, array in self._arrays.items()
        }
        self._starts = (0, *(int(end) for end in ends[:-1]))
        self.lengths = tuple(int(end) - start for start, end in zip(self._starts, ends, strict=True))

    @functools.cached_property
    def about(self) -> Mapping[str, Any]:
        """Format, name, and a mark of the content: of a folder of its files, of a zip of its directory's checksums."""
        mark = _zip_mark(self._store.zf) if self.where.is_file() else mark_of(self.where, "data", "meta")
        return {"format": "diffusion_policy zarr", "name": self.where.name, "mark": mark}

    @property
    def valid(self) -> int:
        """A replay buffer does not say what is for validation."""
        return 0

    def close(self) -> None:
        """Close the zip file; may be called twice."""
        if hasattr(self._store, "close"):
            self._store.close()
        self._store = None

    def read(self, episode: int, keys: Collection[str]) -> dict[str, NDArray[Any]]:
        """Arrays (T, *shape) of one episode as stored."""
        low, at = self._starts[episode], f"{self.where}: episode {episode}"
        high = low + self.lengths[episode]
        arrays = {}
        for key in keys:
            values = _decoded(self._arrays[key], slice(low, high), f"{at}: {key!r}")
            refuse_non_finite(values, key, at)
            arrays[key] = values
        return arrays

    def _open(self, zarr: Any) -> Any:
        for name in (".zgroup", "data/.zgroup", "meta/.zgroup"):
            if name in self._store:
                self._description(name)
        try:
            root = zarr.open_group(self._store, mode="r")
        except (zarr.errors.GroupNotFoundError, KeyError) as error:
            raise DataError(f"{self.where}: is not a zarr group (no .zgroup); expected a replay buffer") from error
        except zarr.errors.MetadataError as error:
            raise DataError(f"{self.where}: .zgroup is not that of zarr version 2 ({error})") from error
        have = sorted(root.group_keys()) + sorted(root.array_keys())
        for name in ("data", "meta"):
            if name not in root or not hasattr(root[name], "array_keys"):
                found = ", ".join(have) or "nothing"
                raise DataError(
                    f"{self.where}: has no group {name!r}{did_you_mean(name, have)}; it has {found}. "
                    "Expected data/<key> and meta/episode_ends"
                )
        return root

    def _find_arrays(self, root: Any) -> dict[str, Any]:
        arrays = {}
        for key in sorted(root["data"].array_keys()):
            at = f"{self.where}: data/{key}"
            self._check_codecs(self._description(f"data/{key}/.zarray"), at)
            try:
                array = root["data"][key]
            except ValueError as error:
                raise DataError(f"{at}: cannot be opened ({error})") from error
            if array.ndim < 1 or array.dtype.kind not in "fiub":
                raise DataError(f"{at}: has shape {array.shape} and type {array.dtype}, expected numbers (N, ...)")
            if array.nchunks_initialized != array.nchunks:
                # zarr would silently give the fill value for a chunk that is not there
                raise DataError(
                    f"{at}: {array.nchunks - array.nchunks_initialized} of {array.nchunks} chunks are missing"
                )
            self._check_chunks(array, f"data/{key}")
            arrays[key] = array
        if not arrays:
            raise DataError(f"{self.where}: 'data' holds no arrays")
        return arrays

    def _description(self, name: str) -> dict[str, Any]:
        """What a .zarray or .zgroup says."""
        try:
            found = json.loads(self._store[name])
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{self.where}: {name}: damaged JSON, perhaps truncated ({error}); copy it again"
            ) from error
        if not isinstance(found, dict):
            raise DataError(f"{self.where}: {name} holds {type(found).__name__}, expected a JSON object; copy it again")
        return found

    def _check_codecs(self, about: Mapping[str, Any], at: str) -> None:
        codecs = [codec["id"] for codec in [about.get("compressor"), *(about.get("filters") or [])] if codec]
        if "pickle" in codecs or about.get("dtype") == "|O":
            raise DataError(f"{at}: holds pickled objects, which can run code when read; expected numbers")
        for codec in codecs:
            if not codec.startswith("imagecodecs_"):
                continue
            if codec not in _PICTURE_CODECS:
                raise DataError(f"{at}: codec {codec!r} is not supported; there are: {', '.join(_PICTURE_CODECS)}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                need("imagecodecs.numcodecs").register_codecs(codec, verbose=False)

    def _check_chunks(self, array: Any, name: str) -> None:
        """Refuse chunks that were cut: Blosc trusts the lengths in its header, and reads on behind a chunk's end.

        A zip archive has checksums of its own.
        """
        if self.where.is_file() or getattr(array.compressor, "codec_id", None) != "blosc":
            return
        for chunk in sorted((self.where / name).rglob("*")):
            if not re.fullmatch(r"\d+(\.\d+)*", chunk.name) or not chunk.is_file():
                continue  # zarr takes no notice of other files either
            try:
                with chunk.open("rb") as file:
                    header, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
            except OSError as error:
                raise DataError(f"{chunk}: {error.strerror}") from error
            wanted = int.from_bytes(header[12:16], "little") if len(header) == _BLOSC_HEADER else _BLOSC_HEADER
            if size != wanted:
                raise DataError(
                    f"{self.where}: {chunk.relative_to(self.where)}: a chunk of {size} bytes, expected {wanted}; "
                    "perhaps truncated; copy it again"
                )

    def _ends(self, root: Any) -> NDArray[np.int64]:
        if "episode_ends" not in root["meta"]:
            raise DataError(
                f"{self.where}: has no meta/episode_ends; it has {', '.join(sorted(root['meta'].array_keys()))}"
            )
        at = f"{self.where}: meta/episode_ends"
        self._check_codecs(self._description("meta/episode_ends/.zarray"), at)
        self._check_chunks(root["meta"]["episode_ends"], "meta/episode_ends")
        ends = _decoded(root["meta"]["episode_ends"], slice(None), at)
        if ends.ndim != 1 or not len(ends) or ends.dtype.kind not in "iu":
            raise DataError(
                f"{self.where}: meta/episode_ends has shape {ends.shape} {ends.dtype}, expected whole numbers"
            )
        ends = ends.astype(np.int64)
        steps = np.diff(ends, prepend=0)
        if (steps <= 0).any():
            i = int(np.argmax(steps <= 0))
            raise DataError(
                f"{self.where}: meta/episode_ends does not increase: entry {i} is {ends[i]} after {ends[i] - steps[i]}"
            )
        for key, array in self._arrays.items():
            if array.shape[0] != ends[-1]:
                raise DataError(
                    f"{self.where}: data/{key} has {array.shape[0]} steps, the last episode ends at {ends[-1]}"
                )
        return ends


def _picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and 3 in (shape[0], shape[-1]) and min(sorted(shape)[1:]) >= 8


def _decoded(array: Any, rows: slice, at: str) -> NDArray[Any]:
    try:
        return np.asarray(array[rows])
    except (OSError, ValueError, RuntimeError, TypeError, zipfile.BadZipFile) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{at} cannot be decoded, perhaps damaged ({line}); copy it again") from error


def _zip_mark(archive: zipfile.ZipFile) -> str:
    entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]
