"""`Journal`: what a run tells, to its record and to people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from real_robot.loop.faults import Fault, FaultKind
from real_robot.loop.machine import State
from real_robot.records import RecordError, RecordWriter
from real_robot.types import RobotState, Target

__all__ = ["Journal"]


class Journal:
    """Writes records until the disk takes no more, and says what people want to know. `broken`: that fault, then."""

    def __init__(self, record: RecordWriter | None, say: Callable[[str], None]) -> None:
        self._record, self._say = record, say
        self.broken: Fault | None = None

    def tell(self, kind: str, now: float, fields: Mapping[str, Any]) -> None:
        """One record (real_robot/records.py has the kinds)."""
        if self._record is None or self.broken is not None:
            return
        try:
            self._record.write(kind, now, fields)
        except RecordError as error:
            self.broken = Fault(FaultKind.RECORDING, str(error))

    def fault(self, fault: Fault, now: float) -> None:
        """Something went wrong."""
        self.tell("fault", now, {"name": fault.kind.label, "detail": fault.detail})
        self._say(f"{fault.kind.meaning} ({fault})")

    def transition(self, source: State, target: State, why: str, now: float) -> None:
        """The run changed its state."""
        self.tell("transition", now, {"source": source.value, "target": target.value, "why": why})
        self._say(f"{now:10.3f} s  {source.value} -> {target.value}: {why}")

    def frame(self, camera: str, number: int, stamp: float, now: float) -> None:
        """A picture, or another measurement of a sensor, arrived."""
        self.tell("frame", now, {"camera": camera, "number": number, "stamp": stamp, "arrived": now})

    def tick(
        self,
        now: float,
        late: float,
        compute: float,
        state: RobotState,
        target: Target | None,
        sent: Target | None,
        acted: Sequence[str],
    ) -> None:
        """One turn of the loop, `late` seconds after it was due, which took `compute` seconds."""
        if self._record is None:
            return
        self.tell("tick", now, {
            "late": max(0.0, late),
            "compute": compute,
            "state": state.stamp,
            "pose": state.pose.numbers,
            "joints": [float(q) for q in state.joints],
            "target": None if target is None else target.pose.numbers,
            "sent": None if sent is None else sent.pose.numbers,
            "gripper": [state.gripper, None if sent is None else sent.gripper],
            "wrench": None if state.wrench is None else [float(x) for x in state.wrench],
            "limits": list(acted),
        })  # fmt: skip
