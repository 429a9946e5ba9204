"""Policies that see, trained on this CPU: demonstrations, pictures or points, two policies, rollouts, a report.

    python scripts/visual_evidence.py lift_cloud            # a point cloud
    python scripts/visual_evidence.py lift_image            # a picture from above and one from the gripper
    python scripts/visual_evidence.py lift_cloud n_demo=50 steps=6000 policies=equivariant
    python scripts/visual_evidence.py lift_cloud fresh=true record=docs/results/lift_cloud.json

As scripts/demo.py, with one stage more: what a camera would have seen is drawn from the demonstrations' states.
Settings and their defaults are in configs/visual_evidence/<name>.yaml; every one can be given as key=value. Writes to
outputs/visual_evidence/<name> (out=... for another place than outputs/visual_evidence):

    report.html         the comparison on one page; contact_sheet.png and video.mp4 are in it
    demo.json           the numbers
    demonstrations/     the recorded demonstrations
    observations/       what the policies see of them
    <policy>/seed<k>/   one training: settings, metrics, checkpoints, rollouts

Paths are of the folder in which you are. An interrupted call goes on where it was: run the same command again, without
fresh=true (it is printed).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run the comparison of the command line `arguments`; returns the exit status."""
    from equidiff.demo.command import run_comparison

    folder = ROOT / "configs" / "visual_evidence"
    return run_comparison("scripts/visual_evidence.py", __doc__ or "", folder, ROOT, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
