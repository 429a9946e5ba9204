"""`Runner`: one episode in closed loop: measure, watch, plan, schedule, gate, command; one turn each 1 / command_hz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from real_robot.clock import Clock
from real_robot.contract import DeviceError, Robot, RobotError
from real_robot.loop.asking import Asking
from real_robot.loop.faults import Fault, FaultKind, fault_of_gate, fault_of_mode
from real_robot.loop.history import StateHistory
from real_robot.loop.homing import go_home
from real_robot.loop.journal import Journal
from real_robot.loop.machine import Machine, State
from real_robot.loop.observer import Observer
from real_robot.loop.schedule import ChunkScheduler
from real_robot.loop.settings import RunSettings
from real_robot.operator.contract import Button, OperatorInput, OperatorState
from real_robot.planner import Planner
from real_robot.records import RecordWriter
from real_robot.safety.gate import GateError, SafetyGate
from real_robot.types import Array, RobotMode, RobotState, Target

__all__ = ["RunResult", "Runner"]

_AT_REST = 0.04
"""rad/s of measured joints below which an arm stands."""
_PATIENCE = 5.0
"""Seconds for the last answer of the policy after the end; its own time-out is shorter."""
_ARM_IS_FINE = {FaultKind.SENSOR_LOST, FaultKind.POLICY_LOST, FaultKind.RECORDING, FaultKind.GATE}
"""Faults after which the arm brakes along the gate's way to rest; after the others the driver stops it at once."""


_SILENCE = 0.15
"""Seconds without a command that end a driver's stop, and some more."""

By = Literal["success", "label", "time", "operator", "fault"]


@dataclass
class RunResult:
    """by, reason: what ended the run, and why. "label": the operator said how it went; "operator": he wants no more.

    success: by the callback or the operator, None if nobody said. faults: all there were.
    """

    by: By
    reason: str
    success: bool | None
    seconds: float
    faults: list[Fault] = field(default_factory=list)


class _Ended(Exception):
    def __init__(self, by: By, reason: str, success: bool | None = None) -> None:
        super().__init__(reason)
        self.by, self.reason, self.success = by, reason, success


class Runner:
    """Runs the policy until the operator, the time, the success callback or a fault ends it.

    Whatever happens, the arm is at rest afterwards: `robot.stop()` is the last thing that is done. The robot is
    connected by the caller. home: joints (n,) rad to go to first, at `home_speed` rad/s, while the dead-man switch is
    held. success: asked once each control step of the policy. recover: asked with a fault, whether the operator wants
    to go on; None: never.
    """

    def __init__(
        self,
        robot: Robot,
        gate: SafetyGate,
        planner: Planner,
        observer: Observer,
        scheduler: ChunkScheduler,
        history: StateHistory,
        operator: OperatorInput,
        clock: Clock,
        settings: RunSettings | None = None,
        record: RecordWriter | None = None,
        home: Array | None = None,
        home_speed: float = 0.3,
        success: Callable[[], bool] | None = None,
        recover: Callable[[Fault], bool] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._robot, self._gate, self._scheduler, self._history = robot, gate, scheduler, history
        self._operator, self._clock, self._settings = operator, clock, settings or RunSettings()
        self._home, self._home_speed = home, home_speed
        self._success, self._recover = success, recover
        self.journal = Journal(record, say)
        self._dt, self._step = 1 / robot.features.command_hz, 1 / planner.spec.control_hz
        execute = self._settings.execute or planner.spec.horizon.execute
        self._asking = Asking(
            planner, observer, scheduler, execute, self._settings.max_observation_age, self.journal.tell
        )
        self.machine = Machine(clock, self.journal.transition)
        self.faults: list[Fault] = []
        self._setpoint: Target | None = None  # None: the driver has the arm, nothing is commanded
        self._resting = True
        self._anew = False  # the switch has to be seen released before it counts
        self._began: float | None = None  # when the policy first moved the arm
        self._checked = self._due = 0.0

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Until it ends; never raises for what the devices do."""
        start = self._clock.now()
        try:
            self._begin()
            self._due = self._clock.now()
            while True:
                now = self._clock.now()
                self._tick(now, now - self._due)
                # what was missed is not made up for
                self._due = self._due + self._dt if now < self._due + self._dt else now + self._dt
                self._clock.sleep_until(self._due)
        except _Ended as why:
            end = why
        finally:
            self._robot.stop()
        now = self._clock.now()
        if self.machine.state is not State.STOPPED:
            self.machine.to(State.STOPPED, end.reason)
        self.journal.tell("end", now, {"reason": end.reason, "success": end.success})
        self._asking.drain(self._clock, _PATIENCE)
        return RunResult(end.by, end.reason, end.success, now - start, self.faults)

    def _begin(self) -> None:
        self.machine.to(State.HOMING, "connected")
        if self._home is not None:
            self._go_home(self._home)
        if self.machine.state is State.HOMING:
            self.machine.to(State.READY, "at home" if self._home is not None else "no home is set")

    def _go_home(self, home: Array) -> None:
        while not self._hear(self._clock.now()).enabled:
            self._clock.sleep_until(self._clock.now() + self._dt)
        try:
            wish = go_home(self._robot, home, self._home_speed, self._operator, self._clock, self._dt)
        except DeviceError as error:
            self._fault(Fault(FaultKind.CONNECTION_LOST, str(error)), self._clock.now())
            return
        if wish is not None:
            kind = FaultKind.OPERATOR_STOP if wish.stop else FaultKind.OPERATOR_RELEASE
            self._note(Fault(kind, "on the way home"), self._clock.now())
            raise _Ended("operator" if wish.stop else "fault", f"{kind.label}: on the way home")

    def _hear(self, now: float) -> OperatorState:
        """The operator's word; a stop ends the run."""
        wish = self._operator.read(now)
        if wish.stop:
            self._robot.stop()
            self._note(Fault(FaultKind.OPERATOR_STOP, "emergency stop"), now)
            raise _Ended("operator", "the operator pressed stop")
        if self._anew:
            self._anew = wish.enabled
            wish = replace(wish, enabled=False, twist=np.zeros(6))
        return wish

    def _tick(self, now: float, late: float) -> None:
        wish = self._hear(now)
        state = self._measure(now)
        if state is None:
            return
        fault = self.journal.broken or self._watch(state, wish, now, late)
        here = self._setpoint
        target: Target | None = None
        if fault is None and self.machine.state in (State.READY, State.RUNNING):
            if wish.enabled:
                fault = self._asking.ask(now)
            fault = fault or self._asking.receive(now, here)
        if fault is not None:
            self._fault(fault, now)
        if self.machine.state is State.READY:
            self._start(state, wish, now)
        elif self.machine.state is State.HOLDING:
            self._hold(state, wish, now)
        if self.machine.state is State.RUNNING:
            target = self._scheduler.target(now + self._dt)
            if target is None:
                self._fault(Fault(FaultKind.LATE_POLICY, "the plan has nothing for this time"), now)
        sent, acted = self._command(target, state, now)
        self.journal.tick(now, late, self._clock.now() - now, state, target, sent, acted)
        self._look_for_the_end(wish, now)

    def _measure(self, now: float) -> RobotState | None:
        try:
            state = self._robot.observe()
        except DeviceError as error:
            self._fault(Fault(FaultKind.CONNECTION_LOST, str(error)), now)
            return None
        self._history.add(state)
        return state

    def _watch(self, state: RobotState, wish: OperatorState, now: float, late: float) -> Fault | None:
        """What is wrong with the arm, the loop, the operator and the observations, the worst first."""
        fault = fault_of_mode(state.mode)
        if fault is not None:
            return fault
        limit = self._settings
        if late > limit.max_late:
            return Fault(FaultKind.LATE_LOOP, f"{late:.3f} s late, allowed are {limit.max_late} s")
        age = now - state.stamp
        if not -limit.max_state_age < age <= limit.max_state_age:
            return Fault(FaultKind.STALE_STATE, f"measured {age:.3f} s ago, allowed are {limit.max_state_age} s")
        running = self.machine.state is State.RUNNING
        if running and not wish.enabled:
            return Fault(FaultKind.OPERATOR_RELEASE, wish.note or "the dead-man switch is not held")
        stale = self._asking.look(now)
        if stale is not None and (running or stale.kind.reaction is State.FAULT):
            return stale
        return None

    # -- states ------------------------------------------------------------------------------------

    def _start(self, state: RobotState, wish: OperatorState, now: float) -> None:
        """From READY: gate and plan made anew, from where the arm stands."""
        if now - self.machine.since > self._settings.start and wish.enabled:
            raise _Ended("fault", "no plan came in time")
        if not wish.enabled or self._scheduler.target(now + self._dt) is None:
            return
        if np.abs(state.velocities).max() > _AT_REST:
            return
        try:
            self._setpoint = self._gate.reset(state, now).setpoint
        except GateError as error:
            self._fault(fault_of_gate("start", str(error)), now)
            return
        self._resting = False
        self._began = now if self._began is None else self._began
        self.machine.to(State.RUNNING, "a plan is there")

    def _hold(self, state: RobotState, wish: OperatorState, now: float) -> None:
        """From HOLDING: back to READY when the arm stands and the cause is gone."""
        held = now - self.machine.since
        if held > self._settings.hold:
            raise _Ended("fault", f"held for {self._settings.hold} s ({self.machine.why})")
        stands = np.abs(state.velocities).max() <= _AT_REST
        if held > _SILENCE and stands and self._resting and wish.enabled and self._asking.look(now) is None:
            self._asking.restart()
            self._setpoint = None
            self.machine.to(State.READY, "the cause is gone")

    def _fault(self, fault: Fault, now: float) -> None:
        """React to a fault, once: a second one while the first is dealt with counts only if it is worse."""
        reaction = fault.kind.reaction
        if reaction is State.HOLDING:
            if self.machine.state is State.READY and fault.kind is not FaultKind.LATE_LOOP:
                return  # the arm stands anyway
            if self.machine.state is State.HOLDING:
                if fault.kind is FaultKind.LATE_LOOP:
                    self._let_go()
                return
        self._note(fault, now)
        if self.machine.state is State.FAULT:  # while braking after another one
            self._setpoint = None
            return
        if fault.kind is FaultKind.LATE_LOOP or (reaction is State.FAULT and fault.kind not in _ARM_IS_FINE):
            self._let_go()
        self.machine.to(reaction, str(fault))
        if reaction is State.FAULT:
            self._after_fault(fault)

    def _let_go(self) -> None:
        """The driver stops the arm at once; where it comes to rest the gate starts anew."""
        self._robot.stop()
        self._setpoint, self._resting = None, True

    def _after_fault(self, fault: Fault) -> None:
        """Brake if the arm is fine, then end, or go on if the operator says so."""
        self._brake()
        self._robot.stop()
        again = self._recover is not None and fault.kind is not FaultKind.RECORDING and self._recover(fault)
        if not again:
            raise _Ended("fault", str(fault))
        try:
            self._robot.recover()
            self._wait_until_ready()
        except DeviceError as error:
            raise _Ended("fault", f"{fault}; not recovered: {error}") from error
        self._history.clear()
        self._asking.restart()
        self._setpoint, self._resting, self._anew = None, True, True
        self._due = self._clock.now()  # the operator took his time
        self.machine.to(State.READY, "the operator recovered it")

    def _wait_until_ready(self) -> None:
        """What the arm says of itself is older than its recovery at first."""
        until = self._clock.now() + self._settings.rest
        while True:
            state = self._robot.observe()
            if state.mode is RobotMode.READY and self._clock.now() - state.stamp <= self._settings.max_state_age:
                return
            if self._clock.now() > until:
                raise RobotError(f"the arm still reports {state.mode.value}")
            self._clock.sleep_until(self._clock.now() + self._dt)

    def _brake(self) -> None:
        """Along the gate's way to rest, as long as the arm measures and takes commands."""
        until = self._clock.now() + self._settings.rest
        while self._setpoint is not None and not self._resting and self._clock.now() < until:
            now = self._clock.now()
            try:
                state = self._robot.observe()
            except DeviceError as error:
                self._note(Fault(FaultKind.CONNECTION_LOST, f"while braking: {error}"), now)
                return
            if fault_of_mode(state.mode) is not None or now - state.stamp > self._settings.max_state_age:
                return
            sent, acted = self._command(None, state, now)
            self.journal.tick(now, 0.0, self._clock.now() - now, state, None, sent, acted)
            self._clock.sleep_until(now + self._dt)

    # -- what goes out -----------------------------------------------------------------------------

    def _command(self, target: Target | None, state: RobotState, now: float) -> tuple[Target | None, tuple[str, ...]]:
        if self._setpoint is None:
            return None, ()
        decision = self._gate.next(target, state, now)
        self._setpoint, self._resting = decision.setpoint, decision.at_rest
        found: Fault | None = None
        if decision.fault is not None and self.machine.state in (State.RUNNING, State.HOLDING):
            self._note(found := fault_of_gate(decision.fault.name, decision.fault.detail), now)
            self.machine.to(State.FAULT, str(found))
        elif decision.held and self.machine.state is State.RUNNING:
            self._note(held := Fault(FaultKind.REFUSED, ", ".join(decision.limits)), now)
            self.machine.to(State.HOLDING, str(held))
        try:
            sent = self._robot.command(decision.setpoint, now + self._dt)
        except DeviceError as error:
            self._setpoint = None
            self._fault(self._why_refused(error), now)
            return None, decision.limits
        if found is not None:
            self._after_fault(found)
        return sent.target, decision.limits

    def _why_refused(self, error: DeviceError) -> Fault:
        """A command that was not taken: because of what the arm says of itself, which may arrive a little later."""
        self._robot.stop()
        until = self._clock.now() + self._settings.max_state_age
        while self._clock.now() < until:
            try:
                fault = fault_of_mode(self._robot.observe().mode)
            except DeviceError:
                break  # the first error says more
            if fault is not None:
                return fault
            self._clock.sleep_until(self._clock.now() + self._dt)
        return Fault(FaultKind.CONNECTION_LOST, str(error))

    def _look_for_the_end(self, wish: OperatorState, now: float) -> None:
        for pressed in sorted(button.value for button in wish.pressed):
            self.journal.tell("marker", now, {"text": f"the operator pressed {pressed}"})
        if Button.END in wish.pressed:
            self._finish("operator", "the operator wants no more", None)
        for button, success in ((Button.SUCCESS, True), (Button.FAILURE, False)):
            if button in wish.pressed:
                self._finish("label", f"the operator pressed {button.value}", success)
        if self._began is not None and now - self._began >= self._settings.longest:
            solved = None if self._success is None else self._success()
            self._finish("time", f"{self._settings.longest} s are over", solved)
        if self._success is not None and now >= self._checked + self._step - 1e-6:
            self._checked = now
            if self._success():
                self._finish("success", "success", True)

    def _finish(self, by: By, reason: str, success: bool | None) -> None:
        if self.machine.state is State.RUNNING:
            self.machine.to(State.HOLDING, reason)
        self._brake()
        raise _Ended(by, reason, success)

    # -- what is told ------------------------------------------------------------------------------

    def _note(self, fault: Fault, now: float) -> None:
        self.faults.append(fault)
        self.journal.fault(fault, now)
