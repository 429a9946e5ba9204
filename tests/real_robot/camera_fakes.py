"""Cameras without a device, for the processes of tests."""

import os
import time

import numpy as np

from real_robot.contract import Camera, CameraError, CameraFeatures
from real_robot.types import CameraFrame


class CountingCamera(Camera):
    """Picture n is filled with n % 256; after `good` pictures it ends as `end` says."""

    def __init__(
        self, end: str = "", good: int = 10**9, fps: float = 60.0, depth: bool = True, delay: float = 0.0
    ) -> None:
        self.end, self.good, self.delay = end, good, delay
        self._features = CameraFeatures("wrist", 32, 24, fps, has_depth=depth)
        self._number = -1
        self._connected = False

    @property
    def features(self) -> CameraFeatures:
        if not self._connected:
            return self._features
        f = self._features
        return CameraFeatures(f.name, f.width, f.height, f.fps, f.has_depth, np.diag([30.0, 30.0, 1.0]))

    @property
    def connected(self) -> bool:
        return self._connected

    def connect(self) -> None:
        if self.end == "absent":
            raise CameraError("camera 'wrist': no device with serial number 123; is it plugged in?")
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def read(self, timeout: float) -> CameraFrame:
        self._number += 1
        if self._number == 0 and self.end == "warming":  # as a device whose exposure adapts first
            time.sleep(min(1.0, timeout))
            if timeout < 1.0:
                raise CameraError("camera 'wrist': no picture yet")
        if self._number >= self.good:
            if self.end == "unplugged":
                raise CameraError("camera 'wrist': unplugged")
            if self.end == "nameless":
                raise CameraError("the USB host went away")
            if self.end == "crash":
                os._exit(7)
            if self.end == "hang":
                time.sleep(1000)
        time.sleep(1 / self._features.fps)
        shape = (24, 30 if self.end == "shape" else 32)
        image = np.full((*shape, 3), self._number % 256, np.uint8)
        depth = np.full(shape, self._number, np.uint16) if self._features.has_depth else None
        return CameraFrame(time.monotonic() - self.delay, self._number, image, depth)
