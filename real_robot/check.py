"""`check_robot` and `check_camera`: prove on the bench that a driver keeps the contract (`real_robot.contract`).

`check_robot` moves the arm, by the stated tiny distances and only after `confirm` said yes; keep the emergency stop at
hand.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from real_robot.check_camera import check_camera
from real_robot.check_table import Check, CheckSettings, Report, Table
from real_robot.clock import Clock, MonotonicClock
from real_robot.contract import Robot, RobotError
from real_robot.poses import Pose
from real_robot.types import RobotMode, RobotState, Sent, Target

__all__ = ["Check", "CheckSettings", "Report", "check_camera", "check_robot"]

_AT_REST = 0.01
"""rad/s"""
_SETTLE = 0.6
"""Seconds after which an arm that was told to stop, or told nothing, has to be at rest."""


class _RobotChecks:
    def __init__(self, robot: Robot, settings: CheckSettings, clock: Clock) -> None:
        self.robot, self.s, self.clock = robot, settings, clock
        self.table = Table()
        self.period = 1 / max(robot.features.command_hz, 1e-3)

    def wait(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now() + seconds)

    def command(self, pose: Pose, gripper: float) -> Sent:
        return self.robot.command(Target(pose, gripper), self.clock.now() + self.period)

    def stream(self, start: Pose, away: float, gripper: float, until: Callable[[], bool] = lambda: False) -> Pose:
        """From `start` by `away` metres along z at the speed of the settings, and some time at the end."""
        begin, duration = self.clock.now(), abs(away) / self.s.speed
        end = start
        while (passed := self.clock.now() - begin) < duration + 0.5 and not until():
            share = min(1.0, passed / duration)
            end = Pose(start.position + np.array([0, 0, share * away]), start.rotation)
            self.command(end, gripper)
            self.wait(self.period)
        return end

    def settle(self) -> RobotState:
        """The state when the arm rests, or after the patience."""
        end = self.clock.now() + self.s.patience
        while True:
            state = self.robot.observe()
            if np.abs(state.velocities).max() < _AT_REST or self.clock.now() > end:
                return state
            self.wait(0.01)

    # -- without a connection

    def features(self) -> None:
        with self.table.guard("features without a connection"):
            f = self.robot.features
            n = len(f.joint_low)
            wrong = [
                what
                for what, good in (
                    ("name or arm is empty", bool(f.name and f.arm)),
                    ("joint arrays differ in shape", f.joint_low.shape == f.joint_high.shape == f.joint_velocity.shape),
                    ("joint_low is not below joint_high", bool((f.joint_low < f.joint_high).all())),
                    ("joint_velocity is not positive", bool((f.joint_velocity > 0).all())),
                    ("gripper is not (closed, open)", 0 <= f.gripper[0] <= f.gripper[1]),
                    ("command_hz is not positive", f.command_hz > 0),
                    ("base_yaw is not finite", math.isfinite(f.base_yaw)),
                )
                if not good
            ]
            measured = "; ".join(wrong) or f"{f.name} ({f.arm}), {n} joints, {f.command_hz:g} Hz"
            self.table.add("features without a connection", not wrong, measured)

    def unconnected(self) -> None:
        with self.table.guard("refuses without a connection"):
            found = self.robot.connected
            target = Target(Pose([0.4, 0, 0.4], np.diag([1.0, -1.0, -1.0])), 0.0)
            refused = [
                self._refuses(self.robot.observe),
                self._refuses(lambda: self.robot.command(target, self.clock.now())),
            ]
            measured = f"connected: {found}; observe {refused[0]}, command {refused[1]}"
            passed = not found and all(word == "refused" for word in refused)
            self.table.add("refuses without a connection", passed, measured)
        with self.table.guard("stop and disconnect without a connection"):
            self.robot.stop()
            self.robot.disconnect()
            self.table.add("stop and disconnect without a connection", True, "nothing raised")

    def _refuses(self, call: Callable[[], object]) -> str:
        try:
            call()
        except RobotError:
            return "refused"
        except Exception as error:  # noqa: BLE001 - the wrong kind of error is what is looked for
            return f"raised {type(error).__name__}"
        return "accepted"

    # -- measuring

    def connect(self) -> bool:
        with self.table.guard("connects"):
            begin = self.clock.now()
            self.robot.connect()
            took = self.clock.now() - begin
            twice = self._refuses(self.robot.connect)
            good = self.robot.connected and twice == "refused"
            return self.table.add("connects", good, f"in {took:.2f} s; a second time: {twice}")
        return False

    def observations(self) -> None:
        with self.table.guard("observations are fresh and in order"):
            states, ages, took = [], [], []
            for _ in range(50):
                before = self.clock.now()
                states.append(self.robot.observe())
                now = self.clock.now()
                took.append(now - before)
                ages.append(now - states[-1].stamp)
                self.wait(self.period)
            stamps = [state.stamp for state in states]
            ordered = all(b >= a for a, b in pairwise(stamps))
            advancing = len(set(stamps)) > 5
            fresh = min(ages) >= -1e-3 and max(ages) < self.s.max_age
            measured = (
                f"age {1e3 * np.median(ages):.1f} ms, at most {1e3 * max(ages):.1f}; {len(set(stamps))} of 50 new; "
                f"observe takes {1e3 * max(took):.1f} ms at most"
            )
            if min(ages) < -1e-3:
                measured += f"; a stamp lies {-1e3 * min(ages):.1f} ms in the future"
            if not ordered:
                measured += "; stamps run backwards"
            self.table.add("observations are fresh and in order", ordered and advancing and fresh, measured)
        with self.table.guard("state agrees with features"):
            state, f = self.robot.observe(), self.robot.features
            wrong = [
                what
                for what, good in (
                    (f"joints {state.joints.shape}", state.joints.shape == f.joint_low.shape),
                    (f"velocities {state.velocities.shape}", state.velocities.shape == f.joint_low.shape),
                    ("not finite", np.isfinite([*state.joints, *state.velocities, state.gripper]).all()),
                    ("joints outside the limits", (state.joints >= f.joint_low).all()),
                    ("joints outside the limits", (state.joints <= f.joint_high).all()),
                    (
                        f"gripper {state.gripper:.4f} outside {f.gripper}",
                        f.gripper[0] - 0.005 <= state.gripper <= f.gripper[1] + 0.005,
                    ),
                    ("wrench is missing", not f.has_wrench or state.wrench is not None),
                    (f"mode {state.mode.value}", state.mode is RobotMode.READY),
                )
                if not good
            ]
            measured = "; ".join(wrong) or f"mode {state.mode.value}, gripper {1e3 * state.gripper:.1f} mm"
            self.table.add("state agrees with features", not wrong, measured)

    # -- moving

    def nonsense(self) -> None:
        with self.table.guard("refuses what is not finite"):
            state, now = self.robot.observe(), self.clock.now() + self.period
            broken = Pose(state.pose.position, state.pose.rotation)
            object.__setattr__(broken, "position", np.full(3, np.nan))
            words = {
                "gripper": self._refuses(lambda: self.robot.command(Target(state.pose, math.nan), now)),
                "position": self._refuses(lambda: self.robot.command(Target(broken, state.gripper), now)),
                "time": self._refuses(lambda: self.robot.command(Target(state.pose, state.gripper), math.inf)),
            }
            measured = ", ".join(f"{name} {word}" for name, word in words.items())
            self.table.add("refuses what is not finite", set(words.values()) == {"refused"}, measured)

    def arrival(self) -> None:
        with self.table.guard("commands are followed"):
            start = self.settle()
            begin = self.clock.now()
            sent = self.command(start.pose, start.gripper)
            took = self.clock.now() - begin
            honest = isinstance(sent, Sent) and begin <= sent.sent <= self.clock.now()
            end = self.stream(start.pose, self.s.distance, start.gripper)
            state = self.robot.observe()
            metres, radians = state.pose.distance(end)
            went = state.pose.position[2] - start.pose.position[2]
            self.table.add(
                "commands are followed",
                honest and metres < self.s.tolerance and radians < 0.02,
                f"{1e3 * went:.2f} mm of {1e3 * self.s.distance:.2f}; {1e3 * metres:.2f} mm and {radians:.4f} rad off; "
                + (f"command takes {1e3 * took:.1f} ms" if honest else "what was sent was not told"),
            )

    def silence(self) -> None:
        name = "stops when commands cease"
        with self.table.guard(name):
            start = self.settle()
            # it is on its way when the commands cease: the last target is where it must not arrive any more
            away = -2 * self.s.distance
            begin, sent, target = self.clock.now(), 0, start.pose
            while (passed := self.clock.now() - begin) < 0.5 * abs(away) / self.s.speed:
                target = Pose(start.pose.position + np.array([0, 0, -self.s.speed * passed]), start.pose.rotation)
                self.command(target, start.gripper)
                sent += 1
                self.wait(self.period)
            last = self.clock.now()
            self.wait(_SETTLE)
            first = self.robot.observe()
            self.wait(0.3)
            second = self.robot.observe()
            speed = max(float(np.abs(s.velocities).max()) for s in (first, second))
            drift, _ = first.pose.distance(second.pose)
            beyond = target.position[2] - second.pose.position[2]
            rested = speed < _AT_REST and drift < 5e-4 and beyond < self.s.tolerance
            self.table.add(
                name,
                rested and second.stamp > last,
                f"{sent} commands, then {speed:.4f} rad/s and {1e3 * drift:.2f} mm of drift after {_SETTLE} s; "
                f"{1e3 * beyond:+.2f} mm beyond the last target",
            )

    def stopping(self) -> None:
        name = "stop from another thread"
        with self.table.guard(name):
            start = self.settle()
            raised: list[str] = []
            at: list[float] = []

            def stop() -> None:
                try:
                    at.append(self.clock.now())
                    self.robot.stop()
                    self.robot.stop()
                except Exception as error:  # noqa: BLE001 - stop must never raise, whatever it is
                    raised.append(f"{type(error).__name__}: {error}")

            thread = threading.Thread(target=stop)
            begin, half = self.clock.now(), 0.5 * self.s.distance / self.s.speed

            def halfway() -> bool:
                return self.clock.now() - begin > half

            self.stream(start.pose, self.s.distance, start.gripper, until=halfway)
            here = self.robot.observe().pose
            thread.start()
            thread.join(self.s.patience)
            self.wait(_SETTLE)
            first = self.robot.observe()
            self.wait(0.3)
            second = self.robot.observe()
            way, drift = here.distance(second.pose)[0], first.pose.distance(second.pose)[0]
            speed = float(np.abs(second.velocities).max())
            measured = f"rest {1e3 * way:.2f} mm further, drift {1e3 * drift:.2f} mm"
            good = not raised and not thread.is_alive() and drift < 5e-4 and speed < _AT_REST and way < self.s.distance
            if raised:
                measured = f"raised {raised[0]}"
            self.table.add(name, good, measured)

    def staying(self) -> None:
        name = "stop is not overruled by commands under way"
        with self.table.guard(name):
            start = self.settle()
            self.wait(0.3)
            self.command(start.pose, start.gripper)
            self.robot.stop()
            refused = 0
            begin = self.clock.now()
            while (passed := self.clock.now() - begin) < self.s.distance / self.s.speed:
                target = Pose(start.pose.position + np.array([0, 0, self.s.speed * passed]), start.pose.rotation)
                try:
                    self.command(target, start.gripper)
                except RobotError:
                    refused += 1
                self.wait(self.period)
            moved = self.settle().pose.distance(start.pose)[0]
            self.table.add(name, moved < 5e-4, f"moved {1e3 * moved:.2f} mm, {refused} commands refused")

    def recovery(self) -> None:
        with self.table.guard("recovers"):
            self.robot.stop()
            self.robot.recover()
            state = self.settle()
            self.stream(state.pose, 0.5 * self.s.distance, state.gripper)
            went = self.robot.observe().pose.distance(state.pose)[0]
            good = abs(went - 0.5 * self.s.distance) < self.s.tolerance
            self.table.add("recovers", good, f"then moves {1e3 * went:.2f} mm of {500 * self.s.distance:.2f}")

    def again(self) -> None:
        with self.table.guard("connects again"):
            self.robot.disconnect()
            self.robot.disconnect()
            gone = not self.robot.connected
            self.robot.connect()
            self.wait(self.period)
            age = self.clock.now() - self.robot.observe().stamp
            self.robot.disconnect()
            good = gone and not self.robot.connected and age < self.s.max_age
            self.table.add("connects again", good, f"state {1e3 * age:.1f} ms old")


def check_robot(
    robot: Robot,
    confirm: Callable[[str], bool],
    settings: CheckSettings | None = None,
    clock: Clock | None = None,
) -> Report:
    """All rules of the contract, on an unconnected driver; it is disconnected at the end.

    confirm: asked, with what is going to happen, before the arm moves; False leaves the moving checks out, and the
    report then fails by the check "moving was confirmed". `clock`: the one that the driver stamps with.
    """
    checks = _RobotChecks(robot, settings or CheckSettings(), clock or MonotonicClock())
    s = checks.s
    checks.features()
    checks.unconnected()
    try:
        if checks.connect():
            checks.observations()
            question = (
                f"{robot.features.name} is going to move its tool up and down by at most {2e3 * s.distance:.0f} mm at "
                f"{1e3 * s.speed:.0f} mm/s. Is the way free, and a hand at the emergency stop?"
            )
            if checks.table.add("moving was confirmed", confirm(question), question):
                checks.nonsense()
                checks.arrival()
                checks.silence()
                checks.stopping()
                checks.staying()
                checks.recovery()
            checks.again()
    finally:
        with checks.table.guard("disconnects"):
            robot.stop()
            robot.disconnect()
    return checks.table.report()
