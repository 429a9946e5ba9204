"""The ring: what is read is what was written, whole, or is said to be gone."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from real_robot.rings import Ring, RingError, RingInfo, RingReader, RingWriter

pytestmark = pytest.mark.realtime

FIELDS = {"image": ((40, 50, 3), "uint8"), "depth": ((40, 50), "uint16")}


def arrays(value: int) -> dict[str, np.ndarray]:
    return {"image": np.full((40, 50, 3), value % 256, np.uint8), "depth": np.full((40, 50), value, np.uint16)}


def test_items_come_back_in_order_until_they_are_overwritten() -> None:
    with Ring(FIELDS, 4) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        assert reader.latest() is None
        assert reader.nearest(0.0) is None
        assert reader.beat_age == math.inf
        for i in range(6):
            assert writer.write(0.1 * i, arrays(i), tag=100 + i) == i
        assert reader.read(1) is None, "overwritten"
        assert reader.read(6) is None, "not there yet"
        assert reader.read(-1) is None
        item = reader.read(3)
        assert item is not None
        assert (item.number, item.stamp, item.tag) == (3, pytest.approx(0.3), 103)
        assert (item.arrays["depth"] == 3).all()
        latest = reader.latest()
        assert latest is not None
        assert latest.number == 5
        assert reader.stamps() == [(i, pytest.approx(0.1 * i)) for i in (2, 3, 4, 5)]
        for asked, found in ((0.31, 3), (0.34, 3), (0.36, 4), (9.0, 5), (-9.0, 2)):
            assert all(head.arrays == {} for head in reader.heads())
            nearest = reader.nearest(asked)
            assert nearest is not None
            assert nearest.number == found
        assert reader.beat_age < 60


def test_what_was_read_does_not_change_later() -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        writer.write(0.0, arrays(1))
        item = reader.latest()
        assert item is not None
        for i in range(5):
            writer.write(1.0, arrays(50 + i))
        assert (item.arrays["image"] == 1).all()


def test_an_item_overwritten_during_the_read_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        writer.write(0.0, arrays(0))
        fence = RingReader._fence
        calls = []

        def overtake(side: RingReader) -> None:
            calls.append(0)
            if side is reader and len(calls) == 2:  # after the copy, before the check
                for i in range(1, 4):
                    writer.write(i, arrays(i))
            fence(side)

        monkeypatch.setattr(RingReader, "_fence", overtake)
        assert reader.read(0) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": np.zeros((40, 50, 4), np.uint8)}, "'image' as uint8"),
        ({"depth": np.zeros((40, 50), np.int32)}, "got int32"),
        ({"depth": None}, "got nothing"),
    ],
)
def test_other_arrays_are_refused(change: dict, said: str) -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        with pytest.raises(ValueError, match=said):
            writer.write(0.0, {**arrays(0), **change})
        with pytest.raises(ValueError, match="finite stamp"):
            writer.write(math.nan, arrays(0))
        assert reader.written == 0


def test_ends_are_told() -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        reader.check()
        writer.fail("camera 'top': unplugged " + "x" * 1000)
        with pytest.raises(RingError, match="camera 'top': unplugged"):
            reader.check()
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        writer.finish()
        with pytest.raises(RingError, match="finished"):
            reader.check()
        reader.close()
        with pytest.raises(RingError, match="closed already"):
            reader.latest()


def test_a_ring_is_gone_after_close_and_says_so() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        Ring(FIELDS, 2)
    ring = Ring(FIELDS, 3)
    big = RingInfo(ring.info.name, ring.info.fields, 300)
    with pytest.raises(RingError, match="made for other arrays"):
        RingReader(big)
    ring.close()
    ring.close()
    with pytest.raises(RingError, match="its segment is gone"):
        RingReader(ring.info)


def test_waits_for_a_number_and_gives_up_in_time() -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer, RingReader(ring.info) as reader:
        begin = time.monotonic()
        assert reader.wait(0, 0.05) is None
        assert 0.05 <= time.monotonic() - begin < 10
        writer.write(0.0, arrays(7))
        item = reader.wait(0, 5.0)
        assert item is not None
        assert item.number == 0

        def lost() -> None:
            raise RingError("lost")

        with pytest.raises(RingError, match="lost"):
            reader.wait(1, 100.0, lost)


def _write_for_ever(info: RingInfo) -> None:
    with RingWriter(info) as writer:
        i = 0
        while True:
            writer.write(float(i), arrays(i % 60000), tag=i)
            i += 1


def test_a_fast_writer_in_another_process_is_never_seen_half_way_and_may_be_killed() -> None:
    with Ring(FIELDS, 4) as ring, RingReader(ring.info) as reader:
        process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(ring.info,), daemon=True)
        process.start()
        assert reader.wait(20, 20.0) is not None
        seen, end = 0, time.monotonic() + 1.0
        while time.monotonic() < end or seen < 50:
            item = reader.latest()
            assert item is not None
            value = item.tag % 60000
            assert (item.arrays["depth"] == value).all()
            assert (item.arrays["image"] == value % 256).all()
            assert item.stamp == item.tag == item.number
            seen += 1
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        item = reader.latest()
        assert item is not None, "what was written stays readable"
        time.sleep(0.05)
        assert reader.beat_age >= 0.05


_STRANGER = """
import sys
from real_robot.rings import RingInfo, RingReader, RingWriter
info = RingInfo(sys.argv[1], (("image", (40, 50, 3), "uint8"), ("depth", (40, 50), "uint16")), 3)
with RingReader(info) as reader:
    print(reader.latest().tag)
"""


def test_processes_that_open_and_leave_do_not_take_the_ring_along() -> None:
    with Ring(FIELDS, 3) as ring, RingWriter(ring.info) as writer:
        writer.write(0.0, arrays(1), tag=42)
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", _STRANGER, ring.info.name],
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == "42"
            assert done.stderr == ""


_OWNER = """
import multiprocessing, sys
from real_robot.rings import Ring, RingReader, RingWriter
def child(info):
    with RingWriter(info) as writer:
        pass
if __name__ == "__main__":
    ring = Ring({"x": ((2,), "float64")}, 3)
    reader = RingReader(ring.info)
    process = multiprocessing.get_context("spawn").Process(target=child, args=(ring.info,))
    process.start(); process.join()
    print(ring.info.name, process.exitcode, flush=True)
    if sys.argv[1] == "clean":
        reader.close(); ring.close()
    else:
        import os; os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["clean", "killed"])
def test_no_warning_of_the_resource_tracker_and_no_segment_left(end: str, tmp_path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(_OWNER)
    done = subprocess.run([sys.executable, str(script), end], capture_output=True, text=True, check=False)
    name, code = done.stdout.split()
    assert code == "0"
    if end == "clean":
        assert done.stderr == ""
    limit = time.monotonic() + 10  # after a kill the tracker removes it, at its own pace
    while True:
        try:
            SharedMemory(name)
        except FileNotFoundError:
            break
        assert time.monotonic() < limit, "the segment was left behind"
        time.sleep(0.05)
