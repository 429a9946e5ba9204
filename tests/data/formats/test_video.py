"""Video files: what the encoders do to the process in which they run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV (extra formats)")

from equidiff.data.formats.video import CODECS, VideoFile


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
@pytest.mark.parametrize("codec", CODECS)
def test_encoding_gives_this_program_no_other_priority(codec: str, tmp_path: Path) -> None:
    """For root SVT-AV1 asks for the highest of real time, and children inherit it: nothing else would get a core."""
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    video = VideoFile(tmp_path / "a.mp4", (64, 64), 20, codec, 30)
    video.add(np.zeros((3, 64, 64, 3), np.uint8))
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
    video.close()
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
