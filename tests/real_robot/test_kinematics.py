"""Kinematics against numbers of the makers, finite differences, and MuJoCo's models of the arms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco_arms import bare_model
from scipy.spatial.transform import Rotation

from real_robot.kinematics import ARMS, KinematicsError, load_arm
from real_robot.kinematics.arm import pose_error
from real_robot.poses import Pose, exp_map

TOOL = Pose.from_rotvec([0.01, -0.02, 0.15], [0.1, 0.2, 0.3])
BASE = Pose.from_rotvec([0.3, 0.1, 0.9], [0, 0, 2.0])
HOMES = {
    "ur5e": np.array([0.1, -1.9, 2.0, -1.67, -1.57, 0.2]),
    "ur5e_robosuite": np.array([0.1, -1.9, 2.0, -1.67, -1.57, 0.2]),
    "panda": np.array([0.1, 0.2, 0.1, -2.2, 0.1, 2.4, 0.785]),
    "panda_robosuite": np.array([0.1, 0.2, 0.1, -2.2, 0.1, 2.4, 0.785]),
}


def some_joints(name: str, seed: int) -> np.ndarray:
    arm = load_arm(name)
    return np.random.default_rng(seed).uniform(arm.joint_low, arm.joint_high)


def test_ur5e_at_zero_is_where_the_maker_says() -> None:
    # all links stretched along -x: a2 + a3; d4 + d6 along -y; d1 - d5
    pose = load_arm("ur5e").pose(np.zeros(6))
    np.testing.assert_allclose(pose.position, [-0.425 - 0.3922, -0.1333 - 0.0996, 0.1625 - 0.0997], atol=1e-12)
    np.testing.assert_allclose(pose.rotation, Rotation.from_euler("x", 90, degrees=True).as_matrix(), atol=1e-12)


def test_panda_at_zero_is_where_the_maker_says() -> None:
    # upright: d1 + d3 + d5 up, then the hand hangs down a7 in front
    pose = load_arm("panda").pose(np.zeros(7))
    np.testing.assert_allclose(pose.position, [0.088, 0, 0.333 + 0.316 + 0.384 - 0.107], atol=1e-12)
    np.testing.assert_allclose(pose.rotation, np.diag([1, -1, -1]), atol=1e-12)


@pytest.mark.parametrize("name", list(ARMS))
def test_tool_and_base_are_outermost(name: str) -> None:
    joints = some_joints(name, 1)
    bare, full = load_arm(name).pose(joints), load_arm(name, TOOL, BASE).pose(joints)
    np.testing.assert_allclose(full.matrix, (BASE @ bare @ TOOL).matrix, atol=1e-12)


@pytest.mark.parametrize("name", list(ARMS))
def test_jacobian_is_the_derivative(name: str) -> None:
    arm, h = load_arm(name, TOOL, BASE), 1e-6
    for seed in range(5):
        joints = some_joints(name, seed)
        _, jacobian = arm.forward_jacobian(joints)
        for i, unit in enumerate(np.eye(arm.dof)):
            before, after = arm.pose(joints - h * unit), arm.pose(joints + h * unit)
            turn = Rotation.from_matrix(after.rotation @ before.rotation.T).as_rotvec()
            expected = np.concatenate([after.position - before.position, turn]) / (2 * h)
            np.testing.assert_allclose(jacobian[:, i], expected, atol=1e-8)


@pytest.mark.parametrize("name", list(ARMS))
def test_many_at_once_are_the_same_as_one_by_one(name: str) -> None:
    arm = load_arm(name, TOOL)
    joints = np.stack([some_joints(name, seed) for seed in range(6)]).reshape(2, 3, arm.dof)
    frames, jacobians = arm.forward_jacobian(joints)
    np.testing.assert_allclose(frames, arm.forward(joints), atol=0)
    for i, j in np.ndindex(2, 3):
        frame, jacobian = arm.forward_jacobian(joints[i, j])
        np.testing.assert_allclose(frames[i, j], frame, atol=1e-14)
        np.testing.assert_allclose(jacobians[i, j], jacobian, atol=1e-14)


@pytest.mark.parametrize("name", list(ARMS))
def test_inverse_comes_back_to_the_pose(name: str) -> None:
    arm, rng = load_arm(name, TOOL, BASE), np.random.default_rng(0)
    for _ in range(20):
        joints = HOMES[name] + rng.uniform(-0.3, 0.3, arm.dof)
        found = arm.inverse(arm.pose(joints), joints + rng.uniform(-0.1, 0.1, arm.dof), tolerance=1e-8)
        metres, radians = arm.pose(found).distance(arm.pose(joints))
        assert metres < 2e-8
        assert radians < 2e-8
        if arm.dof == 6:  # the same branch, which has only this solution
            np.testing.assert_allclose(found, joints, atol=1e-5)


def test_inverse_says_what_it_cannot_reach() -> None:
    arm = load_arm("ur5e")
    with pytest.raises(KinematicsError, match="no joints near"):
        arm.inverse(Pose([2.0, 0, 0], np.eye(3)), HOMES["ur5e"])
    turned = HOMES["ur5e"] + [0, 0, 0, 0, 0, 2 * np.pi - 0.1]
    with pytest.raises(KinematicsError, match="needs joint 6"):
        arm.inverse(arm.pose(turned), turned)


def test_inverse_leaves_the_damping_behind_near_a_singularity() -> None:
    arm = load_arm("ur5e")
    joints = HOMES["ur5e"].copy()
    joints[4] = 0.02  # the wrist nearly stretched
    found = arm.inverse(arm.pose(joints), joints + 0.01)
    assert max(arm.pose(found).distance(arm.pose(joints))) < 2e-6


def test_step_pulls_only_where_the_tool_does_not_move() -> None:
    arm, joints = load_arm("panda", TOOL), HOMES["panda"]
    pull = np.array([2e-3, 0, 0, 0, 0, 0, 0])
    moved, error, _ = arm.step(joints, arm.forward(joints), pull=pull)
    assert np.abs(error).max() < 1e-12
    assert max(arm.pose(moved).distance(arm.pose(joints))) < 2e-5
    assert (moved - joints) @ pull > 1e-7


def test_unknown_arm_and_wrong_joints_are_named() -> None:
    with pytest.raises(ValueError, match="expected one of ur5e"):
        load_arm("ur6")
    with pytest.raises(ValueError, match="joints: expected \\(6,\\)"):
        load_arm("ur5e").pose(np.zeros(7))
    with pytest.raises(ValueError, match="joints"):
        load_arm("ur5e").pose([np.nan] * 6)


def test_within_takes_the_tighter_limits() -> None:
    arm = load_arm("panda")
    tight = arm.within(np.full(7, -2.0), np.full(7, 9.0), np.full(7, 2.3))
    np.testing.assert_array_equal(tight.joint_low, np.maximum(arm.joint_low, -2.0))
    np.testing.assert_array_equal(tight.joint_high, arm.joint_high)
    np.testing.assert_array_equal(tight.joint_velocity, np.minimum(arm.joint_velocity, 2.3))
    assert arm.joint_low[0] == -2.8973


@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3).filter(lambda v: np.linalg.norm(v) < 3.1),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_pose_error_is_the_rotation_vector(vector: list[float], start: list[float]) -> None:
    first, second = np.eye(4), np.eye(4)
    first[:3, :3] = exp_map(start)
    second[:3, :3] = exp_map(vector) @ first[:3, :3]
    second[:3, 3] = [1, 2, 3]
    np.testing.assert_allclose(pose_error(first, second), [1, 2, 3, *vector], atol=1e-7)


def test_half_a_turn_away_has_some_direction() -> None:
    first, second = np.eye(4), np.diag([1.0, -1, -1, 1])
    assert np.linalg.norm(pose_error(first, second)[3:]) == pytest.approx(np.pi)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("arm_name", "model_name", "base_yaw", "metres"),
    [
        ("ur5e_robosuite", "ur5e", np.pi, 1e-9),
        ("ur5e", "ur5e", np.pi, 4e-3),
        ("panda_robosuite", "panda", 0.0, 1e-9),
        ("panda", "panda", 0.0, 1e-3),
    ],
)
def test_forward_and_jacobian_against_mujoco(arm_name: str, model_name: str, base_yaw: float, metres: float) -> None:
    """robosuite's UR5e stands half a turn about z away from Universal Robots' base; its lengths are rounded."""
    mujoco, model = bare_model(model_name)
    data = mujoco.MjData(model)
    arm = load_arm(arm_name, base=Pose.from_rotvec([0, 0, 0], [0, 0, base_yaw]))
    base = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "base" if model_name == "ur5e" else "link0")
    hand = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "right_hand")
    for seed in range(10):
        joints = some_joints(arm_name, seed)
        data.qpos[: arm.dof] = joints
        mujoco.mj_forward(model, data)
        origin = Pose(data.xpos[base], data.xmat[base].reshape(3, 3))
        flange = origin.inverse() @ Pose(data.xpos[hand], data.xmat[hand].reshape(3, 3))
        ours = arm.pose(joints)
        assert np.linalg.norm(flange.position - ours.position) < metres
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacBody(model, data, linear, angular, hand)
        turned = origin.rotation.T
        _, jacobian = arm.forward_jacobian(joints)
        np.testing.assert_allclose(jacobian[:3], turned @ linear[:, : arm.dof], atol=2 * metres + 1e-6)
        np.testing.assert_allclose(jacobian[3:], turned @ angular[:, : arm.dof], atol=2e-6)
