"""The clock of a device, and OpenCV's cameras on a video file."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from real_robot.contract import CameraError
from real_robot.drivers.device_clock import DeviceClock
from real_robot.drivers.opencv import OpenCVCamera, OpenCVSettings

pytestmark = pytest.mark.realtime

cv2 = pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")


def stream(
    clock: DeviceClock, begin: float, count: int, ahead: float, late: float = 0.0, hz: float = 30.0
) -> list[float]:
    """Messages whose stamps are `ahead` of true time, `late` seconds on the way: by how much each is told too young."""
    times = begin + np.arange(count) / 30
    return [clock.to_monotonic(true + ahead, true + late) - true for true in times.tolist()]


@pytest.mark.parametrize("rate", [50e-6, -50e-6])
def test_the_clock_of_a_device_is_learnt_and_followed(rate: float) -> None:
    random = np.random.default_rng(0)
    clock = DeviceClock(delay=0.001)
    errors = []
    for i in range(3000):  # 100 s; the device's clock runs 50 ppm fast, or slow
        true = 10 + i / 30
        stamp = 1e6 + true * (1 + rate)
        arrival = true + 0.001 + random.exponential(0.01)
        mapped = clock.to_monotonic(stamp, arrival)
        assert mapped <= arrival
        errors.append(mapped - true)
    assert np.abs(errors[300:]).max() < 0.003
    # it restarts: its stamps begin at 0 again, and are learnt in half a second, in which nothing looks fresh
    told = stream(clock, 200.0, 30, ahead=-200.0, late=0.001)
    assert max(told[:15]) < -50
    assert np.abs(told[16:]).max() < 1e-6


@pytest.mark.parametrize("late", [0.2, 0.9, 1.57, 30.0])
def test_a_late_message_is_told_as_old_as_it_is(late: float) -> None:
    """Its stamp went forward, so the device did not restart."""
    clock = DeviceClock()
    assert clock.to_monotonic(5.0, 100.0) == 100.0
    assert clock.to_monotonic(5.033, 100.033 + late) == pytest.approx(100.033, abs=late * 1e-3)
    assert clock.to_monotonic(5.5 + late, 100.5 + late) == pytest.approx(100.5 + late, abs=1e-3)


def test_a_stream_that_goes_on_lagging_does_not_come_to_look_fresh() -> None:
    clock = DeviceClock()
    stream(clock, 100.0, 90, ahead=7.0)
    lagging = stream(clock, 103.0, 30 * 120, ahead=7.0, late=1.5)
    assert max(lagging) < 0.07  # two minutes later: as old as it is, but for what clocks may drift apart


@pytest.mark.parametrize("late", [0.0, 0.04, 0.3, 1.5])
@pytest.mark.parametrize("jump", [0.04, 0.2, 3.0, -0.04, -0.2, -3.0])
def test_a_clock_that_is_set_makes_nothing_look_younger_than_it_is(jump: float, late: float) -> None:
    """Set by `jump` seconds while the first messages after that are late; then they are quick again."""
    clock = DeviceClock()
    stream(clock, 100.0, 90, ahead=7.0)
    first = stream(clock, 103.0, 5, ahead=7.0 + jump, late=late)
    # a message that is later than its clock was set ahead is no different from one after a gap: too young by that much
    assert max(first) <= (jump if 0 < jump <= late else min(late, 0.05)) + 1e-3
    later = stream(clock, 103.0 + 5 / 30 + late, 90, ahead=7.0 + jump)
    assert max(later) <= 1e-3
    # set back by less than it takes to be sure, it stays told as a lag
    assert later[-1] == pytest.approx(0.0 if jump > 0 or jump < -0.5 else jump, abs=3e-3)


def test_a_message_that_was_overtaken_is_late_and_no_restart() -> None:
    clock = DeviceClock()
    stream(clock, 100.0, 60, ahead=7.0)
    assert clock.to_monotonic(109.0, 102.0) == pytest.approx(102.0, abs=1e-3)
    assert clock.to_monotonic(108.5, 102.02) == pytest.approx(101.5, abs=1e-3)
    assert stream(clock, 102.05, 30, ahead=7.0) == pytest.approx(np.zeros(30), abs=1e-3)
    assert clock.to_monotonic(500.0, 103.1) < 103.05  # one wild stamp
    assert stream(clock, 103.2, 30, ahead=7.0) == pytest.approx(np.zeros(30), abs=1e-3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "counting.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for i in range(12):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 2] = 20 * i  # OpenCV's order is blue, green, red
        writer.write(picture)
    writer.release()
    return path


def test_a_video_plays_at_its_own_pace_in_order_and_says_when_it_ends(video: Path) -> None:
    settings = OpenCVSettings("top", str(video), 64, 48, 20.0, latency=0.04)
    camera = OpenCVCamera(settings)
    assert not camera.connected
    assert camera.features.intrinsics is None
    with pytest.raises(CameraError, match=r"not connected; call connect\(\)"):
        camera.read(0.1)
    frames = []
    with camera:
        begin = time.monotonic()
        with pytest.raises(CameraError, match="connected already"):
            camera.connect()
        for _ in range(12):
            frames.append(camera.read(20.0))
            age = time.monotonic() - frames[-1].stamp
            assert age >= 0.04, "the latency is taken off the time of arrival"
            if frames[-1].number == 11:
                break
        assert time.monotonic() - begin > 0.4
        with pytest.raises(CameraError, match="'top': the video file has ended"):
            camera.read(20.0)
    camera.disconnect()
    assert not camera.connected
    numbers = [f.number for f in frames]
    assert numbers == sorted(set(numbers))
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert abs(float(frame.image[..., 0].mean()) - 20 * frame.number) < 4, "red comes first"
        assert frame.image[..., 1:].mean() < 6


def test_one_picture_is_returned_once_and_waiting_ends(video: Path) -> None:
    with OpenCVCamera(OpenCVSettings("top", str(video), 64, 48)) as camera:
        camera.read(20.0)
        with pytest.raises(CameraError, match=r"'top': no picture within 0\.000 s"):
            [camera.read(0.0) for _ in range(100)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "/nowhere/there.avi"}, "cannot open '/nowhere/there.avi'"),
        ({"width": 640}, "asked for 640 x 48, .* gives 64 x 48"),
        ({"options": {"exposeur": 3}}, "no option 'exposeur'"),
        ({"options": {"exposure": 3}}, "does not take exposure=3"),
    ],
)
def test_what_cannot_be_opened_is_told(video: Path, change: dict, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings = {"source": str(video), "width": 64, "height": 48, **change}
    camera = OpenCVCamera(OpenCVSettings("top", **settings))
    with pytest.raises(CameraError, match=said):
        camera.connect()
    assert not camera.connected


def test_settings_and_a_missing_library(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="latency from 0 to 2 s"):
        OpenCVCamera(OpenCVSettings("top", 0, latency=-1.0))
    matrix = ((60.0, 0.0, 32.0), (0.0, 60.0, 24.0), (0.0, 0.0, 1.0))
    camera = OpenCVCamera(OpenCVSettings("top", str(video), 64, 48, intrinsics=matrix))
    assert camera.features.intrinsics is not None
    assert camera.features.intrinsics[0, 2] == 32
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(CameraError, match=r'pip install "equidiff\[robot\]"'):
        camera.connect()
