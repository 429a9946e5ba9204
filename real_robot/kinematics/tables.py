"""The makers' Denavit-Hartenberg tables, joint limits and speeds.

Sources: Universal Robots, "DH parameters for calculations of kinematics and dynamics" (support article) and the UR5e
data sheet; Franka Emika, "Robot and interface specifications" of the Franka Control Interface documentation (DH
parameters after Craig, necessary joint limits of the Panda). These are nominal: each UR leaves the factory with its
own small corrections, a few millimetres at the tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from real_robot.kinematics.arm import Arm
from real_robot.poses import Pose

__all__ = ["ARMS", "Chain", "load_arm"]


@dataclass(frozen=True)
class Chain:
    """One row for each joint: (a, d, alpha) in metres and radians, then its limits (low, high) rad and speed rad/s.

    modified: alpha and a before the joint (Craig), with `flange` metres along the last z; else after it (standard DH).
    """

    rows: tuple[tuple[float, float, float], ...]
    limits: tuple[tuple[float, float], ...]
    speeds: tuple[float, ...]
    modified: bool = False
    flange: float = 0.0


_QUARTER = np.pi / 2
_UR5E = Chain(
    rows=(
        (0, 0.1625, _QUARTER),
        (-0.425, 0, 0),
        (-0.3922, 0, 0),
        (0, 0.1333, _QUARTER),
        (0, 0.0997, -_QUARTER),
        (0, 0.0996, 0),
    ),
    # the elbow alone cannot turn past itself
    limits=tuple((-turn, turn) for turn in (2 * np.pi, 2 * np.pi, np.pi, 2 * np.pi, 2 * np.pi, 2 * np.pi)),
    speeds=(np.pi,) * 6,
)
_PANDA = Chain(
    rows=(
        (0, 0.333, 0),
        (0, 0, -_QUARTER),
        (0, 0.316, _QUARTER),
        (0.0825, 0, _QUARTER),
        (-0.0825, 0.384, -_QUARTER),
        (0, 0, _QUARTER),
        (0.088, 0, _QUARTER),
    ),
    limits=(
        (-2.8973, 2.8973),
        (-1.7628, 1.7628),
        (-2.8973, 2.8973),
        (-3.0718, -0.0698),
        (-2.8973, 2.8973),
        (-0.0175, 3.7525),
        (-2.8973, 2.8973),
    ),
    speeds=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    modified=True,
    flange=0.107,
)
ARMS: Mapping[str, Chain] = MappingProxyType(
    {
        "ur5e": _UR5E,
        # robosuite's models, whose lengths are rounded
        "ur5e_robosuite": replace(
            _UR5E,
            rows=(
                (0, 0.163, _QUARTER),
                (-0.425, 0, 0),
                (-0.392, 0, 0),
                (0, 0.134, _QUARTER),
                (0, 0.1, -_QUARTER),
                (0, 0.098, 0),
            ),
        ),
        "panda": _PANDA,
        "panda_robosuite": replace(_PANDA, flange=0.1065),
    }
)


def load_arm(name: str, tool: Pose | None = None, base: Pose | None = None) -> Arm:
    """The arm of that name, to the pose of its tool.

    tool: the tool seen from the maker's flange frame; None: the flange itself. base: the maker's base frame seen from
    the frame in which poses are given; None: that same frame. robosuite's UR5e stands turned by half a turn about z
    against Universal Robots' base, which is `base=Pose.from_rotvec([0, 0, 0], [0, 0, np.pi])`.

    >>> load_arm("ur5e").pose(np.zeros(6)).position.round(4).tolist()
    [-0.8172, -0.2329, 0.0628]
    """
    if name not in ARMS:
        raise ValueError(f"arm: expected one of {', '.join(ARMS)}, got {name!r}")
    chain = ARMS[name]
    before, after = [], []
    for a, d, alpha in chain.rows:
        # standard: Rz(q) T(z d) T(x a) Rx(alpha); Craig's: Rx(alpha) T(x a) Rz(q) T(z d)
        along_x, along_z = Pose.from_rotvec([a, 0, 0], [alpha, 0, 0]), Pose([0, 0, d], np.eye(3))
        before.append(along_x.matrix if chain.modified else np.eye(4))
        after.append(along_z.matrix if chain.modified else (along_z @ along_x).matrix)
    low, high = np.array(chain.limits).T
    end = Pose([0, 0, chain.flange], np.eye(3)) @ (tool if tool is not None else Pose([0, 0, 0], np.eye(3)))
    return Arm(
        name,
        base=(base.matrix if base is not None else np.eye(4)),
        before=before,
        after=after,
        end=end.matrix,
        joint_low=low,
        joint_high=high,
        joint_velocity=np.array(chain.speeds),
    )
