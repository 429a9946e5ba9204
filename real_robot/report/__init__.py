"""A run, read back and looked at: `load_run`, the summary, the page, a rerun recording. See docs/run_report.md."""

from real_robot.report.load import Frames, Plans, Run, Ticks, load_run

__all__ = ["Frames", "Plans", "Run", "Ticks", "load_run"]
