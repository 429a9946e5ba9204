"""The benchmark of loading: its file is one that training reads, and every way of reading gives the same values."""

from __future__ import annotations

from pathlib import Path

import pytest

from equidiff.data import bench
from equidiff.data.bench import WAYS, measure, sentence, write_bench_file
from equidiff.fields.presets import absolute_action, camera_observation
from equidiff.report.measured_data import markdown_loading, markdown_replay
from equidiff.spec import Horizon, Space, Spec


def test_every_way_reads_the_same_pictures(tmp_path: Path) -> None:
    path = write_bench_file(tmp_path / "bench.hdf5", n=22, steps=12, size=20, progress=False)
    observation = camera_observation(("agentview",), ("robot0_eye_in_hand",), 20)
    spec = Spec(Space(observation), Space(absolute_action()), Horizon(obs=2, predict=16, execute=8))
    found = {way: bench._read(str(path), spec, way, 8, 0.0) for way in WAYS}  # two batches of each
    assert len({figures["checksum"] for figures in found.values()}) == 1
    assert all(figures["batches"] == 2 for figures in found.values())


@pytest.mark.slow
def test_what_is_measured_becomes_a_table(tmp_path: Path) -> None:
    path = write_bench_file(tmp_path / "bench.hdf5", n=22, steps=12, size=20, progress=False)
    found = measure(path, size=20, batch=8, seconds=0.0, obs=2, ways=("cache", "hdf5"))
    assert [p.name for p in tmp_path.glob("*.hdf5")] == ["bench.hdf5"]
    assert found["cache_over_hdf5"] > 0
    assert found["build"]["gb"] == found["cache_gb"]
    assert "cache over HDF5" in sentence(found)
    settings = {"n": 22, "steps": 12, "size": 20, "batch": 8, "obs": 2}
    text = markdown_loading({**found, "settings": settings, "command": "python x.py"})
    assert "| HDF5 file directly |" in text
    assert "22 demonstrations of 12 steps" in text


def test_replays_become_a_table() -> None:
    figures = {
        "still_solved": 4,
        "solved_when_recorded": 5,
        "interval": [0.28, 0.99],
        "position_error_mm": {"mean": 0.31, "max": 2.34},
        "rotation_error_degrees": {"mean": 0.03, "max": 0.22},
        "clipped_share": 0.25,
    }
    none = {**figures, "still_solved": 0, "solved_when_recorded": 0, "interval": None}
    record = {"stack": {"command": "replay x", "controls": {"round_trip": figures, "absolute": none}}}
    text = markdown_replay(record)
    assert "| stack | round trip | 4/5 | 28–99 % | 0.31 / 2.3 mm | 0.03 / 0.2° | 25.00 % |" in text
    assert "| stack | absolute | 0/0 | 0–100 % |" in text
    assert "- `replay x`" in text
