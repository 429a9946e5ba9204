"""The RealSense driver on librealsense's software device: pictures, depth, times and faults."""

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from real_robot.check import CheckSettings, check_camera
from real_robot.contract import CameraError
from real_robot.drivers.realsense import RealSenseCamera, RealSenseSettings, read_gravity

pytestmark = pytest.mark.realtime

rs = pytest.importorskip(
    "pyrealsense2", reason="needs pyrealsense2 and libusb-1.0 (extra realsense)", exc_type=ImportError
)

W, H = 64, 48
SETTINGS = RealSenseSettings("wrist", width=W, height=H, fps=30)


class FakeRealSense:
    """A software device that streams picture n filled with n, depth 1000 + n mm, its clock 10^6 s ahead.

    librealsense takes the rate of a software device from its first stamp, counted from zero: soon after the computer's
    start that is 0.001 frames a second, colour and depth are never put together, and no picture comes. A clock far
    ahead makes that rate zero, and librealsense believes the profile's instead.
    """

    def __init__(self, coeffs: tuple[float, ...] = (0, 0, 0, 0, 0), shift: float = 0.0) -> None:
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, "Software device")
        self.device.register_info(rs.camera_info.serial_number, "123")
        self.depth, self.colour = self.device.add_sensor("Depth"), self.device.add_sensor("Color")
        self.depth.add_read_only_option(rs.option.depth_units, 0.001)
        self.depth_profile = self.depth.add_video_stream(self._stream(rs.stream.depth, 0, rs.format.z16, 2, 60, ()))
        self.profile = self.colour.add_video_stream(self._stream(rs.stream.color, 1, rs.format.rgb8, 3, 50, coeffs))
        apart = rs.extrinsics()
        apart.rotation, apart.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [shift, 0, 0]
        self.depth_profile.register_extrinsics_to(self.profile, apart)
        self.device.create_matcher(rs.matchers.dlr_c)
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self.pushed: dict[int, float] = {}

    def _stream(self, kind: Any, uid: int, form: Any, bpp: int, focal: float, coeffs: tuple[float, ...]) -> Any:
        stream, lens = rs.video_stream(), rs.intrinsics()
        lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = W, H, focal, focal, 30.0, 24.0
        lens.model = rs.distortion.brown_conrady if any(coeffs) else rs.distortion.none
        lens.coeffs = list(coeffs) or [0] * 5
        stream.type, stream.uid, stream.width, stream.height, stream.fps = kind, uid, W, H, 30
        stream.bpp, stream.fmt, stream.intrinsics = bpp, form, lens
        return stream

    def push(self, number: int, image: np.ndarray | None = None) -> None:
        now = time.monotonic()
        self.pushed[number] = now
        image = np.full((H, W, 3), number, np.uint8) if image is None else image
        for sensor, profile, pixels in (
            (self.depth, self.depth_profile, np.full((H, W), 1000 + number, np.uint16)),
            (self.colour, self.profile, image),
        ):
            frame = rs.software_video_frame()
            frame.bpp = pixels.itemsize * (3 if pixels.ndim == 3 else 1)
            frame.stride, frame.pixels = frame.bpp * W, pixels
            frame.timestamp, frame.domain = (now + 1e6) * 1000, rs.timestamp_domain.hardware_clock
            frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
            if pixels.ndim == 2:
                frame.depth_units = 0.001
            sensor.on_video_frame(frame)

    def stream(self, image: np.ndarray | None = None) -> None:
        def run() -> None:
            number = 1
            while not self._quit.wait(1 / 30):
                self.push(number % 200, image)
                number += 1

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._quit.set()
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def fake() -> Iterator[FakeRealSense]:
    made = FakeRealSense()
    yield made
    made.stop()


def test_colour_and_aligned_depth_with_their_time_of_capture(fake: FakeRealSense) -> None:
    camera = RealSenseCamera(SETTINGS, fake.device)
    assert camera.features.intrinsics is None
    assert not camera.connected
    with pytest.raises(CameraError, match=r"not connected; call connect\(\)"):
        camera.read(0.1)
    with camera:
        assert camera.features.intrinsics is not None
        # librealsense's 30 is the middle of pixel 30, which equidiff.perception has at 30.5
        assert camera.features.intrinsics.tolist() == [[50, 0, 30.5], [0, 50, 24.5], [0, 0, 1]]
        with pytest.raises(CameraError, match="connected already"):
            camera.connect()
        fake.stream()
        numbers, late = [], []
        for _ in range(8):
            frame = camera.read(20.0)
            assert frame.depth is not None
            assert (frame.image == frame.number).all()
            seen = frame.depth[frame.depth > 0]
            assert len(seen) > W * H / 2
            assert set(seen.tolist()) == {10 * (1000 + frame.number)}, "0.1 mm"
            numbers.append(frame.number)
            late.append(frame.stamp - fake.pushed[frame.number])
        assert numbers == sorted(set(numbers))
        # stamps are of the device: evenly behind, by the least transport, however late the pictures were fetched
        assert min(late) > -1e-3
        assert np.ptp(late[2:]) < 0.02
    camera.disconnect()
    assert not camera.connected
    with camera:  # and again
        assert camera.read(20.0).image.shape == (H, W, 3)


def test_the_driver_keeps_the_contract(fake: FakeRealSense) -> None:
    fake.stream()
    report = check_camera(RealSenseCamera(SETTINGS, fake.device), CheckSettings(patience=20.0))
    assert report.passed, str(report)


def test_only_the_newest_is_returned_and_a_silent_camera_is_told(fake: FakeRealSense) -> None:
    with RealSenseCamera(SETTINGS, fake.device) as camera:
        for number in range(1, 7):
            fake.push(number)
            time.sleep(0.034)
        assert camera.read(20.0).number >= 5
        begin = time.monotonic()
        with pytest.raises(CameraError, match=r"'wrist': no picture within 0\.200 s"):
            camera.read(0.2)
        assert 0.2 <= time.monotonic() - begin < 10


def test_colour_alone(fake: FakeRealSense) -> None:
    settings = RealSenseSettings("wrist", width=W, height=H, depth=False)
    with RealSenseCamera(settings, fake.device) as camera:
        assert not camera.features.has_depth
        fake.stream()
        assert camera.read(20.0).depth is None


def test_distortion_is_taken_out() -> None:
    coeffs = (-0.3, 0.05, 0.0, 0.0, 0.0)
    fake = FakeRealSense(coeffs)
    # where the distorted camera sees the point (x, y, 1) = (0.4, 0.3, 1): a white dot there
    lens = fake.profile.as_video_stream_profile().get_intrinsics()
    u, v = rs.rs2_project_point_to_pixel(lens, [0.4, 0.3, 1.0])
    image = np.zeros((H, W, 3), np.uint8)
    rows, columns = np.mgrid[:H, :W]
    dot = np.exp(-((rows - v) ** 2 + (columns - u) ** 2) / 4)
    image[:] = (255 * dot)[..., None].round()
    with RealSenseCamera(SETTINGS, fake.device) as camera:
        fake.stream(image)
        frame = camera.read(20.0)
        matrix = camera.features.intrinsics
    fake.stop()
    assert matrix is not None
    weight = frame.image[..., 0].astype(float)
    found = np.array([(weight * (columns + 0.5)).sum(), (weight * (rows + 0.5)).sum()]) / weight.sum()
    expected = (matrix @ [0.4, 0.3, 1.0])[:2]
    assert np.abs(found - expected).max() < 0.3
    assert np.hypot(u + 0.5 - expected[0], v + 0.5 - expected[1]) > 1.0, "the distortion is large enough to matter"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 640}, "no color, depth of 640 x 48 at 30 fps; choose from color 64x48@30, depth 64x48@30"),
        ({"fps": 60}, "at 60 fps"),
        ({"options": {"laser_powr": 1.0}}, "no option 'laser_powr'; this one has .*depth_units"),
    ],
)
def test_what_the_camera_cannot_do_is_told(fake: FakeRealSense, change: dict, said: str) -> None:
    camera = RealSenseCamera(RealSenseSettings("wrist", **{"width": W, "height": H, **change}), fake.device)
    with pytest.raises(CameraError, match=said):
        camera.connect()
    assert not camera.connected


def test_no_camera_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CameraError, match="expected a RealSense with serial number 999, found none; is it plugged in"):
        RealSenseCamera(RealSenseSettings("wrist", serial="999")).connect()
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match=r'pip install "equidiff\[realsense\]"'):
        RealSenseCamera(SETTINGS).connect()


class FakeAccelerometer:
    """A software device with a colour camera and an accelerometer that is turned against it."""

    def __init__(self, reading: tuple[float, float, float], noise: float = 0.02, accelerometer: bool = True) -> None:
        base = FakeRealSense()
        self.base, self.device = base, base.device
        self._reading, self._noise, self._quit = reading, noise, threading.Event()
        if accelerometer:
            self.sensor = self.device.add_sensor("Motion")
            stream = rs.motion_stream()
            stream.type, stream.uid, stream.fps, stream.fmt = rs.stream.accel, 2, 200, rs.format.motion_xyz32f
            self.profile = self.sensor.add_motion_stream(stream)
            turn = rs.extrinsics()  # columns of the quarter turn about z
            turn.rotation, turn.translation = [0, 1, 0, -1, 0, 0, 0, 0, 1], [0, 0, 0]
            self.profile.register_extrinsics_to(base.profile, turn)

    def run(self) -> None:
        random, number = np.random.default_rng(0), 0
        while not self._quit.wait(1 / 200):
            number += 1
            frame, data = rs.software_motion_frame(), rs.vector()
            data.x, data.y, data.z = np.array(self._reading) + random.normal(0, self._noise, 3)
            frame.data, frame.timestamp, frame.domain = data, number * 5.0, rs.timestamp_domain.hardware_clock
            frame.frame_number, frame.profile = number, self.profile.as_motion_stream_profile()
            self.sensor.on_motion_frame(frame)

    def __enter__(self) -> "FakeAccelerometer":
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._quit.set()
        self._thread.join()


def test_gravity_comes_along_the_axes_of_the_colour_camera() -> None:
    with FakeAccelerometer((-9.81, 0.0, 0.0)) as fake:
        down = read_gravity(fake.device, seconds=0.8)
    # the accelerometer's -x, up, is the colour camera's -y: a camera held upright
    assert np.abs(down - [0, 1, 0]).max() < 0.01


@pytest.mark.parametrize(
    ("reading", "noise", "said"),
    [((-9.81, 0.0, 0.0), 2.0, "hold the camera still"), ((-5.0, 0.0, 0.0), 0.02, "shows 5.0")],
)
def test_bad_readings_of_gravity_are_refused(reading: tuple, noise: float, said: str) -> None:
    with FakeAccelerometer(reading, noise) as fake, pytest.raises(CameraError, match=said):
        read_gravity(fake.device, seconds=0.8)


def test_no_accelerometer() -> None:
    with pytest.raises(CameraError, match="no accelerometer"):
        read_gravity(FakeAccelerometer((0, 0, 0), accelerometer=False).device, seconds=0.1)
