"""Pictures as others store them -> ours: uint8 (T, H, W, 3), uint16 depth in 0.1 mm (T, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from equidiff.data.episode import DataError
from equidiff.data.formats.mapping import Entry

__all__ = ["convert_depth", "convert_picture"]


def convert_picture(values: NDArray[Any], entry: Entry, channels_first: bool, at: str) -> NDArray[np.uint8]:
    """Colour pictures (T, H, W, 3) or (T, 3, H, W), any number type -> uint8 (T, h, w, 3)."""
    if channels_first:
        values = np.moveaxis(values, 1, -1)
    if values.dtype != np.uint8 or entry.scale != 1.0:
        scaled = values.astype(np.float32) * entry.scale
        low, high = float(scaled.min()), float(scaled.max())
        if low < -0.5 or high > 255.5:
            raise DataError(f"{at}: grey levels reach from {low:.4g} to {high:.4g}, expected 0 to 255; set scale")
        if values.dtype.kind == "f" and entry.scale == 1.0 and high <= 1.0:
            raise DataError(f"{at}: grey levels reach from {low:.4g} to {high:.4g}; set scale: 255")
        values = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if entry.bgr:
        values = values[..., ::-1]
    values = _crop(values, entry, at)
    if entry.size and entry.size != values.shape[1:3]:
        size = (entry.size[1], entry.size[0])
        # BOX averages whole pixels when shrinking, like a renderer with fewer of them
        values = np.stack([np.asarray(Image.fromarray(v).resize(size, Image.Resampling.BOX)) for v in _plain(values)])
    return np.ascontiguousarray(values)


def convert_depth(values: NDArray[Any], entry: Entry, at: str) -> NDArray[np.uint16]:
    """Distances (T, H, W) in any unit -> uint16 in 0.1 mm; nothing seen, or beyond 6.5 m, is 0."""
    if values.ndim == 4:
        values = values[..., 0] if values.shape[-1] == 1 else values[:, 0]
    values = _crop(values, entry, at)
    if entry.size and entry.size != values.shape[1:3]:
        # averaging would invent distances between near and far
        rows = (np.arange(entry.size[0]) + 0.5) * values.shape[1] / entry.size[0]
        columns = (np.arange(entry.size[1]) + 0.5) * values.shape[2] / entry.size[1]
        values = values[:, rows.astype(int)][:, :, columns.astype(int)]
    tenths = values.astype(np.float64) * entry.scale * 1e4
    seen = (tenths > 0) & (tenths <= np.iinfo(np.uint16).max)
    return np.where(seen, np.rint(tenths), 0).astype(np.uint16)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values)


def _crop(values: NDArray[Any], entry: Entry, at: str) -> NDArray[Any]:
    if entry.crop is None:
        return values
    top, left, height, width = entry.crop
    if top + height > values.shape[1] or left + width > values.shape[2]:
        raise DataError(
            f"{at}: crop {list(entry.crop)} (top, left, height, width) reaches beyond the picture of "
            f"{values.shape[1]} x {values.shape[2]} pixels"
        )
    return values[:, top : top + height, left : left + width]
