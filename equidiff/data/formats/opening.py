"""Which format a path is in."""

from __future__ import annotations

from pathlib import Path

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import ForeignDataset
from equidiff.data.formats.lerobot import LeRobotDataset
from equidiff.data.formats.zarr_buffer import ZarrReplayBuffer

__all__ = ["FORMATS", "open_dataset"]

FORMATS = ("auto", "lerobot", "zarr")


def open_dataset(path: Path, kind: str = "auto") -> ForeignDataset:
    """Open a LeRobotDataset v3 folder or a replay buffer (.zarr folder, .zarr.zip). Raises DataError."""
    if kind not in FORMATS:
        raise DataError(f"format={kind}: no such format{did_you_mean(kind, FORMATS)}; there are: {', '.join(FORMATS)}")
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file or folder{did_you_mean(path.name, beside)}")
    if kind == "auto":
        kind = _guess(path)
    if kind == "lerobot":
        if not path.is_dir():
            raise DataError(f"{path}: a LeRobotDataset is a folder, this is a file")
        return LeRobotDataset(path)
    if path.is_file() and not _starts_with(path, b"PK"):
        raise DataError(f"{path}: is not a .zarr.zip file (not a zip archive)")
    return ZarrReplayBuffer(path)


def _guess(path: Path) -> str:
    if path.is_dir() and (path / "meta" / "info.json").exists():
        return "lerobot"
    if path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata")):
        return "zarr"
    if path.is_file() and _starts_with(path, b"PK"):
        return "zarr"
    if path.is_file() and _starts_with(path, b"\x89HDF"):
        raise DataError(f"{path}: is an HDF5 file; robomimic's layout needs no import, train on it: data.path={path}")
    raise DataError(
        f"{path}: is neither a LeRobotDataset v3 (meta/info.json) nor a replay buffer of diffusion_policy (.zgroup, or "
        "a zip of it)"
    )


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark
