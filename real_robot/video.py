"""`VideoRecorder`: a video of a run, for people; what is too fast for the disk is left out, nothing waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.clock import Clock, every
from real_robot.contract import DeviceError

__all__ = ["VideoRecorder"]

Picture = NDArray[np.uint8]


class VideoRecorder:
    """Writes what `picture` returns, `fps` times a second of the run's clock, from entering to leaving the context.

    The file is made under another name and renamed at the end. A camera that is lost ends the video, a full disk too;
    both are told, the run goes on.
    """

    def __init__(self, path: Path, picture: Callable[[], Picture], clock: Clock, fps: float = 10.0) -> None:
        self._path, self._picture, self._clock, self._fps = path, picture, clock, fps
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._writer: Any = None
        self._stack = ExitStack()
        self.trouble: str | None = None

    def __enter__(self) -> VideoRecorder:
        self._stack.enter_context(every(self._clock, 1 / self._fps, self._take, "video"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._writer is not None:
            self._close()
            if self.trouble is None:
                self._part.replace(self._path)
        if self.trouble is not None:
            print(f"warning: no more video: {self.trouble}")

    def _take(self, now: float) -> None:
        if self.trouble is not None:
            return
        try:
            self._write(self._picture())
        except (DeviceError, OSError, TimeoutError) as error:
            self.trouble = str(error)

    def _write(self, picture: Picture) -> None:
        if self._writer is None:
            import imageio_ffmpeg

            height, width = picture.shape[:2]
            self._writer = imageio_ffmpeg.write_frames(
                str(self._part), (width, height), fps=self._fps, macro_block_size=2, ffmpeg_log_level="error"
            )
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(picture))

    def _close(self) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self.trouble = self.trouble or str(error)
