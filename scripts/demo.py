"""The whole method on one task: demonstrations, four policies on the same data, rollouts, a report.

    python scripts/demo.py lift                       # minutes on two cores; `make demo` does this
    python scripts/demo.py stack
    python scripts/demo.py lift seeds=3               # three trainings of each policy, pooled
    python scripts/demo.py lift policies=equivariant,augmented n_demo=10 steps=6000
    python scripts/demo.py stack data=demos.hdf5      # demonstrations from a file
    python scripts/demo.py lift fresh=true            # start over; otherwise finished stages are reused
    python scripts/demo.py lift record=docs/results/demo.json

Settings and their defaults are in configs/demo/<task>.yaml; every one can be given as key=value. Writes to
outputs/demo/<task> (out=... for another place than outputs/demo):

    report.html         the comparison on one page; contact_sheet.png and video.mp4 are in it
    demo.json           the numbers
    demonstrations/     the recorded demonstrations
    <policy>/seed<k>/   one training: settings, metrics, checkpoints, rollouts

Paths are of the folder in which you are. An interrupted demo goes on where it was: run the same command again, without
fresh=true (it is printed).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run the demo of the command line `arguments`; returns the exit status."""
    from equidiff.demo.command import run_comparison

    return run_comparison("scripts/demo.py", __doc__ or "", ROOT / "configs" / "demo", ROOT, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
