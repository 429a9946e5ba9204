"""Contact sheets and videos of filmed episodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Clip", "contact_sheet", "write_video"]

_SOLVED, _FAILED, _BACKGROUND, _INK = (26, 152, 80), (215, 48, 39), (255, 255, 255), (40, 40, 40)
_BORDER, _GAP = 3, 6


@dataclass(frozen=True)
class Clip:
    """A filmed episode: frames (F, H, W, 3) uint8 and what to write above them; success None if not known."""

    frames: np.ndarray[Any, Any]
    caption: str
    success: bool | None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or not len(self.frames):
            raise ValueError(
                f"Clip {self.caption!r}: expected frames (F, H, W, 3) uint8 with F >= 1, "
                f"got {self.frames.shape} {self.frames.dtype}"
            )


def contact_sheet(clips: Sequence[Clip], columns: int = 2) -> Image.Image:
    """Start, middle and final frame of every episode, framed green if solved, red if not, grey if not known."""
    if not clips:
        raise ValueError("contact_sheet: needs at least one filmed episode")
    height, width = _size(clips)
    font = max(12, height // 10)
    cell = (3 * width + 2 * _BORDER, height + _caption_height(font) + 2 * _BORDER)
    columns = min(columns, len(clips))
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * (cell[0] + _GAP) - _GAP, rows * (cell[1] + _GAP) - _GAP), _BACKGROUND)
    for i, clip in enumerate(clips):
        chosen = [clip.frames[j] for j in (0, len(clip.frames) // 2, -1)]
        corner = ((i % columns) * (cell[0] + _GAP), (i // columns) * (cell[1] + _GAP))
        sheet.paste(_framed(np.concatenate(chosen, 1), clip.caption, clip.success, font), corner)
    return sheet


def write_video(
    path: str | os.PathLike[str], rows: Sequence[Sequence[Clip]], fps: float = 10.0, hold_s: float = 1.5
) -> Path:
    """H.264 film of a grid of episodes, one row per sequence; short ones wait on their last frame.

    Each episode gets its green or red frame when it is over; the end is held for `hold_s` seconds.
    """
    import imageio_ffmpeg  # the extra `train`; looking at results does not need it

    clips = [clip for row in rows for clip in row]
    if not clips:
        raise ValueError("write_video: needs at least one filmed episode")
    length = max(len(clip.frames) for clip in clips)
    height, width = _size(clips)
    font = max(12, height // 18)
    cell = (width + 2 * _BORDER, height + _caption_height(font) + 2 * _BORDER)
    columns = max(len(row) for row in rows)
    size = (columns * (cell[0] + _GAP) - _GAP, len(rows) * (cell[1] + _GAP) - _GAP)
    size = (size[0] + size[0] % 2, size[1] + size[1] % 2)  # H.264 wants even sides
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part.mp4")
    writer = imageio_ffmpeg.write_frames(
        str(temporary),
        size,
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        output_params=["-crf", "27", "-preset", "slow", "-movflags", "+faststart"],
        ffmpeg_log_level="error",
    )
    try:
        writer.send(None)
        for time in range(length + round(hold_s * fps)):
            canvas = Image.new("RGB", size, _BACKGROUND)
            for r, row in enumerate(rows):
                for c, clip in enumerate(row):
                    over = time >= len(clip.frames) - 1
                    frame = clip.frames[min(time, len(clip.frames) - 1)]
                    tile = _framed(frame, clip.caption, clip.success if over else None, font)
                    canvas.paste(tile, (c * (cell[0] + _GAP), r * (cell[1] + _GAP)))
            writer.send(np.asarray(canvas))
        writer.close()
        temporary.replace(target)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)
    return target


def _size(clips: Sequence[Clip]) -> tuple[int, int]:
    sizes = {clip.frames.shape[1:3] for clip in clips}
    if len(sizes) != 1:
        raise ValueError(f"clips: expected pictures of one size (H, W), got {sorted(sizes)}")
    return clips[0].frames.shape[1], clips[0].frames.shape[2]


def _caption_height(font: int) -> int:
    return font + 4


def _framed(picture: np.ndarray[Any, Any], caption: str, success: bool | None, font: int) -> Image.Image:
    """The picture under its caption, in a frame: green, red, or light grey while the outcome is open."""
    height, width = picture.shape[:2]
    top = _caption_height(font)
    colour = {True: _SOLVED, False: _FAILED, None: (205, 205, 205)}[success]
    tile = Image.new("RGB", (width + 2 * _BORDER, height + top + 2 * _BORDER), _BACKGROUND)
    tile.paste(colour, (0, top, tile.width, tile.height))
    tile.paste(Image.fromarray(picture), (_BORDER, top + _BORDER))
    ink = _INK if success is None else colour
    ImageDraw.Draw(tile).text((_BORDER, 0), caption, fill=ink, font=ImageFont.load_default(size=font))
    return tile
