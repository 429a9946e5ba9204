"""`Observer`: one observation of the policy out of all sensors, aligned by the time of capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.spec import Spec
from real_robot.loop.cameras import CameraSensor
from real_robot.loop.sensors import Sensor
from real_robot.types import Sight

__all__ = ["Observation", "Observer", "ObserverError"]


class ObserverError(ValueError):
    """Sensors that do not give what the policy reads; the message names the key."""


@dataclass(frozen=True, eq=False)
class Observation:
    """stamp: time of the last step. arrays {key: (To, *shape)}; sights: what the cameras saw at the To steps, which the
    planner makes into the arrays of the keys that are missing here."""

    stamp: float
    arrays: dict[str, NDArray[np.generic]]
    sights: tuple[Sight, ...] = ()


class Observer:
    """Reads all sensors at the same times: that of the newest measurement that all of them have, and one control step
    of the policy before each later one."""

    def __init__(self, spec: Spec, sensors: Sequence[Sensor], cameras: CameraSensor | None = None) -> None:
        self._spec, self._step = spec, 1 / spec.control_hz
        given = {key for sensor in sensors for key in sensor.keys} | set(() if cameras is None else cameras.keys)
        for key in spec.observation.keys:
            if key not in given:
                raise ObserverError(
                    f"the policy reads {key!r}, which no sensor gives{did_you_mean(key, given)}; given: "
                    f"{', '.join(sorted(given))}"
                )
        read = set(spec.observation.keys)
        self._sensors = [s for s in sensors if set(s.keys) & read]
        self._cameras = cameras if cameras is not None and set(cameras.keys) & read else None
        made = () if self._cameras is None else self._cameras.keys
        self._keys = [key for key in spec.observation.keys if key not in made]

    @property
    def newest(self) -> float:
        """Time up to which every sensor has measured. DeviceError when one is lost."""
        newest = [sensor.newest for sensor in self._sensors]
        return min(newest) if self._cameras is None else min(*newest, self._cameras.newest)

    def observe(self) -> Observation:
        """DeviceError when a sensor is lost."""
        newest = self.newest
        stamps = [newest - back * self._step for back in range(self._spec.horizon.obs - 1, -1, -1)]
        rows = []
        for stamp in stamps:
            row = {}
            for sensor in self._sensors:
                row.update(sensor.at(stamp))
            rows.append(row)
        arrays = {key: np.stack([row[key] for row in rows]) for key in self._keys}
        return Observation(newest, arrays, () if self._cameras is None else self._cameras.at(stamps))
