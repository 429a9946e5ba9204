"""`SafetyGate`: the last thing before the driver; whatever comes in, what goes out keeps every limit.

Each tick it makes a candidate, one step towards the target, and looks at it *and at the whole way to rest from it*.
Only when both keep every limit is the candidate sent, and the way kept. Else the next point of the way that was kept
last is sent, which was looked at when it was kept. At rest the way to rest is to stay, so there always is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from real_robot.contract import RobotFeatures
from real_robot.kinematics import Arm, load_arm
from real_robot.poses import Pose
from real_robot.safety.admission import SafetyFault, Wanted, admit_state, admit_target
from real_robot.safety.limits import LimitsError, SafetyLimits
from real_robot.safety.motion import Motion, Mover, Way
from real_robot.safety.passage import Passage, PassageError
from real_robot.safety.reach import Ahead, JointLimits, Reach
from real_robot.safety.regions import Regions
from real_robot.types import Array, RobotState, Target

__all__ = ["Decision", "GateError", "SafetyGate"]

_SAMPLE = 0.025  # seconds between two samples of the way to rest
_MOST_SAMPLES = 24
_TICKS_AHEAD = 5.0  # by so many ticks the setpoint may run ahead of the clock
_REST_SPEED = 0.05  # rad/s, of measured joints of an arm that stands
_NEWS = (0.002, 0.02)  # metres, radians by which a target has to change after it led into a limit
_RETRY = 0.2  # seconds after which it is tried again nevertheless


class GateError(RuntimeError):
    """A start that the gate refuses; the message says what is outside and what to do."""


@dataclass(frozen=True, eq=False)
class Decision:
    """setpoint: to send now. limits: names of those that acted, see docs/safety_gate.md. fault: the first since
    `reset`, or None. at_rest: the setpoint stands. held: continuing needs `reset`."""

    setpoint: Target
    limits: tuple[str, ...]
    fault: SafetyFault | None
    at_rest: bool
    held: bool


class SafetyGate:
    """One for each arm; `reset` at the start, then `next` once each 1 / command_hz. Not for more than one thread.

    arm: kinematics up to the tool. gripper: (closed, open) metres that the hardware has.
    """

    def __init__(self, limits: SafetyLimits, arm: Arm, *, command_hz: float, gripper: tuple[float, float]) -> None:
        if not 10 <= command_hz <= 2000:
            raise LimitsError(f"command_hz: expected 10 to 2000, got {command_hz}")
        self.limits, self.arm, self.dt = limits, arm, 1 / command_hz
        self._mover = Mover(limits.linear, limits.angular, self.dt)
        self._regions = Regions(limits, self.dt)
        self._reach = Reach(arm, _joint_limits(limits, arm), self.dt)
        self._gripper_range = (max(limits.gripper[0], gripper[0]), min(limits.gripper[1], gripper[1]))
        if self._gripper_range[0] > self._gripper_range[1]:
            raise LimitsError(f"safety.gripper: {limits.gripper} has nothing in common with the hardware's {gripper}")
        self._setpoint: Target | None = None

    @classmethod
    def for_robot(
        cls, limits: SafetyLimits, features: RobotFeatures, tool: Pose, base: Pose | None = None
    ) -> SafetyGate:
        """The gate of a robot: its arm, the tighter of its joint limits and the maker's, its gripper and rate.

        tool: the tool seen from the maker's flange; base: see `load_arm`.
        """
        arm = load_arm(features.arm, tool, base).within(
            features.joint_low, features.joint_high, features.joint_velocity
        )
        return cls(limits, arm, command_hz=features.command_hz, gripper=features.gripper)

    @property
    def joints(self) -> Array:
        """Joints (n,) rad of the setpoint, in the branch in which the arm is."""
        return self._reach.joints.copy()

    def passage(self, goal: Array, state: RobotState, now: float) -> Passage:
        """The way of an arm at rest, measured as `state`, on a straight line in joint space to `goal` (n,) rad.

        GateError when the arm stands outside a limit, or the line, its end included, breaks one anywhere.
        """
        reason = self._refusal(state, now)
        if reason is not None:
            raise GateError(f"the gate lets nothing go home from here: {reason}")
        if goal.shape != (self.arm.dof,) or not np.isfinite(goal).all():
            raise GateError(f"home: expected {self.arm.dof} joints in finite radians, got {goal.tolist()}")
        start = np.array(state.joints, np.float64)
        try:
            return Passage(start, goal, self.arm, self.limits, self._regions, self._reach.limits)
        except PassageError as error:
            raise GateError(
                f"the straight line of the joints to home breaks {error}; choose another home, or move the arm by hand "
                "(free drive, the pendant) to where the way is clear"
            ) from error

    def reset(self, state: RobotState, now: float) -> Decision:
        """Start from the measured state at time `now`, with the arm at rest. GateError when it is outside a limit."""
        self._setpoint = None
        reason = self._refusal(state, now) or self._reach.reset(state.pose, np.array(state.joints, np.float64))
        if reason is not None:
            raise GateError(f"the gate does not start here: {reason}")
        self._motion = Motion.at_rest(np.array(state.pose.position), np.array(state.pose.rotation))
        self._way: Way | None = None  # at rest
        self._since = 0  # ticks on that way
        self._gripper = min(max(float(state.gripper), self._gripper_range[0]), self._gripper_range[1])
        self._fault: SafetyFault | None = None
        self._held = self._moved = False
        self._share = 1.0  # of the velocity
        self._avoid: tuple[Wanted, str] | None = None  # a target that led into a limit, and which
        self._avoided = 0  # ticks since
        self._now, self._lead = now, 0.0
        self._setpoint = Target(state.pose, self._gripper)
        return Decision(self._setpoint, (), None, True, False)

    def next(self, target: Target | None, state: RobotState, now: float) -> Decision:
        """The setpoint for this tick; never raises after `reset`, whatever it is given.

        target: where the tool shall be, or None to come to rest. state: the newest measurement. now: the run's clock.
        """
        if self._setpoint is None:
            raise GateError("the gate has not been started: call reset with the measured state first")
        acted: list[str] = []
        if self._fault is None:
            self._fault = self._watch(state, now)
        wanted = None
        if self._fault is None and not self._held:
            wanted = self._wanted(target, acted)
            if wanted is not None:
                self._moved = True
            elif self._moved or target is not None:
                self._held = True
        if self._fault is not None:
            self._held = True
            acted.append(self._fault.name)
        if self._held:
            acted.append("hold")
        if not (wanted is not None and self._go(wanted, acted)):
            self._brake(acted)
        if wanted is not None:
            self._move_gripper(wanted.gripper, acted)
        self._setpoint = Target(Pose(self._motion.position, self._motion.rotation), self._gripper)
        return Decision(self._setpoint, tuple(acted), self._fault, self._way is None, self._held)

    # -- what comes in

    def _refusal(self, state: RobotState, now: float) -> str | None:
        if not math.isfinite(now):
            return f"the time is {now}"
        fault = admit_state(state, now, self.limits, self.arm.joint_low, self.arm.joint_high)
        if fault is not None:
            return f"{fault.name}: {fault.detail}"
        velocities = np.asarray(state.velocities, np.float64)
        if velocities.shape != (self.arm.dof,) or not (np.abs(velocities) <= _REST_SPEED).all():
            return f"the arm moves, its joints at {velocities} rad/s; wait until it stands"
        metres, radians = self.arm.pose(state.joints).distance(state.pose)
        allowed = self.limits.kinematics_error
        if metres > allowed.position or radians > allowed.rotation:
            return (
                f"by its joints the tool is {metres * 1000:.1f} mm and {radians:.3f} rad from the measured pose, "
                f"allowed are {allowed.position * 1000:.1f} mm and {allowed.rotation} rad; compare tool, base "
                "and arm with the controller's settings"
            )
        broken = self._regions.point(state.pose.position, state.pose.rotation)
        if broken is not None:
            return f"{broken}: the tool is outside at {state.pose.position.round(4)}, rotation vector " + (
                f"{state.pose.rotvec.round(3)}; move the arm inside by hand, or correct safety.{broken}"
            )
        return None

    def _watch(self, state: RobotState, now: float) -> SafetyFault | None:
        if not isinstance(now, int | float) or not math.isfinite(now) or now < self._now:
            return SafetyFault("clock", f"the time is {now} after {self._now}")
        self._lead = max(0.0, self._lead + 1 - (now - self._now) / self.dt)
        self._now = now
        if self._lead > _TICKS_AHEAD:
            return SafetyFault("clock", f"called {self._lead:.0f} ticks ahead of the clock; once each {self.dt:.4f} s")
        fault = admit_state(state, now, self.limits, self.arm.joint_low, self.arm.joint_high)
        if fault is not None:
            return fault
        self._reach.measured(np.array(state.joints, np.float64))
        position = np.array(state.pose.position) - self._motion.position
        metres, radians = float(np.sqrt(position @ position)), _angle(self._motion.rotation, state.pose.rotation)
        allowed = self.limits.tracking_error
        if metres > allowed.position or radians > allowed.rotation:
            return SafetyFault(
                "tracking",
                f"the arm is {metres * 1000:.1f} mm and {radians:.3f} rad from the setpoint, allowed are "
                f"{allowed.position * 1000:.1f} mm and {allowed.rotation} rad",
            )
        return None

    def _wanted(self, target: object, acted: list[str]) -> Wanted | None:
        if target is None:
            return None
        wanted = admit_target(target)
        if wanted is None:
            acted.append("unusable_target")
            return None
        way = wanted.position - self._motion.position
        jump = self.limits.step_jump
        if way @ way > jump.position**2 or _angle(self._motion.rotation, wanted.rotation) > jump.rotation:
            acted.append("step_jump")
            return None
        boxed = self._regions.into_box(wanted.position)
        if np.abs(boxed - wanted.position).max() > 1e-4:
            acted.append("box")
        clear = self._regions.before_keep_out(self._motion.position, boxed)
        if clear is not boxed:
            acted.append("keep_out")
        upright = self._regions.into_cone(wanted.rotation)
        if upright is not wanted.rotation:
            acted.append("cone")
        return Wanted(clear, upright, wanted.gripper)

    # -- what goes out

    def _go(self, wanted: Wanted, acted: list[str]) -> bool:
        """One step towards the target, if it and the way to rest from it keep every limit."""
        if self._avoid is not None:
            self._avoided += 1
            old, name = self._avoid
            same = np.abs(wanted.position - old.position).max() < _NEWS[0] and (
                _angle(wanted.rotation, old.rotation) < _NEWS[1]
            )
            if same and (self._way is not None or self._avoided * self.dt < _RETRY):
                acted.append(name)
                return False
        share = min(self._share, self._slow_down(acted))
        step = self._mover.towards(self._motion, wanted.position, wanted.rotation, share)
        way = None if step is None else self._mover.brake(step)
        if step is None or way is None:
            acted.append("no_way")
            return False
        ahead = self._look(step, way)
        if isinstance(ahead, str):
            acted.append(ahead)
            self._avoid, self._avoided = (wanted, ahead), 0
            if ahead == "joint_velocity":
                self._share = max(0.02, 0.7 * self._share)
            return False
        self._avoid = None
        if ahead.speed > 0.8:
            self._share = max(0.02, 0.97 * self._share)
            acted.append("joint_velocity")
        elif ahead.speed < 0.7:
            self._share = min(1.0, 1.01 * self._share)
        self._reach.accept(ahead, new_way=True)
        self._motion, self._way, self._since = step, way if way.duration > 0 else None, 0
        return True

    def _look(self, step: Motion, way: Way) -> Ahead | str:
        """Joints of the step and of samples of the way to rest, or the name of the limit that breaks."""
        count = min(_MOST_SAMPLES, math.ceil(way.duration / _SAMPLE))
        h = way.duration / max(count, 1)
        times = h * np.arange(count + 1)
        positions, rotations = way.samples(times)
        low, high = way.extent()
        broken = self._regions.path(
            np.minimum(low, self._motion.position),
            np.maximum(high, self._motion.position),
            np.concatenate([self._motion.position[None], positions]),
            np.concatenate([self._motion.rotation[None], rotations]),
            max(h, self.dt),
        )
        if broken is not None:
            return broken
        frames = np.zeros((len(times), 4, 4))
        frames[:, :3, :3], frames[:, :3, 3], frames[:, 3, 3] = rotations, positions, 1
        return self._reach.look(frames, times)

    def _brake(self, acted: list[str]) -> None:
        """The next point of the way to rest that was kept."""
        if self._way is None:
            return
        self._since += 1
        step = self._way.at(self._since * self.dt)
        frame = np.eye(4)
        frame[:3, :3], frame[:3, 3] = step.rotation, step.position
        broken: Ahead | str | None = self._regions.point(step.position, step.rotation)
        if broken is None:
            broken = self._reach.follow(frame)
        if isinstance(broken, str):
            # what was looked at between its samples only; places come before smoothness
            if self._fault is None:
                self._fault = SafetyFault("look_ahead", f"the way to rest would break {broken}; stopped at once")
            self._held = True
            acted.append("look_ahead")
            self._motion, self._way = Motion.at_rest(self._motion.position, self._motion.rotation), None
            return
        assert broken is not None
        self._reach.accept(broken, new_way=False)
        self._motion = step
        if self._since * self.dt >= self._way.duration:
            self._way = None

    def _slow_down(self, acted: list[str]) -> float:
        zone, fast = self.limits.slow_zone, self.limits.linear.velocity
        slow = min(1.0, self.limits.slow_speed / fast)
        if zone <= 0:
            return 1.0
        share = slow + (1 - slow) * self._regions.wall_distance(self._motion.position) / zone
        if share < 1:
            acted.append("slow_zone")
        return min(1.0, share)

    def _move_gripper(self, wanted: float, acted: list[str]) -> None:
        clipped = min(max(wanted, self._gripper_range[0]), self._gripper_range[1])
        if clipped != wanted:
            acted.append("gripper_range")
        most = self.limits.gripper_speed * self.dt
        if abs(clipped - self._gripper) > most:
            acted.append("gripper_speed")
        self._gripper += min(max(clipped - self._gripper, -most), most)


def _angle(first: Array, second: Array) -> float:
    """Radians between two rotations (3, 3)."""
    # |R1 - R2|_F = 2 sqrt(2) sin(angle / 2), exact for small angles where the trace is not
    apart = (first - second).ravel()
    return 2 * math.asin(min(1.0, math.sqrt(float(apart @ apart) / 8)))


def _joint_limits(limits: SafetyLimits, arm: Arm) -> JointLimits:
    for name in ("joint_low", "joint_high", "joint_velocity"):
        given = getattr(limits, name)
        if given is not None and given.shape != (arm.dof,):
            raise LimitsError(f"safety.{name}: {arm.name} has {arm.dof} joints, got {len(given)} numbers")
    low = arm.joint_low if limits.joint_low is None else np.maximum(arm.joint_low, limits.joint_low)
    high = arm.joint_high if limits.joint_high is None else np.minimum(arm.joint_high, limits.joint_high)
    speed = arm.joint_velocity
    if limits.joint_velocity is not None:
        speed = np.minimum(speed, limits.joint_velocity)
    low, high = low + limits.joint_margin, high - limits.joint_margin
    if not (low < high).all():
        raise LimitsError(f"safety.joint_margin: {limits.joint_margin} leaves nothing between {low} and {high}")
    return JointLimits(low, high, speed)
