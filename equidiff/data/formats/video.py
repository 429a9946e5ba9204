"""Frames in and out of mp4 files (PyAV, which LeRobot uses too)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.data.formats.foreign import need

__all__ = ["CODECS", "VideoFile", "read_frames"]

CODECS: Mapping[str, Mapping[str, str]] = {
    # a keyframe every second frame, as LeRobot writes it: any frame is found by decoding two
    "libsvtav1": {"g": "2", "crf": "{crf}", "preset": "8", "svtav1-params": "fast-decode=0"},
    "h264": {"g": "2", "crf": "{crf}", "preset": "medium"},
}
"""Encoders and their options."""


@contextmanager
def _same_priority() -> Iterator[None]:
    """For root SVT-AV1 gives the thread that opens it the highest priority of real time, beside which, and beside the
    children that inherit it, no other program gets a core."""
    if not hasattr(os, "sched_getscheduler"):  # other systems than Linux
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before[0]:
            os.sched_setscheduler(0, *before)


class VideoFile:
    """An mp4 file that grows frame by frame; `size` is what was written so far, in bytes."""

    def __init__(self, path: Path, shape: tuple[int, int], fps: int, codec: str, crf: int) -> None:
        av = need("av")
        if codec not in CODECS:
            hint = did_you_mean(codec, CODECS)
            raise DataError(f"codec={codec}: no such encoder{hint}; there are: {', '.join(CODECS)}")
        if shape[0] % 2 or shape[1] % 2 or min(shape) < 64:
            raise DataError(
                f"{path.name}: pictures of {shape[0]} x {shape[1]} pixels cannot become a video (even sides of at "
                "least 64 pixels are needed); use images=png"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        av.logging.set_level(av.logging.ERROR)  # the encoders greet on standard error
        os.environ.setdefault("SVT_LOG", "1")
        self.path, self.frames, self.size, self._av = path, 0, 0, av
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        options = {key: value.format(crf=crf) for key, value in CODECS[codec].items()}
        self._stream = self._container.add_stream(codec, fps, options=options)
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "yuv420p"
        self._step = Fraction(1, fps)  # the stream changes its own once the file has begun
        self._stream.codec_context.time_base = self._step
        self._open = True

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, pictures: NDArray[np.uint8]) -> None:
        """Append pictures (T, H, W, 3)."""
        for picture in pictures:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, self._step
            self.frames += 1
            self._mux(self._encoded(frame))

    def close(self) -> None:
        """Write what the encoder still holds; may be called twice."""
        if self._open:
            self._open = False
            if self.frames:
                self._mux(self._encoded(None))
            self._container.close()

    def _encoded(self, frame: Any) -> Any:
        with _same_priority():
            return self._stream.encode(frame)

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.size += packet.size
            self._container.mux(packet)


def read_frames(path: Path, start: float, count: int, fps: float, at: str) -> NDArray[np.uint8]:
    """`count` frames from `start` seconds on, 1/fps apart -> (count, H, W, 3).

    Raises DataError if a frame is missing, or none lies within a tenth of a step of its time.
    """
    av = need("av")
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if (getattr(stream, "pix_fmt", None) or "").startswith("gray"):
                raise DataError(f"{at}: {path.name} is a depth video, which is not supported; map a colour camera")
            container.seek(max(0, round(start / stream.time_base) - 1), stream=stream)
            for frame in container.decode(stream):
                time = float(frame.pts * stream.time_base)
                wanted = start + len(frames) / fps
                if time < wanted - 0.1 / fps:
                    continue
                if time > wanted + 0.1 / fps:
                    raise DataError(
                        f"{at}: {path.name} has no frame at {wanted:.3f} s (the next is at {time:.3f} s), expected "
                        f"one every {1 / fps:.3f} s; the video does not fit fps={fps:g} of meta/info.json"
                    )
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    break
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{at}: {path} cannot be decoded, perhaps truncated ({error}); copy it again") from error
    if len(frames) < count:
        raise DataError(
            f"{at}: {path} ends after {len(frames)} of {count} frames from {start:.3f} s on; it is truncated or does "
            "not belong to this dataset"
        )
    return np.stack(frames)
