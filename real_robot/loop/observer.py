"""`Observer`: one observation of the policy out of all sensors, aligned by the time of capture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from equidiff.spec import Spec
from real_robot.loop.sensors import Sensor

__all__ = ["Observer", "ObserverError"]


class ObserverError(ValueError):
    """Sensors that do not give what the policy reads; the message names the key."""


class Observer:
    """Reads all sensors at the same times: that of the newest measurement that all of them have, and one control step
    of the policy before each later one."""

    def __init__(self, spec: Spec, sensors: Sequence[Sensor]) -> None:
        self._spec, self._step = spec, 1 / spec.control_hz
        given = {key: sensor for sensor in sensors for key in sensor.keys}
        for key in spec.observation.keys:
            if key not in given:
                raise ObserverError(
                    f"the policy reads {key!r}, which no sensor gives{did_you_mean(key, given)}; given: "
                    f"{', '.join(sorted(given))}"
                )
        self._sensors = [s for s in sensors if set(s.keys) & set(spec.observation.keys)]

    @property
    def newest(self) -> float:
        """Time up to which every sensor has measured. DeviceError when one is lost."""
        return min(sensor.newest for sensor in self._sensors)

    def observe(self) -> tuple[float, dict[str, NDArray[np.generic]]]:
        """(time of the last step, {key: (To, *shape)}). DeviceError when a sensor is lost."""
        stamp = self.newest
        steps = self._spec.horizon.obs
        rows = []
        for back in range(steps - 1, -1, -1):
            row = {}
            for sensor in self._sensors:
                row.update(sensor.at(stamp - back * self._step))
            rows.append(row)
        return stamp, {key: np.stack([row[key] for row in rows]) for key in self._spec.observation.keys}
