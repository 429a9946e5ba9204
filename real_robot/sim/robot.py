"""`SimRobot`: an arm of the simulator as a Robot, with its own delays and faults."""

from __future__ import annotations

from collections import deque

import numpy as np

from real_robot.clock import Clock
from real_robot.contract import Robot, RobotError, RobotFeatures
from real_robot.hold import Hold
from real_robot.kinematics import Arm, load_arm
from real_robot.poses import Pose
from real_robot.settings import SettingsError
from real_robot.sim.faults import SimFaults
from real_robot.sim.world import SimWorld
from real_robot.types import Array, RobotMode, RobotState, Sent, Target
from real_robot.world import World

__all__ = ["TOOLS", "SimRobot"]

_WATCHDOG = 0.1
_TICK = 0.002
_AT_REST = 0.05  # rad/s
TOOLS = {
    "panda": Pose.from_rotvec([0, 0, 0.0965], [0, 0, -2.356687]),
    "ur5e": Pose.from_rotvec([0.0007, -0.00013, 0.14279], [0, 0, -np.pi / 2]),
}
"""Gripper site of robosuite's models (which round some numbers) seen from the maker's flange."""


class SimRobot(Robot):
    """latency: seconds until a measurement can be read; jitter: standard deviation of that, cut at 0.

    Commands take effect at once and hold until the next; without one for 0.1 s the arm rests. After `stop` they are
    refused until the arm rests and none came for 0.1 s, so that those under way do not overrule it.
    """

    def __init__(
        self, world: SimWorld, command_hz: float = 100.0, latency: float = 0.0, jitter: float = 0.0, seed: int = 0
    ) -> None:
        if not (latency >= 0 and jitter >= 0):
            raise SettingsError(f"latency, jitter: expected seconds >= 0, got {latency}, {jitter}")
        self._world, self._hz = world, command_hz
        self._latency, self._jitter, self._rng = latency, jitter, np.random.default_rng(seed)
        self.faults = SimFaults()
        self._states: deque[tuple[float, RobotState]] = deque(maxlen=400)
        self._newest: RobotState | None = None
        self._commanded = -np.inf
        self._connected = self._stopped = False
        self._hold = Hold(_WATCHDOG)
        self.stopped_at: float | None = None
        """When the arm was last brought to rest by its driver or its controller; for tests."""

    @property
    def features(self) -> RobotFeatures:
        arm = self.arm
        base = self._world.base
        return RobotFeatures(
            name="sim",
            arm=self._world.arm,
            joint_low=arm.joint_low,
            joint_high=arm.joint_high,
            joint_velocity=arm.joint_velocity,
            gripper=self._world.gripper_range,
            command_hz=self._hz,
            has_wrench=True,
            base_yaw=float(np.arctan2(base.rotation[1, 0], base.rotation[0, 0])),
            base_position=(float(base.position[0]), float(base.position[1]), float(base.position[2])),
        )

    @property
    def clock(self) -> Clock:
        """Of the run: that of the world."""
        return self._world.clock

    @property
    def world(self) -> SimWorld:
        return self._world

    @property
    def arm(self) -> Arm:
        """Kinematics up to the gripper site, in the base frame."""
        return load_arm(self._world.arm, self.tool, self.maker_base)

    @property
    def tool(self) -> Pose:
        """Gripper site seen from the flange."""
        return TOOLS[self._world.arm]

    @property
    def maker_base(self) -> Pose:
        """The maker's base frame seen from robosuite's."""
        return Pose.from_rotvec([0, 0, 0], [0, 0, np.pi if self._world.arm == "ur5e" else 0.0])

    # -- connection --------------------------------------------------------------------------------

    def connect(self) -> None:
        if self._connected:
            raise RobotError("sim: connected already")
        self._world.listeners.append(self._measure)
        self._world.restarts.append(self._restart)
        self._connected = True
        self._restart()

    def disconnect(self) -> None:
        if self._connected:
            self._world.rest()
            self._world.listeners.remove(self._measure)
            self._world.restarts.remove(self._restart)
        self._connected = False
        self._states.clear()
        self._newest = None

    @property
    def connected(self) -> bool:
        return self._connected

    # -- the arm -----------------------------------------------------------------------------------

    def _restart(self) -> None:
        """At the start of an episode: the arm stands, and what was measured before is not true any more."""
        self._states.clear()
        self._newest, self._commanded = None, -np.inf
        self._stopped = False
        self._hold.end()
        self._measure(self._world.time)
        self._newest = self._states[-1][1] if self._states else None

    def _measure(self, now: float) -> None:
        """Called by the world after each step: measurements, the watchdog, and what a controller does by itself."""
        faults = self.faults
        if faults.mode is not RobotMode.READY or now < faults.frozen_until or now - self._commanded > _WATCHDOG:
            self._halt(now)
        if now < faults.frozen_until:
            return
        joints, velocities = self._world.joints
        pose = self._world.base.inverse() @ self._world.pose
        delay = self._latency
        if self._jitter > 0:
            delay = max(0.0, delay + self._jitter * float(self._rng.standard_normal()))
        wrench = np.array([0, 0, faults.wrench_z, 0, 0, 0])
        state = RobotState(now, joints, velocities, pose, self._world.opening, faults.mode, wrench)
        self._states.append((now + delay, state))

    def _halt(self, now: float) -> None:
        if self._stopped:
            return
        self._stopped, self.stopped_at = True, now
        self._world.rest()

    def observe(self) -> RobotState:
        self._check()
        now = self._world.clock.now()
        while self._states and self._states[0][0] <= now and not self.faults.mute:
            self._newest = self._states.popleft()[1]
        if self._newest is None:
            raise RobotError("sim: nothing was measured yet")
        return self._newest

    def command(self, target: Target, at: float) -> Sent:
        self._check()
        now = self._world.clock.now()
        place = (*target.pose.position, *target.pose.rotation.flat, target.gripper, at)
        if not np.isfinite(place).all():
            raise RobotError(f"sim: refused a target that is not finite, for time {at}: {place[:3]}")
        if self.faults.mode is not RobotMode.READY:
            raise RobotError(f"sim: takes no commands, {self.faults.mode.value}")
        if self._hold.refuses(now, at_rest=bool(np.abs(self._world.joints[1]).max() <= _AT_REST)):
            raise RobotError(f"sim: {self._hold.why}")
        self._commanded = now
        if now < self.faults.frozen_until:
            return Sent(target, at, now)  # the controller does not hear it, and nobody knows
        self._stopped = False
        world = World(self._world.base, self._world.gripper_range)
        pose = self._world.base @ target.pose
        self._world.steer(pose, world.fingers(target.gripper))
        return Sent(target, at, now)

    def stop(self) -> None:
        if self._connected and not self.faults.disconnected:
            now = self._world.clock.now()
            self._hold.begin(now)
            self._halt(now)

    def recover(self) -> None:
        self._check()
        if self.faults.mode is RobotMode.EMERGENCY_STOP:
            raise RobotError("sim: the emergency stop is still pressed")
        self.faults.mode = RobotMode.READY
        self._hold.end()

    def move_joints(self, joints: Array, speed: float) -> None:
        """Along a straight line in joint space, the arm steered by the poses on it."""
        self._check()
        start = self._world.joints[0]
        joints, clock = np.asarray(joints, np.float64), self._world.clock
        duration = float(np.abs(joints - start).max()) / speed
        begin, arm = clock.now(), self.arm
        while (passed := clock.now() - begin) < duration + 0.5:
            q = start + min(1.0, passed / max(duration, 1e-9)) * (joints - start)
            self.command(Target(arm.pose(q), self._world.opening), clock.now() + _TICK)
            clock.sleep_until(clock.now() + 5 * _TICK)

    def _check(self) -> None:
        if not self._connected:
            raise RobotError("sim: not connected; call connect() first")
        if self.faults.disconnected:
            raise RobotError("sim: the connection is lost")
