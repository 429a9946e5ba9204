"""Pictures of stored observations: contact sheets of cameras, depth in colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from equidiff.report.inspect_charts import ramp
from equidiff.report.pictures import Clip, contact_sheet

__all__ = ["depth_range", "depth_to_rgb", "image_uri", "sheets", "to_rgb"]

_LEAST = 168  # pixels: smaller pictures are enlarged by a whole number


def sheets(
    frames: Mapping[str, NDArray[Any]], kind: str, success: Mapping[str, bool | None], columns: int = 2
) -> list[Image.Image]:
    """Contact sheets of {demonstration: (first, middle, last)}, one for each size of picture."""
    limits = depth_range(list(frames.values())) if kind == "depth" else (0.0, 1.0)
    sizes: dict[tuple[int, ...], list[Clip]] = {}
    for demo, stored in frames.items():
        rgb = depth_to_rgb(stored, *limits) if kind == "depth" else to_rgb(stored)
        times = max(1, -(-_LEAST // min(rgb.shape[1:3])))
        enlarged = rgb.repeat(times, 1).repeat(times, 2)
        size = f", {rgb.shape[2]}x{rgb.shape[1]}"
        sizes.setdefault(rgb.shape[1:], []).append(Clip(enlarged, f"{demo}{size}", success.get(demo)))
    return [contact_sheet(clips, columns) for clips in sizes.values()]


def to_rgb(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """(F, H, W, 1, 3 or 4) of whole numbers to 255 or fractions to 1 -> (F, H, W, 3) uint8."""
    picture = np.asarray(stored)
    if picture.dtype.kind == "f":
        finite = np.nan_to_num(picture, posinf=0, neginf=0)
        picture = np.clip(finite * (255 if finite.max(initial=0) <= 1 else 1), 0, 255)
    picture = picture.astype(np.uint8)
    return picture.repeat(3, -1) if picture.shape[-1] == 1 else np.ascontiguousarray(picture[..., :3])


def depth_range(stored: list[NDArray[Any]]) -> tuple[float, float]:
    """The middle 98 % of what is seen, in stored units; zeros are nothing seen."""
    values = np.concatenate([s.reshape(-1)[:: max(1, s.size // 50_000)] for s in stored]).astype(np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.01, 0.99])
    return float(low), float(max(high, low + 1e-9))


def depth_to_rgb(stored: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(F, H, W) or (F, H, W, 1): near yellow, far blue, nothing seen grey."""
    depth = np.asarray(stored, dtype=np.float64)
    depth = depth[..., 0] if depth.ndim == 4 else depth
    seen = np.isfinite(depth) & (depth > 0)
    colours = ramp(1 - (np.where(seen, depth, low) - low) / (high - low))
    colours[~seen] = (150, 150, 150)
    return colours


def image_uri(picture: Image.Image) -> str:
    """The picture as an address inside the page; many colours as JPEG, which is a fifth of the size."""
    buffer = io.BytesIO()
    large = picture.width * picture.height > 400_000
    picture.save(buffer, "JPEG" if large else "PNG", **({"quality": 88} if large else {"optimize": True}))
    kind = "jpeg" if large else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
