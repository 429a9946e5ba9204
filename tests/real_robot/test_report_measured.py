"""The table of the closed loop: exact and real time, delays that were asked for and measured."""

from __future__ import annotations

from real_robot.report.measured import markdown_closed_loop


def test_rows_tell_the_delay_that_was_asked_for_and_the_measured_one() -> None:
    row = {"stitch": "real_time", "solved": 1, "episodes": 2, "seconds": 3.0, "jump_mm": None, "faults": {}}
    rows = [
        {**row, "time": "exact", "delay": 0.05, "observation_to_plan_s": 0.06},
        {**row, "time": "real", "delay": None, "observation_to_plan_s": 0.08},
        {**row, "time": "real", "delay": 0.2, "observation_to_plan_s": 0.214},
    ]
    table = markdown_closed_loop(
        {"task": "lift", "plain": {"solved": 2, "episodes": 2}, "rows": rows, "command": "python x"}
    )
    told = [line.split("|")[1:3] for line in table.splitlines() if "chunking" in line]
    assert [[cell.strip() for cell in line] for line in told] == [
        ["exact time, real-time chunking", "50 ms"],
        ["real time, real-time chunking", "of this computer (80 ms)"],
        ["real time, real-time chunking", "200 ms (214 ms)"],
    ]
