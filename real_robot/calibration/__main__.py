"""Calibrate a camera against the arm from pictures of a ChArUco board, and check the symmetry axis.

    python -m real_robot.calibration make=board out=board.pdf                    # print it, measure a square
    python -m real_robot.calibration folder=shots camera=agentview mount=base board.square=0.0298
    python -m real_robot.calibration folder=shots camera=robot0_eye_in_hand mount=hand 'axis.level=[0.1,-0.2]'
    python -m real_robot.calibration make=base 'axis.level=[0.1,-0.2]' base.yaw=0     # the base alone, no camera
    python -m real_robot.calibration make=gravity serial=0123456789              # accelerometer of a RealSense

folder holds the pictures and poses.json, the pose of the tool in the base's frame at each:

    {"000.png": {"position": [x, y, z], "quat_xyzw": [x, y, z, w]}, ...}

Writes <folder>/<camera>.json: lens, pose of the camera, and all errors; make=base writes base.json. Exit code 2 and
nothing written when the calibration or the symmetry axis is refused. docs/calibration.md says how to take the pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app
from real_robot.calibration.board import BoardSettings, CalibrationError, print_board
from real_robot.contract import DeviceError


def main(config: DictConfig) -> int:
    """What `config` asks for; the exit code."""
    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    try:
        if tree["make"] == "board":
            return _board(tree)
        if tree["make"] == "gravity":
            from real_robot.drivers.realsense import read_gravity

            reading = read_gravity(serial=tree["serial"])
            print(f"axis.gravity.reading={[round(float(v), 5) for v in reading]}")
            return 0
        from real_robot.calibration.app import calibrate, measure_base

        ways = {"calibration": calibrate, "base": measure_base}
        if tree["make"] not in ways:
            raise CalibrationError(f"make: expected calibration, base, board or gravity, got {tree['make']!r}")
        return ways[tree["make"]](tree)
    except (CalibrationError, DeviceError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _board(tree: dict[str, Any]) -> int:
    board = BoardSettings(**tree["board"])
    path = Path(tree["out"] or "board.pdf")
    width, height = print_board(board, path, tree["dpi"])
    print(
        f"{path}: {board.columns} x {board.rows} squares of {1000 * board.square:g} mm, {width} x {height} pixels; "
        "print it at 100 %, glue it to something flat, and measure a row of squares: that gives board.square"
    )
    return 0


if __name__ == "__main__":
    run_app(main, "calibrate", __doc__)
