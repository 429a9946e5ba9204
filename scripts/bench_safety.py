"""Time of one tick of the safety gate and of the kinematics under it: python scripts/bench_safety.py [arm] [ticks].

Prints microseconds of wall time: median, 99th percentile and the slowest, with the arm going about in its box and at
its target; and the lowest median of a hundred calls in a row, which is nearly what a computer with nothing else to do
would show.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from real_robot.kinematics import load_arm
from real_robot.poses import Pose, exp_map
from real_robot.safety import Bound, Box, Cone, RateLimits, SafetyGate, SafetyLimits
from real_robot.types import Array, RobotState, Target

JOINTS = {"ur5e": [0.0, -1.9, 2.0, -1.67, -1.57, 0.0], "panda": [0.0, 0.2, 0.0, -2.2, 0.0, 2.4, 0.785]}


def main(name: str, ticks: int) -> None:
    arm = load_arm(name, Pose([0, 0, 0.15], np.eye(3)))
    joints = np.array(JOINTS[name])
    start = arm.pose(joints)
    many = np.repeat(joints[None], 12, axis=0)
    print(f"{name}, microseconds           p50      p99      max    quiet")
    _report("sum of two 3-vectors", _times(lambda _: start.position + start.position, 2000))  # how fast NumPy is here
    _report("forward kinematics", _times(lambda _: arm.forward(joints), 2000))
    _report("and Jacobian", _times(lambda _: arm.forward_jacobian(joints), 2000))
    _report("step of inverse kin.", _times(lambda _: arm.step(joints, start.matrix), 2000))
    _report("twelve of them at once", _times(lambda _: arm.step(many, start.matrix), 2000))

    gate = SafetyGate(_limits(start), arm, command_hz=500, gripper=(0, 0.085))
    gate.reset(RobotState(0.0, joints, np.zeros(arm.dof), start, 0.04), 0.0)
    setpoint = Target(start, 0.04)

    def tick(k: int, target: Target) -> None:
        nonlocal setpoint
        now = gate.dt * (k + 1)
        state = RobotState(now, gate.joints, np.zeros(arm.dof), setpoint.pose, 0.04)
        decision = gate.next(target, state, now)
        assert not decision.held, decision
        setpoint = decision.setpoint

    targets = [
        Target(
            Pose(start.position + 0.1 * np.sin([0.0015 * k, 0.002 * k, 0.001 * k]), start.rotation @ exp_map(turn)), 0.0
        )
        for k, turn in enumerate(0.4 * np.sin(np.outer(np.arange(ticks), [0.0015, 0.002, 0.001])))
    ]
    _report("gate, going about", _times(lambda k: tick(k, targets[k]), ticks))
    _report("gate, at its target", _times(lambda k: tick(ticks + k, targets[-1]), 1000)[500:])


def _limits(pose: Pose) -> SafetyLimits:
    return SafetyLimits(
        box=Box(pose.position - 0.2, pose.position + 0.2),
        keep_out=(Box(pose.position + [0.12, -0.2, -0.2], pose.position + [0.2, 0.0, 0.0]),),
        cone=Cone(np.array([0.0, 0.0, 1.0]), pose.rotation[:, 2], 0.8),
        linear=RateLimits(0.25, 1.5, 20.0),
        angular=RateLimits(1.0, 5.0, 60.0),
        step_jump=Bound(0.1, 0.6),
        tracking_error=Bound(0.05, 0.3),
        gripper=(0.0, 0.085),
        gripper_speed=0.15,
    )


def _times(call: Callable[[int], object], count: int) -> Array:
    out = np.empty(count)
    for k in range(count):
        before = time.perf_counter()
        call(k)
        out[k] = time.perf_counter() - before
    return out


def _report(name: str, seconds: Array) -> None:
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e6
    quiet = min(np.median(part) for part in np.array_split(seconds, max(1, len(seconds) // 100))) * 1e6
    print(f"{name:24} {p50:9.0f} {p99:8.0f} {seconds.max() * 1e6:8.0f} {quiet:8.0f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ur5e", int(sys.argv[2]) if len(sys.argv) > 2 else 5000)
