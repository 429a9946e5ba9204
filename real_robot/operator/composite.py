"""Several devices as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from real_robot.operator.contract import Button, OperatorError, OperatorInput, OperatorState

__all__ = ["Composite"]


class Composite(OperatorInput):
    """Any stop stops; motion is the sum of the devices whose dead-man switch is held; buttons of all count.

    Nothing moves while one of them is lost: it may be the one with the stop.
    """

    def __init__(self, devices: Sequence[OperatorInput]) -> None:
        if not devices:
            raise OperatorError("operator.devices: expected at least one device, got none")
        self._devices = tuple(devices)

    def connect(self) -> None:
        try:
            for device in self._devices:
                device.connect()
        except OperatorError:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        for device in self._devices:
            device.disconnect()

    def read(self, now: float) -> OperatorState:
        states = [device.read(now) for device in self._devices]
        stop = any(state.stop for state in states)
        lost = any(state.lost for state in states)
        enabled = not stop and not lost and any(state.enabled for state in states)
        twist = np.clip(np.sum([state.twist for state in states], axis=0), -1, 1) if enabled else np.zeros(6)
        pressed: frozenset[Button] = frozenset().union(*(state.pressed for state in states))
        note = "" if enabled else "; ".join(state.note for state in states if state.note)
        return OperatorState(now, enabled, stop, twist, pressed, note, lost)

    def clear_stop(self) -> None:
        for device in self._devices:
            device.clear_stop()
