"""Kinematics of the arms by name: where the tool is, how it moves with the joints, and back."""

from real_robot.kinematics.arm import Arm, KinematicsError
from real_robot.kinematics.tables import ARMS, Chain, load_arm

__all__ = ["ARMS", "Arm", "Chain", "KinematicsError", "load_arm"]
