"""Run a trained policy on an arm, in closed loop.

    python -m real_robot.deploy robot=sim checkpoint=outputs/train/run/checkpoints/final            # a simulated arm
    python -m real_robot.deploy robot=sim checkpoint=... episodes=20 robot.virtual=true policy.delay=0.1
    python -m real_robot.deploy robot=ur5e checkpoint=... robot.address=192.168.1.10 operator=keyboard \\
        safety.box.low=[0.2,-0.4,0.02] safety.box.high=[0.7,0.4,0.5] calibration.base=base.json
    python -m real_robot.deploy robot=ur5e ... policy.server=wss://gpu:8600 policy.token_file=token.txt

The arm moves only while the dead-man switch is held. Each episode leaves a folder with run.jsonl, report.json,
report.html and video.mp4; docs/safety.md says what is guaranteed and what has to be done before the first run.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig

from equidiff.hydra_app import run_app

__all__ = ["main"]


def main(config: DictConfig) -> int:
    """As `config` says; the exit code: 0, or 1 when an episode ended by a fault or the operator's stop."""
    signal.signal(signal.SIGTERM, _terminated)
    print("loading ...", flush=True)
    from real_robot.calibration import CalibrationError
    from real_robot.contract import DeviceError
    from real_robot.planner import PlannerError
    from real_robot.records import RecordError
    from real_robot.session import Session

    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(config.run_dir) if config.run_dir else Path("outputs/deploy") / f"{config.robot.driver}-{stamp}"
    try:
        with ExitStack() as stack:
            session = Session(config, stack)
            solved = faulty = number = 0
            for number in range(int(config.episodes)):
                result = session.episode(number, folder / f"episode{number:03d}")
                solved += result.success is True
                faulty += bool(result.faults) and result.success is not True
                print(f"episode {number}: {result.reason}, {result.seconds:.1f} s")
                if result.by == "operator" or (result.by == "fault" and not session.simulated):
                    break  # somebody has to look before an arm moves again
            print(f"{solved} of {number + 1} episodes solved; reports in {folder}")
            return int(faulty > 0)
    except (DeviceError, PlannerError, RecordError, CalibrationError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # on the way out the arm is stopped


if __name__ == "__main__":
    run_app(main, "deploy", __doc__)
