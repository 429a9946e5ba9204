"""Round trip to a policy's server on this machine and back, with a policy that does nothing.

    python scripts/bench_server.py
    python scripts/bench_server.py n=2000 hz=50

The server runs in a process of its own; requests go over loopback without TLS at `hz`, as a control loop sends them.
"overhead" is the round trip without the seconds in which the server turned the arrays into tensors and called the
policy. Two observations, two steps each: a gripper's state, and the same with two 84x84 pictures and one 64^3 voxel
grid.
Keys: n (requests), hz.
"""

from __future__ import annotations

from omegaconf import DictConfig

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    """Measure and print."""
    from real_robot.server.bench import OBSERVATIONS, measure

    for observation in OBSERVATIONS:
        found = measure(observation, config.n, config.hz)
        times = [f"{1000 * s:.2f}" for s in (*found.total, *found.overhead)]
        print(
            f"{observation} ({found.bytes / 1000:.1f} kB, {found.count} requests): "
            f"round trip p50 {times[0]}, p99 {times[1]}, max {times[2]} ms; "
            f"overhead p50 {times[3]}, p99 {times[4]}, max {times[5]} ms",
            flush=True,
        )


if __name__ == "__main__":
    run_app(main, "bench_server", __doc__)
