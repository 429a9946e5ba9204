"""The fake controller: its wire format, its kinematics against the maker's table, its motions, its sockets."""

import socket
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ur_bench import fresh_fake

from real_robot.fakes.ur_controller import FakeUR, rtde
from real_robot.fakes.ur_controller.arm import CYCLE, MAX_ACCELERATION, MAX_VELOCITY, Arm, Line, Move, Servo
from real_robot.fakes.ur_controller.controller import HOME, Controller, Settings
from real_robot.fakes.ur_controller.gripper import Gripper
from real_robot.fakes.ur_controller.kinematics import Kinematics
from real_robot.fakes.ur_controller.servers import Servers
from real_robot.kinematics import load_arm
from real_robot.poses import Pose

pytestmark = [pytest.mark.sim, pytest.mark.realtime]
JOINTS = np.array(HOME)


def test_kinematics_are_those_of_the_makers_table_in_the_makers_base_frame() -> None:
    kinematics, table = Kinematics(), load_arm("ur5e_robosuite")
    rng = np.random.default_rng(0)
    for joints in rng.uniform(-2, 2, (20, 6)):
        metres, radians = kinematics.pose(joints).distance(table.pose(joints))
        assert metres < 1e-5
        assert radians < 1e-3  # the model's quaternions have three digits


def test_tool_jacobian_and_inverse_agree() -> None:
    kinematics = Kinematics()
    kinematics.set_tcp(Pose.from_rotvec([0.01, 0.02, 0.145], [0.1, -0.2, 0.3]))
    away = JOINTS + np.array([0.2, -0.1, 0.15, 0.1, -0.2, 0.3])
    found = kinematics.inverse(kinematics.pose(away), JOINTS)
    assert found is not None
    assert np.abs(found - away).max() < 1e-4
    step = np.full(6, 1e-6)
    moved = kinematics.pose(JOINTS + step).position - kinematics.pose(JOINTS).position
    assert np.allclose(moved, (kinematics.jacobian(JOINTS) @ step)[:3], rtol=1e-4, atol=1e-10)
    assert kinematics.inverse(Pose([3, 0, 0], np.eye(3)), JOINTS) is None


@pytest.mark.parametrize("kind", ["servo", "move", "line"])
def test_motions_arrive_and_keep_the_joints_limits(kind: str) -> None:
    arm = Arm(JOINTS)
    goal = JOINTS + np.array([0.5, -0.3, 0.2, 0.1, 0.0, -0.6])
    arm.motion = {
        "servo": lambda: Servo(goal, 0.1, 300.0),
        "move": lambda: Move(arm, goal, 1.0, 1.4),
        "line": lambda: Line(arm, arm.kinematics.pose(goal), 0.25, 1.2),
    }[kind]()
    fastest = strongest = 0.0
    for _ in range(2500):
        before = arm.velocities
        arm.cycle()
        fastest = max(fastest, float((np.abs(arm.velocities) / MAX_VELOCITY).max()))
        strongest = max(strongest, float(np.abs(arm.velocities - before).max()) / CYCLE)
    assert arm.tool_pose().distance(arm.kinematics.pose(goal))[0] < 1e-4
    assert 0.05 < fastest <= 1
    assert strongest <= (MAX_ACCELERATION if kind == "servo" else 6.0) + 1e-6


def test_servo_follows_a_ramp_with_about_its_lookahead_and_does_not_jump_after_a_step() -> None:
    arm = Arm(JOINTS)
    for i in range(500):
        arm.motion = Servo(JOINTS + np.array([0.2 * i * CYCLE, 0, 0, 0, 0, 0]), 0.1, 300.0)
        arm.cycle()
    lag = 0.2 * 500 * CYCLE - (arm.joints - JOINTS)[0]
    assert 0.05 * 0.2 < lag < 0.15 * 0.2
    arm.motion = Servo(arm.joints + 1.0, 0.1, 300.0)
    before = arm.joints.copy()
    arm.cycle()
    assert 0 < np.abs(arm.joints - before).max() <= MAX_VELOCITY[0] * CYCLE


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 9))
def test_packages_are_found_however_the_bytes_come(bodies: list[bytes], size: int) -> None:
    stream = b"".join(rtde.package(rtde.KIND.DATA, body) for body in bodies)
    buffer, found = bytearray(), []
    for i in range(0, len(stream), size):
        buffer += stream[i : i + size]
        found += rtde.split(buffer)
    assert found == [(rtde.KIND.DATA, body) for body in bodies]
    assert not buffer


def test_nonsense_on_the_wire_is_refused() -> None:
    with pytest.raises(rtde.RtdeError, match="cannot be"):
        rtde.split(bytearray(struct.pack(">HB", 1, 85)))
    recipe = rtde.Recipe(1, ("input_int_register_0",), ("INT32",))
    with pytest.raises(rtde.RtdeError, match="expected 4 bytes"):
        recipe.unpack(b"123")
    assert rtde.output_type("no_such_thing") == "NOT_FOUND"
    assert rtde.input_type("input_int_register_48") == "NOT_FOUND"


def test_only_loopback_is_served() -> None:
    with pytest.raises(ValueError, match="no authentication"):
        Servers(Controller(Settings()), "0.0.0.0")


def test_gripper_moves_at_its_speed_and_stops_at_an_object() -> None:
    gripper = Gripper()
    assert gripper.answer("SET ACT 1") == "ack"
    assert gripper.answer("GET STA") == "STA 1\n"
    for _ in range(200):
        gripper.cycle(CYCLE)
    assert gripper.answer("GET STA") == "STA 3\n"
    gripper.blocked_at = 100.0
    assert gripper.answer("SET GTO 1 SPE 255 POS 255") == "ack"
    for _ in range(100):
        gripper.cycle(CYCLE)
    assert gripper.position == pytest.approx(90, abs=1)  # 450 counts/s for 0.2 s
    for _ in range(100):
        gripper.cycle(CYCLE)
    assert gripper.answer("GET POS") == "POS 100\n"
    assert gripper.answer("GET OBJ") == "OBJ 2\n"
    assert gripper.answer("SET POS 256") == "nack"
    assert gripper.answer("nonsense") == "?\n"


@pytest.fixture
def fake() -> FakeUR:
    return fresh_fake()


def _ask(fake: FakeUR, port: int, *lines: bytes) -> list[bytes]:
    with socket.create_connection((fake.address, port), 5) as sock, sock.makefile("rwb") as stream:
        out = [stream.readline()]
        for line in lines:
            stream.write(line + b"\n")
            stream.flush()
            out.append(stream.readline())
        return out


def test_dashboard(fake: FakeUR) -> None:
    fake.protective_stop()
    fake.settings(unlock_after=60.0)
    greeting, mode, refused, unknown = _ask(fake, 29999, b"safetystatus", b"unlock protective stop", b"fly")
    assert greeting.startswith(b"Connected")
    assert mode == b"Safetystatus: PROTECTIVE_STOP\n"
    assert refused.startswith(b"Cannot unlock")
    assert unknown.startswith(b"could not understand")


def test_rtde_by_hand(fake: FakeUR) -> None:
    """Without ur_rtde: version, recipe, start, and data at the asked rate with a clock that goes on."""
    with socket.create_connection((fake.address, 30004), 5) as sock:
        sock.sendall(rtde.package(rtde.KIND.VERSION, struct.pack(">H", 2)))
        sock.sendall(rtde.package(rtde.KIND.OUTPUTS, struct.pack(">d", 125.0) + b"timestamp,actual_q"))
        sock.sendall(rtde.package(rtde.KIND.START))
        buffer, found = bytearray(), []
        while len(found) < 3 + 20:
            buffer += sock.recv(4096)
            found += rtde.split(buffer)
    assert found[0] == (rtde.KIND.VERSION, b"\1")
    assert found[1] == (rtde.KIND.OUTPUTS, b"\1DOUBLE,VECTOR6D")
    assert found[2] == (rtde.KIND.START, b"\1")
    numbers = np.array([struct.unpack(">7d", body[1:]) for _, body in found[3:]])
    assert (np.diff(numbers[:, 0]) > 0.0079).all()
    assert np.allclose(numbers[:, 1:], HOME)


def test_rtde_client_that_sends_nonsense_is_let_go(fake: FakeUR) -> None:
    with socket.create_connection((fake.address, 30004), 5) as sock:
        sock.sendall(b"\0\0nonsense")
        assert sock.recv(10) == b""
    assert any("cannot be" in message for message in fake.status()["messages"])


def test_freeze_holds_the_answers_back(fake: FakeUR) -> None:
    fake.freeze(0.3)
    begin = time.monotonic()
    answer = _ask(fake, 29999, b"running")[1]
    assert answer == b"Program running: false\n"
    assert time.monotonic() - begin > 0.2
