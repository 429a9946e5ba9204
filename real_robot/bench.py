"""Prove on the bench that a driver and its arm keep the contract, before any policy moves it.

    python -m real_robot.bench robot=sim ask=false tolerance=0.006
    python -m real_robot.bench robot=ur5e robot.address=192.168.1.10

Asks before it moves the tool, up and down by at most twice `distance`; keep a hand at the emergency stop. Prints each
check with what was measured; the exit status is 1 when one fails. docs/safety.md says what comes before and after.
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from equidiff.hydra_app import run_app

__all__ = ["main"]


def main(config: DictConfig) -> int:
    """Check; the exit code."""
    print("loading ...", flush=True)
    from real_robot.build import BuildError, build_robot, clock_of, driver_of
    from real_robot.check import CheckSettings, check_robot
    from real_robot.clock import ManualClock
    from real_robot.contract import DeviceError

    simulated = driver_of(config.robot) == "sim"
    if not config.ask and not simulated:
        raise BuildError("ask=false: is for simulated arms; somebody has to look before this one moves")
    names = ("distance", "speed", "tolerance", "max_age", "patience")
    settings = CheckSettings(**{name: float(config[name]) for name in names})
    try:
        robot = build_robot(config.robot)
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    clock = clock_of(robot)
    if isinstance(clock, ManualClock):
        raise BuildError("robot.virtual=true: the checks use threads and need real time")
    report = check_robot(robot, (lambda question: True) if not config.ask else _ask, settings, clock)
    print(report)
    print("all checks passed" if report.passed else f"failed: {', '.join(report.failed)}")
    return int(not report.passed)


def _ask(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() == "y"
    except EOFError:
        return False


if __name__ == "__main__":
    run_app(main, "check_robot", __doc__)
