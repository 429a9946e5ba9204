"""Limits, states and a second opinion on what a gate sends, written without the gate's code."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from real_robot.kinematics import Arm, load_arm
from real_robot.poses import Pose, exp_map
from real_robot.safety import Bound, Box, Cone, RateLimits, SafetyGate, SafetyLimits
from real_robot.types import Array, RobotState, Target

TOOL = Pose([0, 0, 0.15], np.eye(3))
HOME = np.array([0.0, -1.9, 2.0, -1.67, -1.57, 0.0])
HOME_PANDA = np.array([0.0, 0.2, 0.0, -2.2, 0.0, 2.4, 0.785])


def home(name: str) -> Array:
    return HOME if name.startswith("ur5e") else HOME_PANDA


def limits_around(arm: Arm, joints: Array, **changes: object) -> SafetyLimits:
    """A box of 30 cm around the tool at `joints`, a keep-out box in it, a cone about where the tool points."""
    pose = arm.pose(joints)
    down = pose.rotation[:, 2]
    limits = SafetyLimits(
        box=Box(pose.position - [0.15, 0.15, 0.12], pose.position + [0.15, 0.15, 0.12]),
        keep_out=(Box(pose.position + [0.05, 0.04, -0.1], pose.position + [0.1, 0.09, 0.02]),),
        cone=Cone(np.array([0.0, 0.0, 1.0]), down / np.linalg.norm(down), 0.6),
        linear=RateLimits(0.3, 2.0, 20.0),
        angular=RateLimits(1.2, 6.0, 60.0),
        step_jump=Bound(0.25, 1.5),
        tracking_error=Bound(0.05, 0.3),
        gripper=(0.0, 0.08),
        gripper_speed=0.1,
        kinematics_error=Bound(0.001, 0.01),
    )
    return replace(limits, **changes)  # type: ignore[arg-type]


def state_at(arm: Arm, joints: Array, stamp: float, **changes: object) -> RobotState:
    state = RobotState(stamp, joints, np.zeros(arm.dof), arm.pose(joints), 0.04)
    return replace(state, **changes)  # type: ignore[arg-type]


def started(name: str = "ur5e", hz: float = 500.0, joints: Array | None = None, **changes: object) -> SafetyGate:
    """A gate at rest at home at time 0."""
    arm = load_arm(name, TOOL)
    where = home(name) if joints is None else joints
    gate = SafetyGate(limits_around(arm, where, **changes), arm, command_hz=hz, gripper=(0.0, 0.085))
    gate.reset(state_at(arm, where, 0.0), 0.0)
    return gate


def moved(pose: Pose, metres: object, turn: object = (0, 0, 0), gripper: float = 0.04) -> Target:
    """`pose` shifted along the base's axes and turned in the tool's frame."""
    return Target(Pose(pose.position + np.asarray(metres), pose.rotation @ exp_map(turn)), gripper)


def forged(pose: Pose, **fields: object) -> Target:
    """A pose whose numbers were changed behind the back of its check."""
    out = copy.copy(pose)
    for name, value in fields.items():
        object.__setattr__(out, name, value if isinstance(value, str) else np.asarray(value))
    return Target(out, 0.04)


class Recorder:
    """A perfect arm behind a gate: sends each tick, keeps what went out."""

    def __init__(self, gate: SafetyGate, limits: SafetyLimits | None = None) -> None:
        """limits: what is checked; None: the gate's own."""
        self.gate, self.tick = gate, 0
        self.limits = gate.limits if limits is None else limits
        pose = gate.arm.pose(gate.joints)
        self.positions, self.rotations = [pose.position], [pose.rotation]
        self.joints, self.grippers = [gate.joints], [0.04]
        self.decisions: list[object] = []

    @property
    def now(self) -> float:
        return self.tick * self.gate.dt

    def send(self, target: Target | None, state: RobotState | None = None):  # type: ignore[no-untyped-def]
        self.tick += 1
        measured = state if state is not None else self.perfect()
        decision = self.gate.next(target, measured, self.now)
        self.positions.append(decision.setpoint.pose.position)
        self.rotations.append(decision.setpoint.pose.rotation)
        self.joints.append(self.gate.joints)
        self.grippers.append(decision.setpoint.gripper)
        self.decisions.append(decision)
        return decision

    def perfect(self) -> RobotState:
        return RobotState(
            self.now,
            self.joints[-1],
            np.zeros(self.gate.arm.dof),
            Pose(self.positions[-1], self.rotations[-1]),
            self.grippers[-1],
        )

    def restart(self) -> None:
        """Only at rest: the sequence goes on where it stands."""
        self.gate.reset(self.perfect(), self.now)

    def broken(self) -> dict[str, float]:
        sequence = map(np.array, (self.positions, self.rotations, self.joints, self.grippers))
        return broken_limits(self.limits, self.gate.arm, self.gate.dt, *sequence)

    def check(self) -> None:
        broken = self.broken()
        assert not broken, broken


def broken_limits(
    limits: SafetyLimits, arm: Arm, dt: float, positions: Array, rotations: Array, joints: Array, grippers: Array
) -> dict[str, float]:
    """The limits that a sequence of setpoints breaks, each with by how much; by finite differences and sampling.

    Rotation: the body rate of a tick is the rotation vector from one setpoint to the next over dt, its acceleration
    and jerk the first and second difference of that over dt and dt^2.
    """
    worst: dict[str, float] = {}

    def note(name: str, excess: Array | float) -> None:
        most = float(np.max(excess, initial=-np.inf))
        if not most <= 0:  # NaN is a violation
            worst[name] = most

    everything = [*positions.ravel(), *rotations.ravel(), *joints.ravel(), *grippers]
    note("finite", float(not np.isfinite(everything).all()))
    if worst:
        return worst
    note("rotation", np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() - 1e-9)
    note("box", np.maximum(limits.box.low - positions, positions - limits.box.high))
    dense = positions[:-1, None] + np.linspace(0, 1, 5)[:, None] * np.diff(positions, axis=0)[:, None]
    for box in limits.keep_out:
        note("keep_out", np.minimum(dense - box.low, box.high - dense).min(-1))
    if limits.cone is not None:
        pointing = np.einsum("kij,j->ki", rotations, limits.cone.axis)
        across = np.linalg.norm(np.cross(pointing, limits.cone.direction), axis=-1)
        note("cone", np.arctan2(across, pointing @ limits.cone.direction) - limits.cone.half_angle - 1e-9)
    # a difference over dt^n of numbers of rounding size
    for name, steps, rates in (
        ("linear", np.diff(positions, axis=0), limits.linear),
        (
            "angular",
            Rotation.from_matrix(rotations[:-1].transpose(0, 2, 1) @ rotations[1:]).as_rotvec(),
            limits.angular,
        ),
    ):
        for order, key in enumerate(("velocity", "acceleration", "jerk")):
            value = np.linalg.norm(np.diff(steps, n=order, axis=0), axis=-1) / dt ** (order + 1)
            note(f"{name}.{key}", value - getattr(rates, key) - 3e-15 / dt ** (order + 1))
    low = arm.joint_low if limits.joint_low is None else np.maximum(limits.joint_low, arm.joint_low)
    high = arm.joint_high if limits.joint_high is None else np.minimum(limits.joint_high, arm.joint_high)
    note("joint_low", low + limits.joint_margin - joints)
    note("joint_high", joints - high + limits.joint_margin)
    speed = arm.joint_velocity if limits.joint_velocity is None else limits.joint_velocity
    note("joint_velocity", np.abs(np.diff(joints, axis=0)) / dt - speed)
    frames = arm.forward(joints)
    note("joints are of the pose", np.abs(frames[:, :3, 3] - positions).max() - 1e-6)
    note("joints are of the rotation", np.abs(frames[:, :3, :3] - rotations).max() - 1e-6)
    note("gripper", np.maximum(limits.gripper[0] - grippers, grippers - limits.gripper[1]))
    note("gripper_speed", np.abs(np.diff(grippers)) / dt - limits.gripper_speed - 1e-9)
    return worst
