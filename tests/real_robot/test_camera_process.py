"""A camera in its own process: pictures by time of capture, and every way in which it can be lost is told quickly."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from camera_fakes import CountingCamera

from real_robot.camera_process import CameraProcess
from real_robot.check import CheckSettings, check_camera
from real_robot.contract import CameraError

pytestmark = pytest.mark.realtime


def process(end: str = "", good: int = 10**9, stale: float = 5.0, **settings) -> CameraProcess:
    return CameraProcess(functools.partial(CountingCamera, end, good, **settings), stale=stale)


@pytest.fixture(scope="module")
def camera() -> Iterator[CameraProcess]:
    with process() as made:
        yield made


def until_lost(camera: CameraProcess) -> None:
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        camera.latest()
        time.sleep(0.01)


def until_back(camera: CameraProcess) -> None:
    limit = time.monotonic() + 20
    while True:
        try:
            camera.read(10.0)
            return
        except CameraError:
            assert time.monotonic() < limit
            time.sleep(0.05)


def test_features_are_known_before_and_intrinsics_after() -> None:
    camera = process(depth=False)
    assert (camera.features.name, camera.features.width, camera.features.has_depth) == ("wrist", 32, False)
    assert camera.features.intrinsics is None
    assert not camera.connected
    with pytest.raises(CameraError, match=r"not connected; call connect\(\)"):
        camera.latest()
    with camera:
        assert camera.features.intrinsics is not None
        assert camera.features.intrinsics[0, 0] == 30
        assert camera.latest().depth is None
        with pytest.raises(CameraError, match="connected already"):
            camera.connect()
    camera.disconnect()
    assert not camera.connected


def test_pictures_come_whole_in_order_and_once(camera: CameraProcess) -> None:
    numbers = []
    for _ in range(10):
        frame = camera.read(10.0)
        assert frame.depth is not None
        assert (frame.image == frame.number % 256).all()
        assert (frame.depth == frame.number).all()
        assert 0 <= time.monotonic() - frame.stamp < 10
        numbers.append(frame.number)
    assert numbers == sorted(set(numbers))
    newest = camera.latest()
    assert newest.number >= numbers[-1]


def test_ctrl_c_does_not_end_the_pictures_while_the_arm_brakes(camera: CameraProcess) -> None:
    assert camera._process is not None
    assert camera._process.pid is not None
    camera.read(10.0)
    os.kill(camera._process.pid, signal.SIGINT)  # a terminal sends it to every process of the program
    last = camera.read(10.0).number
    while camera.read(10.0).number < last + 5:
        pass
    assert camera._process.is_alive()


def test_the_process_keeps_the_contract_of_a_camera() -> None:
    report = check_camera(process(), CheckSettings(patience=20.0))
    assert report.passed, str(report)


def test_history_is_by_time_of_capture(camera: CameraProcess) -> None:
    for _ in range(12):
        last = camera.read(10.0)
    asked = [last.stamp - 0.1, last.stamp - 0.05, last.stamp]
    found = camera.history(asked)
    assert [(item.stamp, item.tag, item.arrays) for item in camera.find(asked)] == [
        (f.stamp, f.number, {}) for f in found
    ]
    glance = camera.glance()
    assert glance.tag >= found[-1].number
    assert glance.arrays == {}
    assert camera.ring.fields[0][0] == "image"
    assert found[2].number == last.number
    assert [f.number for f in found] == sorted(f.number for f in found)
    for stamp, frame in zip(asked, found, strict=True):
        # 60 pictures a second; a busy machine makes the gaps longer, but no other picture is nearer
        others = camera.history(list(np.linspace(last.stamp - 0.3, last.stamp, 61)))
        assert abs(frame.stamp - stamp) <= min(abs(o.stamp - stamp) for o in others) + 1e-9


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("unplugged", "camera 'wrist': unplugged"),
        ("nameless", "camera 'wrist': the USB host went away"),
        ("crash", "camera 'wrist': its process ended with code 7"),
        ("hang", "camera 'wrist': no picture for"),
    ],
)
def test_lost_cameras_are_told_by_name(end: str, said: str) -> None:
    with process(end, good=5, stale=0.5 if end == "hang" else 5.0) as camera:
        with pytest.raises(CameraError, match=said):
            until_lost(camera)
        with pytest.raises(CameraError, match=said):
            camera.read(5.0)
        with pytest.raises(CameraError, match=said):
            camera.history([time.monotonic()])
        begin = time.monotonic()
    assert time.monotonic() - begin < 10, "leaving a lost camera takes no longer"


def test_killed_and_suspended_processes() -> None:
    with process(stale=0.5) as camera:
        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(CameraError, match="no picture for"):
            until_lost(camera)
        assert time.monotonic() - stopped >= 0.4
        os.kill(camera.pid, signal.SIGCONT)
        until_back(camera)
        os.kill(camera.pid, signal.SIGKILL)
        with pytest.raises(CameraError, match="killed by signal 9"):
            until_lost(camera)


def test_what_goes_wrong_at_the_start_is_the_error_of_connect() -> None:
    camera = process("absent")
    with pytest.raises(CameraError, match="no device with serial number 123"):
        camera.connect()
    assert not camera.connected
    camera = process("shape")
    with pytest.raises(CameraError, match=r"'wrist'.*'image' as uint8 \(24, 32, 3\), got uint8 \(24, 30, 3\)"):
        camera.connect()
    with pytest.raises(ValueError, match="less than two pictures"):
        process(stale=0.01)


def test_a_camera_may_take_longer_for_its_first_picture() -> None:
    with process("warming", stale=0.5) as camera:
        assert camera.latest().number == 0


def test_a_camera_that_never_gives_a_picture_is_told_and_left_at_once() -> None:
    camera = CameraProcess(functools.partial(CountingCamera, "hang", 0), start=5.0)
    begin = time.monotonic()
    with pytest.raises(CameraError, match="'wrist': no picture within 5"):
        camera.connect()
    assert time.monotonic() - begin < 25
    assert not camera.connected


_PARENT = """
import functools, os, sys
from camera_fakes import CountingCamera
from real_robot.check import CheckSettings, check_camera
from real_robot.camera_process import CameraProcess
if __name__ == "__main__":
    camera = CameraProcess(functools.partial(CountingCamera))
    camera.connect()
    print(camera.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_camera_does_not_outlive_its_parent(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    paths = os.pathsep.join([str(p) for p in sys.path if p])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    pid = int(done.stdout)
    limit = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < limit, "the camera's process goes on without its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
