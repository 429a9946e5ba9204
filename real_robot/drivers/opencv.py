"""Cameras that OpenCV opens: V4L2 devices, RTSP streams, and video files in place of a camera."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.contract import Camera, CameraError, CameraFeatures
from real_robot.settings import SettingsError
from real_robot.types import CameraFrame

__all__ = ["OpenCVCamera", "OpenCVSettings"]


@dataclass(frozen=True)
class OpenCVSettings:
    """name: of the camera in the policy's observations. source: number of a V4L2 device, its path, an RTSP address, or
    a video file, which is played at its own pace.

    latency: seconds from capture to arrival in this program; 0.03 to 0.1 is usual for USB, more for RTSP; see
    docs/drivers_cameras.md for how to measure it. options: {name: value} of OpenCV's CAP_PROP_..., e.g.
    {"exposure": 120, "auto_exposure": 1}. fourcc: e.g. "MJPG", which many USB cameras need for their full rate.
    intrinsics: ((fx, 0, cx), (0, fy, cy), (0, 0, 1)) pixels, a pixel's corner at 0, as the calibration tool writes it.
    """

    name: str
    source: int | str
    width: int = 640
    height: int = 480
    fps: float = 30.0
    latency: float = 0.0
    fourcc: str | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    intrinsics: tuple[tuple[float, ...], ...] | None = None


class OpenCVCamera(Camera):
    """One camera; a thread takes its pictures as they come, so that nothing old waits in a buffer."""

    def __init__(self, settings: OpenCVSettings) -> None:
        if not (math.isfinite(settings.latency) and 0 <= settings.latency < 2):
            raise SettingsError(f"camera {settings.name!r}: expected a latency from 0 to 2 s, got {settings.latency}")
        s = self._settings = settings
        matrix = None if s.intrinsics is None else np.array(s.intrinsics, np.float64)
        self._features = CameraFeatures(s.name, s.width, s.height, s.fps, intrinsics=matrix)
        self._thread: threading.Thread | None = None
        self._news = threading.Condition()
        self._newest: CameraFrame | None = None
        self._returned = -1
        self._why: str | None = None
        self._quit = threading.Event()

    @property
    def features(self) -> CameraFeatures:
        """As the settings say."""
        return self._features

    @property
    def connected(self) -> bool:
        """Whether it was opened and not let go."""
        return self._thread is not None

    def connect(self) -> None:
        """Open the source. CameraError when that fails, or when it does not take the settings."""
        if self.connected:
            raise CameraError(f"camera {self._settings.name!r}: connected already")
        cv2 = _library()
        s = self._settings
        capture = cv2.VideoCapture(s.source)
        try:
            if not capture.isOpened():
                raise CameraError(
                    f"camera {s.name!r}: cannot open {s.source!r}; is it there, is it free, may this user read it?"
                )
            self._set_up(cv2, capture)
            good, picture = capture.read()
            if not good:
                raise CameraError(f"camera {s.name!r}: {s.source!r} opens but gives no picture")
            if picture.shape != (s.height, s.width, 3):
                raise CameraError(
                    f"camera {s.name!r}: asked for {s.width} x {s.height}, {s.source!r} gives {picture.shape[1]} x "
                    f"{picture.shape[0]}; set width and height to what it can"
                )
        except CameraError:
            capture.release()
            raise
        self._quit, self._newest, self._why, self._returned = threading.Event(), None, None, -1
        self._thread = threading.Thread(
            target=self._take, args=(cv2, capture, picture, self._quit), name=f"camera {s.name}", daemon=True
        )
        self._thread.start()

    def _set_up(self, cv2: Any, capture: Any) -> None:
        s = self._settings
        if not self._is_file(s.source):
            if s.fourcc is not None:
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*s.fourcc))
            for setting, value in (
                ("FRAME_WIDTH", s.width),
                ("FRAME_HEIGHT", s.height),
                ("FPS", s.fps),
                ("BUFFERSIZE", 1),
            ):
                capture.set(getattr(cv2, f"CAP_PROP_{setting}"), value)
        for name, value in s.options.items():
            prop = getattr(cv2, f"CAP_PROP_{name.upper()}", None)
            if prop is None:
                raise CameraError(f"camera {s.name!r}: OpenCV knows no option {name!r} (CAP_PROP_{name.upper()})")
            if not capture.set(prop, value):
                raise CameraError(f"camera {s.name!r}: {s.source!r} does not take {name}={value}; leave it out")

    @staticmethod
    def _is_file(source: int | str) -> bool:
        return isinstance(source, str) and "://" not in source and not source.startswith("/dev/")

    def _take(self, cv2: Any, capture: Any, picture: NDArray[np.uint8], quit_: threading.Event) -> None:
        number, arrival = 0, time.monotonic()
        begin, file = arrival, self._is_file(self._settings.source)
        pace = capture.get(cv2.CAP_PROP_FPS) or self._settings.fps
        why = None
        try:
            while not quit_.is_set():
                image: NDArray[Any] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                frame = CameraFrame(arrival - self._settings.latency, number, image)
                with self._news:
                    self._newest = frame
                    self._news.notify_all()
                if file and quit_.wait(max(0.0, begin + (number + 1) / pace - time.monotonic())):
                    break
                good, picture = capture.read()
                if not good:
                    why = "the video file has ended" if file else "it gives no more pictures; was it unplugged?"
                    break
                number, arrival = number + 1, time.monotonic()
        except cv2.error as error:
            why = str(error)
        finally:
            capture.release()
            with self._news:
                self._why = why
                self._news.notify_all()

    def disconnect(self) -> None:
        """Let go of the source; idempotent, never raises. A source that hangs is left to its thread."""
        self._quit.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self._thread = None

    def read(self, timeout: float) -> CameraFrame:
        """The newest picture that was not returned yet; its stamp is its arrival less the latency."""
        if self._thread is None:
            raise CameraError(f"camera {self._settings.name!r}: not connected; call connect() first")
        with self._news:
            self._news.wait_for(lambda: self._unread() is not None or self._why is not None, timeout)
            frame = self._unread()
            if frame is None:
                raise CameraError(
                    f"camera {self._settings.name!r}: {self._why or f'no picture within {timeout:.3f} s'} "
                    f"(source {self._settings.source!r})"
                )
            self._returned = frame.number
            return frame

    def _unread(self) -> CameraFrame | None:
        frame = self._newest
        return frame if frame is not None and frame.number > self._returned else None


def _library() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise CameraError(f'OpenCV cameras need OpenCV ({error}): pip install "equidiff[robot]"') from error
    return cv2
