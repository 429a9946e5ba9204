"""`CameraProcess`: any camera in a process of its own, its pictures in a ring that others read without waiting.

The stamps of the pictures are the camera's: times of capture on the computer's monotonic clock, what the driver knows
of the device's latency subtracted. All processes of a computer share that clock.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any

from numpy.typing import NDArray

from real_robot.contract import Camera, CameraError, CameraFeatures, DeviceError
from real_robot.rings import Item, Ring, RingError, RingInfo, RingReader, RingWriter
from real_robot.settings import SettingsError
from real_robot.types import Array, CameraFrame

__all__ = ["FIRST_PICTURE", "CameraProcess"]

FIRST_PICTURE = 10.0
"""Seconds: a device adapts its exposure before it, a second or two."""


class CameraProcess(Camera):
    """Runs the camera that `make` returns in a process of its own.

    make: a picklable function without arguments, `functools.partial(SomeCamera, settings)`. slots: pictures that are
    kept, enough for the history that is asked for. stale: seconds without a picture after which the camera counts as
    lost. start: seconds that starting the process and connecting may take. The first picture may take FIRST_PICTURE.
    """

    def __init__(self, make: Callable[[], Camera], *, slots: int = 32, stale: float = 0.5, start: float = 60.0) -> None:
        self._make = make
        self._features = make().features
        if stale * self._features.fps < 2:
            raise SettingsError(
                f"camera {self._features.name!r}: stale={stale} s is less than two pictures at {self._features.fps} fps"
            )
        self._slots, self._stale, self._start = slots, stale, start
        self._ring: Ring | None = None
        self._reader: RingReader | None = None
        self._process: SpawnProcess | None = None
        self._quit: Event | None = None
        self._next = 0  # number of the item that read() waits for
        self._why: str | None = None

    @property
    def features(self) -> CameraFeatures:
        """Of the camera within; its intrinsics are known once it is connected."""
        return self._features

    @property
    def connected(self) -> bool:
        """Whether it was connected and not let go; `latest` tells whether pictures still come."""
        return self._reader is not None

    @property
    def pid(self) -> int | None:
        """Of the camera's process."""
        return None if self._process is None else self._process.pid

    def connect(self) -> None:
        """Start the process and wait for the first picture. Raises CameraError that says what the camera said."""
        if self.connected:
            raise CameraError(f"camera {self._features.name!r}: connected already")
        features = self._features
        fields: dict[str, tuple[tuple[int, ...], str]] = {"image": ((features.height, features.width, 3), "uint8")}
        if features.has_depth:
            fields["depth"] = ((features.height, features.width), "uint16")
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        self._ring = Ring(fields, self._slots)
        self._quit = context.Event()
        self._process = context.Process(
            target=_run,
            args=(self._make, self._ring.info, there, self._quit, self._stale),
            name=f"camera {features.name}",
            daemon=True,
        )
        self._reader, self._next, self._why = RingReader(self._ring.info), 0, None
        try:
            self._process.start()
            there.close()
            self._features = dataclasses.replace(features, intrinsics=self._greeting(here))
            self.read(self._start)
            self._next = 0
        except BaseException:
            self.disconnect()
            raise
        finally:
            here.close()

    def _greeting(self, here: Connection) -> Array | None:
        assert self._process is not None
        name, end = self._features.name, time.monotonic() + self._start
        while not here.poll(0.05):
            if time.monotonic() > end:
                raise CameraError(f"camera {name!r}: not connected within {self._start:.0f} s; is it busy elsewhere?")
            if not self._process.is_alive() and not here.poll(0):
                raise CameraError(self._dead())
        try:
            words: tuple[str, Array | None] = here.recv()
        except EOFError:
            self._process.join(2)
            raise CameraError(self._dead()) from None
        if words[0]:
            raise CameraError(words[0])
        return words[1]

    def disconnect(self) -> None:
        """End the process and remove the ring; idempotent, never raises."""
        if self._quit is not None:
            self._quit.set()
        process = self._process
        if process is not None and process.pid is not None:
            process.join(2.0)
            if process.is_alive():  # stuck in its driver, or suspended
                process.kill()
                process.join(2.0)
        for part in (self._reader, self._ring):
            if part is not None:
                part.close()
        self._ring = self._reader = self._process = self._quit = None

    def read(self, timeout: float) -> CameraFrame:
        """The newest picture that was not returned yet."""
        reader = self._opened()
        self._check()
        item = reader.wait(self._next, timeout, self._check)
        if item is None:
            self._check()
            raise CameraError(f"camera {self._features.name!r}: no picture within {timeout:.3f} s")
        self._next = item.number + 1
        return _frame(item)

    @property
    def ring(self) -> RingInfo:
        """Where its pictures lie, for other processes: "image", "depth" if it has any, the camera's number as tag."""
        return self._opened().info

    def latest(self) -> CameraFrame:
        """The newest picture, at once. CameraError when none came for `stale` seconds, or the process ended."""
        return _frame(self._newest(None))

    def glance(self) -> Item:
        """As `latest`, without the pixels: number in the ring, time of capture, and the camera's number as tag."""
        return self._newest(())

    def history(self, stamps: Sequence[float]) -> list[CameraFrame]:
        """For each time of `stamps` the picture captured nearest to it. CameraError as of `latest`."""
        reader = self._opened()
        self._check()
        return [_frame(self._some(reader.nearest(stamp))) for stamp in stamps]

    def find(self, stamps: Sequence[float]) -> list[Item]:
        """As `history`, without the pixels."""
        reader = self._opened()
        self._check()
        there = reader.heads()
        return [self._some(min(there, key=partial(_apart, stamp), default=None)) for stamp in stamps]

    def _newest(self, names: tuple[str, ...] | None) -> Item:
        reader = self._opened()
        self._check()
        return self._some(reader.latest(names))

    def _some(self, item: Item | None) -> Item:
        if item is None:
            raise CameraError(f"camera {self._features.name!r}: no picture yet")
        return item

    def _opened(self) -> RingReader:
        if self._reader is None:
            raise CameraError(f"camera {self._features.name!r}: not connected; call connect() first")
        return self._reader

    def _check(self) -> None:
        assert self._reader is not None
        assert self._process is not None
        name = self._features.name
        try:
            self._reader.check()
        except RingError as error:
            raise CameraError(str(error)) from error
        if not self._process.is_alive():
            raise CameraError(self._dead())
        age = self._reader.beat_age
        if self._reader.written and age > self._stale:
            raise CameraError(
                f"camera {name!r}: no picture for {age:.2f} s (limit {self._stale} s); its process hangs or its cable "
                "is loose"
            )

    def _dead(self) -> str:
        code = None if self._process is None else self._process.exitcode
        ended = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return f"camera {self._features.name!r}: its process {ended}; see its messages above, then connect again"


def _apart(stamp: float, item: Item) -> float:
    return abs(item.stamp - stamp)


def _frame(item: Item) -> CameraFrame:
    return CameraFrame(item.stamp, item.tag, item.arrays["image"], item.arrays.get("depth"))


def _run(make: Callable[[], Camera], info: RingInfo, greeting: Connection, quit_: Event, stale: float) -> None:
    """The camera's process: pictures into the ring until told to end, or until the parent or the camera is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the program, which may have to brake an arm first
    parent = multiprocessing.parent_process()
    assert parent is not None
    with RingWriter(info) as ring:
        camera = make()
        try:
            camera.connect()
        except DeviceError as error:
            greeting.send((str(error), None))
            return
        try:
            greeting.send(("", camera.features.intrinsics))
            patience = max(FIRST_PICTURE, stale)
            while not quit_.is_set() and parent.is_alive():
                frame = camera.read(patience)
                patience = stale
                arrays: dict[str, NDArray[Any]] = {"image": frame.image}
                if frame.depth is not None:
                    arrays["depth"] = frame.depth
                ring.write(frame.stamp, arrays, frame.number)
            ring.finish()
        except (DeviceError, ValueError) as error:
            text = str(error)
            ring.fail(text if repr(camera.features.name) in text else f"camera {camera.features.name!r}: {text}")
        finally:
            camera.disconnect()
