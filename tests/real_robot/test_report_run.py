"""A run is read back as it was, summed up in numbers that are known, and bad records are named."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_toys import BEGIN, HZ, LAG, pose, write_run

from real_robot.records import RecordError, RecordWriter
from real_robot.report import Run, load_run
from real_robot.report.summary import angles, stages, summarise, tracking_error


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(write_run(tmp_path_factory.mktemp("run") / "a"))


@pytest.fixture(scope="module")
def found(run: Run) -> dict[str, Any]:
    summary = summarise(run)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    return summary


def test_arrays(run: Run) -> None:
    ticks = run.ticks
    assert len(ticks.t) == 300
    assert ticks.joints.shape == (300, 6)
    np.testing.assert_allclose(ticks.t, BEGIN + np.arange(300) / HZ)
    np.testing.assert_allclose(ticks.sent[0], pose(0))
    assert np.isnan(ticks.target[:50]).all()
    assert np.isfinite(ticks.target[50:200]).all()
    assert np.isnan(ticks.sent[200:230]).all()
    assert np.isnan(ticks.gripper[0, 1])
    assert ticks.gripper[60].tolist() == [0.04, 0.05]
    assert ticks.limits[105] == ("box", "velocity")
    assert run.plans.number.tolist() == [2, 3, 4, 6, 7]
    assert run.plans.dropped.tolist() == [False, False, True, False, False]
    assert np.isnan(run.plans.received[1])
    assert list(run.frames) == ["wrist"]
    assert (run.first, run.last) == (BEGIN, BEGIN + 3)


def test_states(run: Run) -> None:
    names = [name for name, _, _ in run.states]
    assert names == ["homing", "ready", "running", "holding", "running", "stopped"]
    np.testing.assert_allclose([until - since for _, since, until in run.states], [0, 0.5, 1.5, 0.3, 0.7, 0], atol=1e-9)


def test_latencies(found: dict[str, Any]) -> None:
    latency = found["latency_s"]
    for name, expected in {
        "capture to arrival: wrist": 0.03,
        "age of the arm's state": 0.004,
        "age of the observation when asked": 0.05,
        "perception": 0.015,
        "planning": 0.1,
        "round trip of a plan": 0.12,
        "observation to plan": 0.17,
        "tick compute": 0.002,
    }.items():
        for quantile in ("p50", "p99", "max"):
            assert latency[name][quantile] == pytest.approx(expected, abs=1e-9), name
    assert latency["planning"]["count"] == 4  # one was never answered
    late = latency["tick lateness"]
    assert (late["p50"], late["max"], late["count"]) == (0.001, 0.02, 300)
    assert 0.001 < late["p99"] <= 0.02


def test_counts(found: dict[str, Any]) -> None:
    assert found["plans"] == {
        "requested": 5, "unanswered": 1, "dropped": 1, "actions": 64, "late_actions": 8, "dropped_actions": 16,
    }  # fmt: skip
    assert found["ticks"]["count"] == 300
    assert found["ticks"]["without_a_target"] == 80
    assert found["ticks"]["with_a_command"] == 270
    assert found["ticks"]["longest_gap_s"] == pytest.approx(0.01)
    assert found["limits"] == {"ticks": 15, "by_name": {"velocity": 15, "box": 10}}
    assert found["frames"]["wrist"]["count"] == 54
    assert found["frames"]["wrist"]["lost"] == 6
    assert found["frames"]["wrist"]["hz"] == pytest.approx(20)
    assert found["frames"]["wrist"]["longest_gap_s"] == pytest.approx(0.1)
    assert found["faults"] == [{"t": BEGIN + 2, "name": "stale image", "detail": "wrist: <0.5 s> old"}]
    assert found["success"] is True
    assert found["cut_off"] is False
    assert found["state_s"]["running"] == pytest.approx(2.2)


def test_tracking_finds_the_lag_of_the_arm(found: dict[str, Any], run: Run) -> None:
    tracking = found["tracking"]
    assert tracking["lag_s"] == pytest.approx(LAG)
    chord = 2 * 0.05 * math.sin(3 * LAG / 2)
    assert tracking["error"]["metres"]["p50"] == pytest.approx(chord, rel=0.02)
    assert tracking["error"]["radians"]["p50"] == pytest.approx(0.2 * LAG, abs=0.002)
    assert tracking["error_after_lag"]["metres"]["max"] < 1e-4
    assert tracking["changed_by_the_gate"]["metres"]["max"] == pytest.approx(0.002)
    metres, _ = tracking_error(run.ticks)
    assert np.isnan(metres[201:230]).all()  # nothing was sent: nothing to compare
    assert np.isfinite(metres[60:200]).all()


def test_angles_are_right_near_zero_and_half_a_turn() -> None:
    turns = np.array([0.0, 1e-6, 0.5, 3.1, np.pi])
    quats = np.stack([np.zeros(5), np.zeros(5), np.sin(turns / 2), np.cos(turns / 2)], 1)
    one = np.tile([0.0, 0.0, 0.0, 1.0], (5, 1))
    np.testing.assert_allclose(angles(one, quats), turns, atol=1e-8)
    np.testing.assert_allclose(angles(one, -quats), turns, atol=1e-8)


def test_every_stage_has_its_times(run: Run) -> None:
    for name, stage in stages(run).items():
        assert stage.at.shape == stage.seconds.shape, name


def test_a_run_without_pictures_and_records_from_before_perception_was_told(tmp_path: Path) -> None:
    lines = (write_run(tmp_path / "new") / "run.jsonl").read_text().splitlines()
    for name, change in (("none", {"perceived_in": None}), ("old", {})):
        folder = tmp_path / name
        folder.mkdir()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            if row["kind"] == "plan":
                del row["perceived_in"]
                row.update(change)
        (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        latency = summarise(load_run(folder))["latency_s"]
        assert "perception" not in latency
        assert latency["planning"]["count"] == 4


def test_a_run_of_nothing(tmp_path: Path) -> None:
    """It failed before the first tick."""
    writer = RecordWriter(tmp_path)
    writer.write("start", 5.0, {"robot": "ur5e", "checkpoint": "x"})
    writer.write("end", 6.0, {"reason": "no connection", "success": None})
    writer.close()
    summary = summarise(load_run(tmp_path))
    assert summary["duration_s"] == 1
    assert summary["latency_s"]["planning"] == {"p50": None, "p99": None, "max": None, "count": 0}
    assert summary["tracking"]["lag_s"] is None


def test_an_arm_at_rest_has_no_lag(tmp_path: Path) -> None:
    lines = (write_run(tmp_path / "a") / "run.jsonl").read_text().splitlines()
    still = [json.dumps({**r, "sent": pose(0), "pose": pose(0)}) if r["kind"] == "tick" else json.dumps(r)
             for r in map(json.loads, lines)]  # fmt: skip
    (tmp_path / "run.jsonl").write_text("\n".join(still) + "\n")
    tracking = summarise(load_run(tmp_path))["tracking"]
    assert tracking["lag_s"] is None
    assert tracking["error"]["metres"]["max"] < 1e-12


# -- bad records -----------------------------------------------------------------------------------------


def test_a_run_cut_off_in_a_line_is_read_to_there(tmp_path: Path) -> None:
    file = write_run(tmp_path / "a", end=False) / "run.jsonl"
    whole = load_run(tmp_path / "a")
    assert whole.end is None
    assert summarise(whole)["cut_off"] is True
    text = file.read_text()
    file.write_text(text[:-40])
    cut = load_run(file)
    assert len(cut.ticks.t) == len(whole.ticks.t) - 1


def changed(tmp_path: Path, line: int, **fields: Any) -> Path:
    file = write_run(tmp_path / "a", seconds=0.6) / "run.jsonl"
    lines = file.read_text().splitlines()
    record = {**json.loads(lines[line - 1]), **fields}
    lines[line - 1] = json.dumps({key: value for key, value in record.items() if value != "gone"})
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("line", "fields", "message"),
    [
        (1, {"kind": "marker", "text": "x"}, "has no start record"),
        (2, {"kind": "start"}, ":2: a second start record"),
        (2, {"kind": "nonsense"}, ":2: not a record of a run"),
        (2, {"why": None}, ":2: transition.why: expected text, got None"),
        (4, {"late": "gone"}, ":4: tick.late: expected a finite number, it is missing"),
        (4, {"late": True}, ":4: tick.late: expected a finite number, got True"),
        (4, {"late": float("nan")}, ":4: tick.late: expected a finite number, got nan"),
        (4, {"t": "now"}, ":4: tick.t: expected a finite number, got 'now'"),
        (4, {"pose": [1, 2, 3]}, ":4: tick.pose: expected 7 finite numbers, got"),
        (4, {"pose": None}, ":4: tick.pose: expected 7 finite numbers, got None"),
        (4, {"sent": "gone"}, ":4: tick.sent: expected 7 finite numbers or null, it is missing"),
        (4, {"joints": [1, "x"]}, ":4: tick.joints: expected (some|6) finite numbers"),
        (6, {"joints": [1, 2]}, ":6: tick.joints: expected 6 finite numbers"),
        (4, {"limits": "box"}, ":4: tick.limits: expected a list of texts"),
        (5, {"number": 1.5}, ":5: frame.number: expected a whole number"),
        (-1, {"success": "yes"}, "end.success: expected true, false or null, got 'yes'"),
        (-1, {"success": 1}, "end.success: expected true, false or null, got 1"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, line: int, fields: dict[str, Any], message: str) -> None:
    line = line if line > 0 else len((write_run(tmp_path / "b", seconds=0.6) / "run.jsonl").read_text().splitlines())
    with pytest.raises(RecordError, match=message):
        load_run(changed(tmp_path, line, **fields))


def test_files_that_are_no_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "run.jsonl"))):
        load_run(tmp_path)
    (tmp_path / "run.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match="not a readable record"):
        load_run(tmp_path)
    (tmp_path / "run.jsonl").write_text("")
    with pytest.raises(RecordError, match="has no start record"):
        load_run(tmp_path)
