"""RealSense cameras by pyrealsense2: colour, depth aligned to it, intrinsics, and times of capture.

Sensors are opened one by one, not through librealsense's pipeline, so that the same code runs a camera and the
library's software device.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_robot.contract import Camera, CameraError, CameraFeatures
from real_robot.drivers.device_clock import DeviceClock
from real_robot.types import Array, CameraFrame

__all__ = ["RealSenseCamera", "RealSenseSettings", "read_gravity"]


@dataclass(frozen=True)
class RealSenseSettings:
    """name: of the camera in the policy's observations. serial: of the device, None if only one is plugged in.

    options: {name: value} of librealsense's options, set on each sensor that has them, e.g. {"exposure": 120.0}.
    latency: seconds from the middle of the exposure to the device's time stamp, for devices that do not tell it
    themselves, plus the least time of transport; see docs/drivers_cameras.md for how to measure it.
    """

    name: str
    serial: str | None = None
    width: int = 640
    height: int = 480
    fps: int = 30
    depth: bool = True
    options: Mapping[str, float] = field(default_factory=dict)
    latency: float = 0.0


class RealSenseCamera(Camera):
    """One RealSense. device: an opened pyrealsense2 device, for software devices; None finds it by its serial."""

    def __init__(self, settings: RealSenseSettings, device: Any = None) -> None:
        self._settings, self._given = settings, device
        s = settings
        self._features = CameraFeatures(s.name, s.width, s.height, float(s.fps), has_depth=s.depth)
        self._sensors: list[Any] = []
        self._device: Any = None
        self._last = -1
        self._maps: NDArray[np.float32] | None = None

    @property
    def features(self) -> CameraFeatures:
        """Intrinsics, once connected, are those of the colour picture, undistorted; the first pixel's middle is 0.5."""
        return self._features

    @property
    def connected(self) -> bool:
        """Whether its streams were started."""
        return bool(self._sensors)

    def connect(self) -> None:
        """Open colour and depth. CameraError that names the camera: absent, unknown size or option, busy."""
        if self.connected:
            raise CameraError(f"camera {self._settings.name!r}: connected already")
        rs = _library()
        self._device = self._given if self._given is not None else _find(rs, self._settings)
        self._clock = DeviceClock(delay=self._settings.latency)
        self._syncer, self._align = rs.syncer(), rs.align(rs.stream.color)
        wanted = [rs.stream.color, rs.stream.depth] if self._settings.depth else [rs.stream.color]
        try:
            for sensor, profiles in self._matches(rs, wanted):
                sensor.open(profiles)
                self._sensors.append(sensor)
            self._set_options(rs)
            for sensor in self._sensors:
                sensor.start(self._syncer)
        except RuntimeError as error:
            self.disconnect()
            if isinstance(error, CameraError):
                raise
            raise CameraError(
                f"camera {self._settings.name!r}: {error}; is another program using it, is it on a USB 3 port?"
            ) from error

    def _matches(self, rs: Any, wanted: list[Any]) -> list[tuple[Any, list[Any]]]:
        s = self._settings
        formats = {rs.stream.color: rs.format.rgb8, rs.stream.depth: rs.format.z16}
        found: list[tuple[Any, list[Any]]] = []
        left = list(wanted)
        for sensor in self._device.query_sensors():
            chosen = []
            for profile in sensor.get_stream_profiles():
                stream = profile.stream_type()
                if stream not in left or profile.format() != formats[stream] or profile.fps() != s.fps:
                    continue
                video = profile.as_video_stream_profile()
                if (video.width(), video.height()) != (s.width, s.height):
                    continue
                chosen.append(profile)
                left.remove(stream)
                if stream == rs.stream.color:
                    lens = video.get_intrinsics()
                    self._features = dataclasses.replace(self._features, intrinsics=_matrix(lens))
                    self._maps = _undistortion(rs, lens)
                else:
                    self._to_stored = _depth_table(sensor.as_depth_sensor().get_depth_scale())
            if chosen:
                found.append((sensor, chosen))
        if left:
            names = ", ".join(stream.name for stream in left)
            raise CameraError(
                f"camera {s.name!r}: no {names} of {s.width} x {s.height} at {s.fps} fps; choose from "
                f"{_choices(self._device, formats)}"
            )
        return found

    def _set_options(self, rs: Any) -> None:
        for name, value in self._settings.options.items():
            option = getattr(rs.option, name, None)
            having = [] if option is None else [s for s in self._device.query_sensors() if s.supports(option)]
            if not having:
                known = sorted({o.name for s in self._device.query_sensors() for o in s.get_supported_options()})
                raise CameraError(
                    f"camera {self._settings.name!r}: no option {name!r}; this one has {', '.join(known) or 'none'}"
                )
            for sensor in having:
                sensor.set_option(option, float(value))

    def disconnect(self) -> None:
        """Stop the streams; idempotent, never raises."""
        sensors, self._sensors = self._sensors, []
        for sensor in reversed(sensors):
            for end in (sensor.stop, sensor.close):
                try:
                    end()
                except RuntimeError as error:  # unplugged, or opened but never started: nothing is left to stop
                    if "not streaming" not in str(error) and "before start" not in str(error):
                        print(f"camera {self._settings.name!r}: {error}")
        self._device = None

    def read(self, timeout: float) -> CameraFrame:
        """The next picture with its depth, older ones dropped. The stamp is the middle of its exposure."""
        if not self.connected:
            raise CameraError(f"camera {self._settings.name!r}: not connected; call connect() first")
        end = time.monotonic() + timeout
        newest: tuple[Any, float] | None = None
        while True:
            left = end - time.monotonic()
            if newest is None and left <= 0:
                raise CameraError(
                    f"camera {self._settings.name!r}: no picture within {timeout:.3f} s"
                    f"{'' if self._device.is_connected() else '; it was unplugged'}"
                )
            wait = 0 if newest is not None else max(1, int(left * 1000))
            try:
                came, frames = self._syncer.try_wait_for_frames(wait)
            except RuntimeError as error:
                raise CameraError(f"camera {self._settings.name!r}: {error}") from error
            if not came:
                if newest is not None:
                    return self._frame(*newest)
                continue
            arrival = time.monotonic()
            colour = frames.get_color_frame()
            if not colour or (self._settings.depth and not frames.get_depth_frame()):
                continue  # one without the other: their partner was lost
            if colour.get_frame_number() != self._last:
                newest = frames, arrival

    def _frame(self, frames: Any, arrival: float) -> CameraFrame:
        rs = _library()
        colour = frames.get_color_frame()
        self._last = colour.get_frame_number()
        stamp = self._clock.to_monotonic(colour.get_timestamp() / 1000, arrival) - _exposure(rs, colour)
        image = np.array(colour.get_data(), np.uint8)
        depth = None
        if self._settings.depth:
            aligned = self._align.process(frames).get_depth_frame()
            depth = self._to_stored[np.asarray(aligned.get_data())]
        if self._maps is not None:
            image, depth = _undistorted(self._maps, image, depth)
        return CameraFrame(stamp, self._last, image, depth)


def read_gravity(device: Any = None, serial: str | None = None, seconds: float = 2.0) -> Array:
    """Direction of gravity (3,), unit length, along the axes of the colour camera, from the accelerometer at rest.

    Raises CameraError when there is no accelerometer, no reading, or the camera moved.
    """
    rs = _library()
    device = device if device is not None else _find(rs, RealSenseSettings("gravity", serial))
    motion, colour = None, None
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() == rs.stream.accel and motion is None:
                motion = sensor, profile
            if profile.stream_type() == rs.stream.color and colour is None:
                colour = profile
    if motion is None:
        raise CameraError(
            "gravity: this camera has no accelerometer (a D435i or D455 has); give a level reading instead"
        )
    sensor, profile = motion
    queue = rs.frame_queue(256)
    readings: list[list[float]] = []
    sensor.open([profile])
    try:
        sensor.start(queue)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            came, frame = queue.try_wait_for_frame(max(1, int(left * 1000)))
            if came:
                data = frame.as_motion_frame().get_motion_data()
                readings.append([data.x, data.y, data.z])
        sensor.stop()
    finally:
        sensor.close()
    if len(readings) < 20:
        raise CameraError(f"gravity: {len(readings)} readings of the accelerometer in {seconds} s, at least 20 needed")
    values = np.array(readings)
    spread = float(values.std(0).max())
    if spread > 0.3 or not 9.0 < np.linalg.norm(values.mean(0)) < 10.6:
        raise CameraError(
            f"gravity: the accelerometer shows {np.linalg.norm(values.mean(0)):.2f} m/s^2, spread {spread:.2f}; hold "
            "the camera still, and calibrate its accelerometer if that does not help"
        )
    turn = np.eye(3)
    if colour is not None:
        # librealsense gives rotations by columns
        turn = np.array(profile.get_extrinsics_to(colour).rotation).reshape(3, 3).T
    down: Array = -(turn @ values.mean(0))  # at rest it measures the table's push, upwards
    return down / np.linalg.norm(down)


def _library() -> Any:
    try:
        import pyrealsense2
    except ImportError as error:
        raise CameraError(
            f"RealSense cameras need pyrealsense2 and the system's libusb-1.0 ({error}): "
            'pip install "equidiff[realsense]"'
        ) from error
    return pyrealsense2


def _find(rs: Any, settings: RealSenseSettings) -> Any:
    devices = {d.get_info(rs.camera_info.serial_number): d for d in rs.context().query_devices()}
    seen = ", ".join(f"{n} ({d.get_info(rs.camera_info.name)})" for n, d in devices.items()) or "none"
    if settings.serial is not None and settings.serial in devices:
        return devices[settings.serial]
    if settings.serial is None and len(devices) == 1:
        return next(iter(devices.values()))
    wanted = "one RealSense" if settings.serial is None else f"a RealSense with serial number {settings.serial}"
    raise CameraError(f"camera {settings.name!r}: expected {wanted}, found {seen}; is it plugged in?")


def _matrix(lens: Any) -> Array:
    # librealsense counts from the middle of the first pixel, equidiff.perception from its corner
    return np.array([[lens.fx, 0, lens.ppx + 0.5], [0, lens.fy, lens.ppy + 0.5], [0, 0, 1]])


def _depth_table(scale: float) -> NDArray[np.uint16]:
    """(65536,): the device's units of `scale` metres to 0.1 mm; what is too far becomes 0, nothing seen."""
    stored = np.rint(np.arange(65536) * (scale / 1e-4))
    return np.where(stored <= 65535, stored, 0).astype(np.uint16)


def _undistortion(rs: Any, lens: Any) -> NDArray[np.float32] | None:
    """(H, W, 2): where in the camera's picture each pixel of one without distortion is; None if it has none.

    The library projects, because it alone knows its distortion models.
    """
    if lens.model == rs.distortion.none or not any(abs(c) > 1e-9 for c in lens.coeffs):
        return None
    x = (np.arange(lens.width) - lens.ppx) / lens.fx
    y = (np.arange(lens.height) - lens.ppy) / lens.fy
    where = [[rs.rs2_project_point_to_pixel(lens, [u, v, 1.0]) for u in x.tolist()] for v in y.tolist()]
    return np.array(where, np.float32)


def _undistorted(
    maps: NDArray[np.float32], image: NDArray[np.uint8], depth: NDArray[np.uint16] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
    import cv2

    flat: NDArray[Any] = cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
    if depth is None:
        return flat, None
    # depths of two surfaces have no meaning between them
    near: NDArray[Any] = cv2.remap(depth, maps[..., 0], maps[..., 1], cv2.INTER_NEAREST)
    return flat, near


def _exposure(rs: Any, frame: Any) -> float:
    """Seconds from the middle of the exposure to the time stamp, where the device tells."""
    kind = rs.frame_metadata_value
    if not (
        frame.supports_frame_metadata(kind.sensor_timestamp) and frame.supports_frame_metadata(kind.frame_timestamp)
    ):
        return 0.0
    micro = frame.get_frame_metadata(kind.frame_timestamp) - frame.get_frame_metadata(kind.sensor_timestamp)
    return float(micro) * 1e-6 if 0 <= micro < 200_000 else 0.0


def _choices(device: Any, formats: Mapping[Any, Any]) -> str:
    found = set()
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if formats.get(profile.stream_type()) == profile.format():
                video = profile.as_video_stream_profile()
                found.add(f"{profile.stream_type().name} {video.width()}x{video.height()}@{profile.fps()}")
    return ", ".join(sorted(found)) or "nothing"
