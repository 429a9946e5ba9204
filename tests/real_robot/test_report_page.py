"""The page of a run is one sound document, its charts keep the peaks, and rerun gets the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from run_toys import LAG, write_run

from real_robot.records import RecordError, RecordWriter
from real_robot.report import load_run
from real_robot.report.__main__ import main
from real_robot.report.charts import lines, thinned, timeline
from real_robot.report.page import render
from real_robot.report.rerun_log import write_rerun
from real_robot.report.summary import summarise


class Reader(HTMLParser):
    """Tags must nest; text and addresses are kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def settings(folder: Path, **more: object) -> object:
    return OmegaConf.create({"run_dir": str(folder), "out": None, "rerun": False, **more})


def test_one_page_with_everything_inside(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "video.mp4").write_bytes(b"a video")
    assert main(settings(folder)) == 0  # type: ignore[arg-type]
    page = Reader((folder / "report.html").read_text())
    assert all(address.startswith("data:") for address in page.addresses)
    assert any(address.startswith("data:video/mp4") for address in page.addresses)
    for words in (
        "Solved: time limit",
        "1 fault.",
        "12.5 % of the actions came late",
        "stale image: wrist: <0.5 s> old",
        "running to holding: stale image",
        "go on",
        "round trip of a plan",
        "limit: velocity",
        f"{1000 * LAG:.0f} ms later",
        "outputs/<toy>",
        "Force at the tool",
        "arm at a fault",
    ):
        assert words in page.text, words
    summary = json.loads((folder / "report.json").read_text())
    assert summary["latency_s"]["planning"]["p50"] == 0.1


def test_a_large_video_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seconds=0.6)
    video = folder / "video.mp4"
    with video.open("wb") as file:
        file.truncate(13_000_000)
    run = load_run(folder)
    assert "video.mp4" in Reader(render(run, summarise(run), video)).addresses


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.02, 0.6])
def test_short_and_cut_off_runs_have_a_page(tmp_path: Path, seconds: float) -> None:
    run = load_run(write_run(tmp_path / "a", seconds=seconds, end=False, wrench=False))
    page = Reader(render(run, summarise(run)))
    assert "Run cut off: its record has no end" in page.text
    assert "Force at the tool" not in page.text


def test_a_run_that_failed_before_its_first_tick_has_a_page(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.write("start", 5.0, {"robot": "ur5e", "checkpoint": "x"})
    writer.write("end", 6.0, {"reason": "no connection", "success": None})
    writer.close()
    run = load_run(tmp_path)
    page = Reader(render(run, summarise(run)))
    assert "Success not judged: no connection" in page.text
    assert "No ticks were recorded" in page.text


def test_bad_records_end_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(settings(tmp_path)) == 2  # type: ignore[arg-type]
    assert "error: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_peaks_survive_thinning() -> None:
    t = np.arange(100_000) / 100
    values = np.zeros(100_000)
    values[[123, 45_678, 99_999]] = 1, -2, 3
    at, kept = thinned(t, values)
    assert len(at) <= 1200
    assert (np.diff(at) > 0).all()
    assert {1, -2, 3} <= set(kept.tolist())
    at, kept = thinned(t[:100], values[:100])
    assert len(at) == 100


def test_lines_break_where_nothing_is_known() -> None:
    t = np.arange(20.0)
    values = np.sin(t)
    values[8:12] = np.nan
    svg = lines("x", "y", {"a": t}, {"a": values})
    root = xml.etree.ElementTree.fromstring(svg)
    drawn = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("fill") == "none" and e.get("stroke")]
    assert len(drawn) == 2
    assert svg.count(">a</text>") == 1


def test_the_timeline_shows_every_state_and_fault() -> None:
    svg = timeline([("ready", 0, 1), ("running", 1, 4), ("ready", 4, 5)], [(2.0, "a < b")], [(3.0, "mark")], 5.0)
    root = xml.etree.ElementTree.fromstring(svg)
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    width = [float(bar.get("width", "")) for bar in bars]
    assert width == pytest.approx([114, 342, 114])
    assert bars[0].get("y") == bars[2].get("y") != bars[1].get("y")
    assert "a &lt; b" in svg
    assert xml.etree.ElementTree.fromstring(timeline([], [], [], 0.0)) is not None


def test_rerun_gets_the_same_numbers(tmp_path: Path) -> None:
    dataframe = pytest.importorskip("rerun.dataframe", reason="needs the extra rerun")
    run = load_run(write_run(tmp_path / "a"))
    file = write_rerun(run, tmp_path / "report.rrd")
    recording = dataframe.load_recording(file)
    paths = {str(column).split("entity_path")[-1] for column in recording.schema().component_columns()}
    for name in ("scene/measured", "scene/sent_path", "latency", "gripper/sent", "joints/5", "events", "tracking"):
        assert any(name in path for path in paths), name
    view = recording.view(index="run", contents="/gripper/measured")
    table = view.select().read_all()
    values = [row[0] for row in table.column(table.num_columns - 1).to_pylist() if row]
    assert values == [0.04] * 300


def test_without_rerun_the_fix_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(write_run(tmp_path / "a", seconds=0.1))
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RecordError, match=r"pip install 'equidiff\[rerun\]'"):
        write_rerun(run, tmp_path / "report.rrd")


def test_rerun_takes_the_video(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra rerun")
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    writer = ffmpeg.write_frames(str(tmp_path / "video.mp4"), (64, 64), fps=10, ffmpeg_log_level="error")
    writer.send(None)
    for i in range(10):
        writer.send(np.full((64, 64, 3), 20 * i, np.uint8))
    writer.close()
    run = load_run(write_run(tmp_path / "a", seconds=0.6))
    plain = write_rerun(run, tmp_path / "plain.rrd").stat().st_size
    filmed = write_rerun(run, tmp_path / "filmed.rrd", tmp_path / "video.mp4").stat().st_size
    assert filmed > plain + 500


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seconds=0.6)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "real_robot.report", str(folder)], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")
    assert (folder / "report.json").is_file()
