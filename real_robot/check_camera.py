"""`check_camera`: prove on the bench that a camera's driver keeps the contract (`real_robot.contract`)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from real_robot.check_table import CheckSettings, Report, Table
from real_robot.clock import Clock, MonotonicClock
from real_robot.contract import Camera, CameraError

__all__ = ["check_camera"]


def check_camera(camera: Camera, settings: CheckSettings | None = None, clock: Clock | None = None) -> Report:
    """All rules of the contract, on an unconnected driver; it is disconnected at the end."""
    s, clock, table = settings or CheckSettings(), clock or MonotonicClock(), Table()
    with table.guard("features without a connection"):
        f = camera.features
        good = bool(f.name) and f.width > 0 and f.height > 0 and f.fps > 0
        table.add("features without a connection", good, f"{f.name!r}, {f.width} x {f.height}, {f.fps:g} fps")
    with table.guard("refuses without a connection"):
        try:
            camera.read(0.1)
            word = "a picture came"
        except CameraError:
            word = "refused"
        table.add("refuses without a connection", word == "refused" and not camera.connected, word)
    try:
        with table.guard("connects"):
            camera.connect()
            table.add("connects", camera.connected, f"connected: {camera.connected}")
        if camera.connected:
            _pictures(camera, s, clock, table)
            with table.guard("connects again"):
                camera.disconnect()
                camera.disconnect()
                gone = not camera.connected
                camera.connect()
                frame = camera.read(s.patience)
                age = clock.now() - frame.stamp
                table.add("connects again", gone and age < 1.0, f"a picture {1e3 * age:.0f} ms old")
    finally:
        with table.guard("disconnects"):
            camera.disconnect()
    return table.report()


def _pictures(camera: Camera, s: CheckSettings, clock: Clock, table: Table) -> None:
    f, frames, ages = camera.features, [], []
    with table.guard("pictures are fresh and in order"):
        for _ in range(30):
            frames.append(camera.read(s.patience))
            ages.append(clock.now() - frames[-1].stamp)
        numbers, stamps = [x.number for x in frames], [x.stamp for x in frames]
        rising = all(b > a for a, b in pairwise(numbers))
        later = all(b > a for a, b in pairwise(stamps))
        rate = (len(stamps) - 1) / max(stamps[-1] - stamps[0], 1e-9)
        good = rising and later and min(ages) >= -1e-3 and max(ages) < 1.0
        measured = f"{rate:.1f} fps, {1e3 * np.median(ages):.0f} ms old, at most {1e3 * max(ages):.0f}"
        measured += "" if rising else "; numbers do not rise"
        measured += "" if later else "; stamps do not rise"
        table.add("pictures are fresh and in order", good, measured)
        steady = 0.5 * f.fps < rate < 1.5 * f.fps
        table.add("rate is the one of the features", steady, f"{rate:.1f} of {f.fps:g} fps")
    with table.guard("pictures are those of the features"):
        image, depth = frames[0].image, frames[0].depth
        wrong = []
        if image.shape != (f.height, f.width, 3) or image.dtype != np.uint8:
            wrong.append(f"image {image.shape} {image.dtype}")
        if (depth is not None) != f.has_depth:
            wrong.append("depth is there" if depth is not None else "depth is missing")
        elif depth is not None and (depth.shape != (f.height, f.width) or depth.dtype != np.uint16):
            wrong.append(f"depth {depth.shape} {depth.dtype}")
        if f.intrinsics is not None and f.intrinsics.shape != (3, 3):
            wrong.append(f"intrinsics {f.intrinsics.shape}")
        if any(np.shares_memory(a.image, b.image) for a, b in pairwise(frames)):
            wrong.append("pictures share memory: a later one overwrites an earlier")
        table.add("pictures are those of the features", not wrong, "; ".join(wrong) or f"{image.shape} {image.dtype}")
    with table.guard("a time-out is kept"):
        begin = clock.now()
        try:
            while clock.now() - begin < 0.5:
                camera.read(1e-4)
            word = "pictures were there each time"
        except CameraError:
            word = "raised in time"
        took = clock.now() - begin
        table.add("a time-out is kept", took < 1.5, f"{word}, {took:.2f} s")
