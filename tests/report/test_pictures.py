"""Contact sheets and videos."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from synthetic import clip

from equidiff.report.pictures import Clip, contact_sheet, write_video


def test_contact_sheet_shows_start_middle_and_end_in_a_frame_of_the_outcome() -> None:
    sheet = np.asarray(contact_sheet([clip(100, 5, True), clip(40, 5, False), clip(60, 5, True)], columns=2))
    assert sheet.shape == (2 * (48 + 16 + 6) + 6, 2 * (3 * 64 + 6) + 6, 3)
    row = 16 + 3 + 24
    assert [int(sheet[row, 3 + 32 + 64 * i, 0]) for i in range(3)] == [100, 140, 180]
    solved, failed = sheet[row, 0], sheet[row, 3 * 64 + 6 + 6]
    assert solved[1] > solved[0]
    assert failed[0] > failed[1]


def test_video_can_be_read_back(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "deep" / "video.mp4", [[clip(100, 4), clip(50, 9)], [clip(10, 2)]], fps=10, hold_s=0.5
    )
    assert [p.name for p in path.parent.iterdir()] == ["video.mp4"]  # no part is left
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(decode, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 2 * (48 + 16 + 6) + 6, 2 * (64 + 6) + 6, 3)
    assert len(frames) == 9 + 5
    middle = frames[-1][16 + 3 + 24, 3 + 32]
    assert abs(int(middle[0]) - 160) < 12  # the short episode waits on its last frame


def test_a_failed_video_keeps_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "video.mp4", [[clip()]])
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("equidiff.report.pictures._framed", broken)
    with pytest.raises(OSError, match="no space"):
        write_video(path, [[clip()]])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bad_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="expected frames"):
        Clip(np.zeros((4, 8, 8), np.uint8), "x", True)
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([clip(), clip(size=(32, 32))])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="at least one"):
        write_video("never.mp4", [[]])
