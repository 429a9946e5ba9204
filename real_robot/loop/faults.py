"""What can go wrong in a run, and what each of it does: hold and go on, or stop until the operator says so."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from real_robot.loop.machine import State
from real_robot.types import RobotMode

__all__ = ["Fault", "FaultKind", "fault_of_gate", "fault_of_mode"]


class FaultKind(enum.Enum):
    """value: its name in records; reaction: HOLDING or FAULT; meaning: for people."""

    def __init__(self, label: str, reaction: State, meaning: str) -> None:
        self.label, self.reaction, self.meaning = label, reaction, meaning

    STALE_OBSERVATION = ("stale_observation", State.HOLDING, "a sensor's newest measurement is too old to act on")
    LATE_POLICY = ("late_policy", State.HOLDING, "the plan ran out before the next one came")
    OPERATOR_RELEASE = ("operator_release", State.HOLDING, "the dead-man switch was released")
    LATE_LOOP = (
        "late_loop",
        State.HOLDING,
        "the loop did not run for too long: a busy computer, or a clock that jumped",
    )
    REFUSED = ("refused_target", State.HOLDING, "the safety gate refused a target of the policy")
    SENSOR_LOST = ("sensor_lost", State.FAULT, "a camera or another sensor is gone")
    POLICY_LOST = ("policy_lost", State.FAULT, "the policy's process or server is gone, or its answer is no plan")
    STALE_STATE = ("stale_state", State.FAULT, "the arm's own measurements are too old: frozen, or cut off")
    CONNECTION_LOST = ("connection_lost", State.FAULT, "the arm does not answer or refuses")
    PROTECTIVE_STOP = ("protective_stop", State.FAULT, "the arm's controller stopped it")
    EMERGENCY_STOP = ("emergency_stop", State.FAULT, "the emergency stop was pressed at the arm")
    ROBOT_FAULT = ("robot_fault", State.FAULT, "the arm's controller reports a fault or takes no commands")
    GATE = ("gate", State.FAULT, "the safety gate found a limit broken")
    RECORDING = ("recording", State.FAULT, "the run cannot be recorded any more, a full disk for example")
    OPERATOR_STOP = ("operator_stop", State.STOPPED, "the operator pressed stop")


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, and what was seen."""

    kind: FaultKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.label}: {self.detail}"


def fault_of_mode(mode: RobotMode) -> Fault | None:
    """What the mode of the arm's controller means for the run; None for one that takes commands."""
    kinds = {
        RobotMode.PROTECTIVE_STOP: FaultKind.PROTECTIVE_STOP,
        RobotMode.EMERGENCY_STOP: FaultKind.EMERGENCY_STOP,
        RobotMode.FAULT: FaultKind.ROBOT_FAULT,
        RobotMode.IDLE: FaultKind.ROBOT_FAULT,
    }
    return None if mode is RobotMode.READY else Fault(kinds[mode], f"the arm's controller reports {mode.value}")


def fault_of_gate(name: str, detail: str) -> Fault:
    """A fault that the safety gate found, under the name that it has in a run."""
    kind = FaultKind.STALE_STATE if name in ("stale_state", "clock") else FaultKind.GATE
    return Fault(kind, f"{name}: {detail}")
