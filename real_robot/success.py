"""What ends an episode of `real_robot.deploy` by itself: a callable of the arm's newest state, named in `success`."""

from __future__ import annotations

from real_robot.settings import SettingsError
from real_robot.types import RobotState

__all__ = ["Lifted"]


class Lifted:
    """The fingers hold something, `height` metres above the arm's base or higher.

    width: (least, most) metres between the fingers that hold it: neither closed on nothing nor open.

    >>> from real_robot.poses import Pose
    >>> import numpy as np
    >>> lifted = Lifted(height=0.2, width=(0.01, 0.07))
    >>> high = Pose.from_rotvec([0.5, 0.0, 0.25], [np.pi, 0, 0])
    >>> [lifted(RobotState(0.0, np.zeros(6), np.zeros(6), high, opening)) for opening in (0.0, 0.04, 0.085)]
    [False, True, False]
    """

    def __init__(self, height: float, width: tuple[float, float] = (0.01, 0.07)) -> None:
        low, high = width
        if not 0 <= low < high:
            raise SettingsError(f"success.width: expected [least, most] in metres, 0 <= least < most, got {width}")
        self._height, self._low, self._high = float(height), float(low), float(high)

    def __call__(self, state: RobotState) -> bool:
        return bool(state.pose.position[2] >= self._height and self._low <= state.gripper <= self._high)
