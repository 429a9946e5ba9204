"""Times of the UR driver, on the fake controller in a process of its own: there is no arm in this.

    python scripts/bench_ur.py
    python scripts/bench_ur.py seconds=30 speed=0.25

Prints how long connecting takes, how evenly targets arrive at the controller, how accurately it ends, and how soon and
where the arm rests after each fault. Keys: address, connects, seconds, rates, speed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from omegaconf import DictConfig

from equidiff.hydra_app import run_app


def _spread(name: str, seconds: np.ndarray) -> str:
    p50, p99, most = 1e3 * np.percentile(seconds, [50, 99, 100])
    return f"{name} p50 {p50:.2f}, p99 {p99:.2f}, max {most:.2f} ms"


def main(config: DictConfig) -> None:
    """Measure and print."""
    from real_robot.contract import RobotError
    from real_robot.drivers.ur_settings import URSettings
    from real_robot.fakes import ur_bench
    from real_robot.fakes.ur_controller import FakeUR

    with FakeUR(config.address, unlock_after=0.0) as fake:
        plain = URSettings(config.address)
        # a computer that is busy with other things as well would be refused for states of 0.1 s
        patient = replace(plain, max_state_age=0.5, command_timeout=0.4)
        connect, disconnect = ur_bench.measure_connection(fake, plain, config.connects)
        print(f"connect: median {np.median(connect):.2f} s, at most {connect.max():.2f} of {len(connect)}")
        print(f"disconnect: median {np.median(disconnect):.2f} s", flush=True)
        for rate in config.rates:
            found = ur_bench.measure_following(fake, replace(patient, command_hz=rate), config.seconds)
            print(f"{rate} Hz: {found.sent} targets sent, {found.arrived} arrived")
            for name, seconds in (
                ("  between targets at the controller", found.intervals),
                ("  from command() to the controller", found.latencies),
                ("  command() itself", found.calls),
                ("  age of a state when read", found.ages),
            ):
                print(_spread(name, seconds), flush=True)
        accuracy = ur_bench.measure_accuracy(fake, patient)
        print(
            f"end of a line: {1e3 * accuracy.line:.3f} mm, {accuracy.turn:.5f} rad off; "
            f"homing: {accuracy.homing:.5f} rad off"
        )
        for fault in ur_bench.FAULTS:
            stopped = None
            for _ in range(5):
                fake.reset()
                try:
                    stopped = ur_bench.measure_stopping(fake, plain, fault, config.speed)
                    break
                except RobotError as error:
                    print(f"{fault}: again, {error}", flush=True)
            if stopped is None:
                continue
            print(
                f"{fault}: at rest after {stopped.seconds:.3f} s and {1e3 * stopped.metres:.1f} mm, "
                f"largest step of a cycle {1e3 * stopped.step:.2f} mm",
                flush=True,
            )


if __name__ == "__main__":
    run_app(main, "bench_ur", __doc__)
