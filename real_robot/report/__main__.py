"""Make report.json and report.html of a run from its run.jsonl.

    python -m real_robot.report outputs/robot/run
    python -m real_robot.report run_dir=outputs/robot/run rerun=true   # also report.rrd, for: rerun report.rrd

The page is one file; video.mp4 of the same folder goes into it (beyond 12 MB it is named and must lie beside it). A run
that was cut off is reported as far as its record goes.
Keys: run_dir, out (default: run_dir), rerun.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from equidiff.hydra_app import run_app
from real_robot.records import RecordError


def main(config: DictConfig) -> int:
    """Write the report; the exit code."""
    from real_robot.report.write import write_report

    try:
        out = None if config.out is None else Path(config.out)
        for path in write_report(Path(config.run_dir), out, bool(config.rerun))[1:]:
            print(path)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # a bare word is the run
    sys.argv[1:] = [word if "=" in word or word.startswith("-") else f"run_dir={word}" for word in sys.argv[1:]]
    run_app(main, "run_report", __doc__)
