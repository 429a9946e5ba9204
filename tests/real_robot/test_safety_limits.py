"""The numbers of the gate: read from the configuration, checked, and the bounds of rotation that follow from them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_fixtures import HOME, TOOL, limits_around
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.spatial.transform import Rotation

from real_robot.contract import RobotFeatures
from real_robot.kinematics import load_arm
from real_robot.poses import Pose
from real_robot.safety import LimitsError, RateLimits, SafetyGate, SafetyLimits
from real_robot.safety.angular import body_motion, inner_rates, rotation_of, rotations_of, turn_between
from real_robot.safety.motion import Motion, Mover

CONFIGS = Path(__file__).parents[2] / "configs"
GOOD: dict[str, Any] = {
    "box": {"low": [0, 0, 0], "high": [1, 1, 1]},
    "keep_out": [{"low": [0, 0, 0], "high": [0.1, 0.1, 0.1]}],
    "cone": {"axis": [0, 0, 2], "direction": [0, 0, -1], "half_angle": 0.5},
    "joint_margin": 0.1,
    "linear": {"velocity": 0.25, "acceleration": 1.5, "jerk": 20},
    "angular": {"velocity": 1.0, "acceleration": 5.0, "jerk": 60},
    "step_jump": {"position": 0.1, "rotation": 0.6},
    "tracking_error": {"position": 0.05, "rotation": 0.3},
    "kinematics_error": {"position": 0.01, "rotation": 0.05},
    "max_state_age": 0.1,
    "force": None,
    "gripper": {"low": 0.0, "high": 0.08, "speed": 0.1},
    "slow_zone": 0.0,
    "slow_speed": 0.02,
}


def with_value(key: str, value: object) -> dict[str, Any]:
    node = copy.deepcopy(GOOD)
    *path, last = key.split(".")
    inner = node
    for name in path:
        inner = inner[name]
    inner[last] = value
    return node


def test_every_key_is_read() -> None:
    limits = SafetyLimits.from_config(GOOD)
    assert limits.cone is not None
    np.testing.assert_array_equal(limits.cone.axis, [0, 0, 1])
    assert limits.linear == RateLimits(0.25, 1.5, 20)
    assert len(limits.keep_out) == 1
    assert (limits.gripper, limits.gripper_speed, limits.force) == ((0.0, 0.08), 0.1, None)
    assert SafetyLimits.from_config(with_value("force", 30)).force == 30
    assert SafetyLimits.from_config(with_value("cone", None)).cone is None
    assert SafetyLimits.from_config(with_value("joint_low", [0, 1])).joint_low is not None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("box.low", [0, 0, 2], "safety.box: expected low < high"),
        ("box.low", [0, 0], "safety.box.low: expected a list of finite numbers"),
        ("box.low", [0, 0, float("nan")], "safety.box.low"),
        ("box.low", "corner", "safety.box.low"),
        ("box", None, "safety.box: missing"),
        ("box", 3, "safety.box: expected a mapping"),
        ("keep_out", [{"low": [0, 0, 0], "high": [0, 0, 0]}], r"safety.keep_out\[0\]"),
        ("keep_out", [{"low": [0, 0, 0], "height": 1}], r"safety.keep_out\[0\]"),
        ("cone.direction", [0, 0, 0], "safety.cone.direction"),
        ("cone.half_angle", 4.0, "safety.cone.half_angle"),
        ("linear.velocity", 0, "safety.linear.velocity"),
        ("linear.velocity", True, "safety.linear.velocity"),
        ("linear.jerk", float("inf"), "safety.linear.jerk"),
        ("linear.speed", 1, "safety.linear: unknown keys speed"),
        ("angular.jerk", 3.0, "safety.angular: .* raise angular.jerk"),
        ("step_jump.rotation", 3.2, "safety.step_jump.rotation"),
        ("tracking_error.position", -1, "safety.tracking_error.position"),
        ("gripper.low", 0.09, "safety.gripper.high"),
        ("gripper.speed", 0, "safety.gripper.speed"),
        ("force", -5, "safety.force"),
        ("joint_velocity", [0.0, 1.0], "safety.joint_velocity"),
        ("max_state_age", None, "safety.max_state_age: expected a number"),
        ("boxes", 1, "safety: unknown keys boxes"),
    ],
)
def test_a_bad_number_is_named(key: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SafetyLimits.from_config(with_value(key, value))


@pytest.mark.parametrize("name", ["ur5e", "panda"])
def test_shipped_limits_build_a_gate(name: str) -> None:
    with initialize_config_dir(str(CONFIGS / "safety"), version_base="1.3"):
        node = OmegaConf.to_container(compose(name), resolve=True)
    assert isinstance(node, dict)
    limits = SafetyLimits.from_config({str(key): value for key, value in node.items()})
    arm = load_arm(name)
    features = RobotFeatures(
        "test", name, arm.joint_low, arm.joint_high + 1, arm.joint_velocity * 0.5, (0.0, 0.08), 500.0
    )
    gate = SafetyGate.for_robot(limits, features, Pose([0, 0, 0.1], np.eye(3)))
    np.testing.assert_array_equal(gate.arm.joint_high, arm.joint_high)
    np.testing.assert_array_equal(gate.arm.joint_velocity, arm.joint_velocity * 0.5)
    assert gate.dt == 1 / 500


def test_limits_that_do_not_fit_the_arm_are_refused() -> None:
    arm = load_arm("ur5e", TOOL)
    for change, words in (
        ({"joint_low": np.zeros(7)}, "safety.joint_low: ur5e has 6 joints, got 7"),
        ({"joint_margin": 1.0, "joint_high": np.full(6, -5.0)}, "safety.joint_margin"),
    ):
        with pytest.raises(LimitsError, match=words):
            SafetyGate(limits_around(arm, HOME, **change), arm, command_hz=500, gripper=(0, 0.1))
    with pytest.raises(LimitsError, match="command_hz"):
        SafetyGate(limits_around(arm, HOME), arm, command_hz=1, gripper=(0, 0.1))
    with pytest.raises(LimitsError, match=r"safety\.gripper"):
        SafetyGate(limits_around(arm, HOME), arm, command_hz=500, gripper=(0.1, 0.2))


# -- rotation


def test_one_rotation_vector_there_and_back() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (50, 3)) * rng.choice([1e-9, 1e-3, 1.0], (50, 1))
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotations_of(vectors), expected, atol=1e-14)
    start = Rotation.from_rotvec([1, 2, 3]).as_matrix()
    for vector, matrix in zip(vectors, expected, strict=True):
        np.testing.assert_allclose(rotation_of(vector), matrix, atol=1e-14)
        back = Rotation.from_matrix(matrix).as_rotvec()
        np.testing.assert_allclose(turn_between(start, start @ matrix), back, atol=1e-12)
    half = Rotation.from_rotvec([0, 3.1415, 0]).as_matrix()
    np.testing.assert_allclose(turn_between(np.eye(3), half), [0, 3.1415, 0], atol=1e-9)


@pytest.mark.parametrize("size", [1e-4, 0.15, 0.25, 1.0])
def test_body_motion_is_the_derivative(size: float) -> None:
    rng, h = np.random.default_rng(1), 1e-4
    phi, rate, change = size * rng.normal(0, 1, 3), rng.normal(0, 1, 3), rng.normal(0, 3, 3)
    at = [Rotation.from_rotvec(phi + t * rate + t * t / 2 * change) for t in (-h, 0, h)]
    before, after = (at[0].inv() * at[1]).as_rotvec() / h, (at[1].inv() * at[2]).as_rotvec() / h
    spin, spin_change = body_motion(phi, rate, change)
    np.testing.assert_allclose(spin, (before + after) / 2, atol=1e-6)
    np.testing.assert_allclose(spin_change, (after - before) / h, atol=1e-5)


@pytest.mark.parametrize("limits", [RateLimits(1.2, 6.0, 60.0), RateLimits(2.0, 4.0, 40.0), RateLimits(0.3, 5.0, 30.0)])
def test_turning_about_any_axis_keeps_the_true_bounds(limits: RateLimits) -> None:
    """Without anything but the limits of motion: new axes all the time, and a brake now and then."""
    dt, rng = 0.002, np.random.default_rng(0)
    mover = Mover(RateLimits(1, 10, 100), limits, dt)
    motion = Motion.at_rest(np.zeros(3), np.eye(3))
    spins, changes = [], []
    for tick in range(3000):
        if tick % 150 == 0:
            goal = motion.rotation @ Rotation.from_rotvec(rng.normal(0, 1, 3)).as_matrix()
            way = mover.brake(motion) if tick % 300 == 0 else None
            since = 0
        if way is not None:
            since += 1
            motion = way.at(since * dt)
            if since * dt >= way.duration:
                way = None
        else:
            moved = mover.towards(motion, np.zeros(3), goal, 1.0)
            assert moved is not None
            motion = moved
        spins.append(motion.spin)
        changes.append(motion.spin_change)
    jerk = np.diff(changes, axis=0) / dt
    in_base = jerk + np.cross(spins[1:], changes[1:])  # up to a factor of length 1
    for name, value, bound in (
        ("velocity", spins, limits.velocity),
        ("acceleration", changes, limits.acceleration),
        ("jerk of the body", jerk, limits.jerk),
        ("jerk along the base's axes", in_base, limits.jerk),
    ):
        most = np.linalg.norm(value, axis=-1).max()
        assert most <= bound, name
        assert most > 0.25 * bound, name


@pytest.mark.parametrize("rates", [(1.0, 5.0, 60.0), (0.3, 5.0, 30.0), (2.0, 4.0, 40.0), (0.1, 0.5, 2.0)])
def test_inner_rates_are_a_little_tighter(rates: tuple[float, float, float]) -> None:
    for mine, outer in zip(inner_rates(*rates), rates, strict=True):
        assert outer / 4 / np.sqrt(3) <= mine < outer / np.sqrt(3)


@pytest.mark.parametrize("rates", [(1.0, 5.0, 4.0), (4.0, 2.0, 100.0), (1.0, 0.5, 13.0)])
def test_rates_that_turning_uses_up_are_refused(rates: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"raise angular\.jerk or lower"):
        inner_rates(*rates)
