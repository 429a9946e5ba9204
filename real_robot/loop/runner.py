"""`Runner`: one episode in closed loop: measure, watch, plan, schedule, gate, command; one turn each 1 / command_hz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from real_robot.clock import Clock
from real_robot.contract import DeviceError, Robot, RobotError
from real_robot.loop.asking import Asking
from real_robot.loop.ending import Ended, Ending, RunResult
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


class Runner:
    """Runs the policy until the operator, the time, the success callback or a fault ends it.

    Whatever happens, the arm is at rest afterwards: `robot.stop()` is the last thing that is done. The robot is
    connected by the caller. home: joints (n,) rad to go to first, at `home_speed` rad/s or slower, inside the gate's
    limits, while the dead-man switch is held. success: asked once each control step of the policy. recover: whether a
    fault waits for the operator's word (`Button.RECOVER`, or END) instead of ending the run.
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
        recover: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        self._robot, self._gate, self._scheduler, self._history = robot, gate, scheduler, history
        self._operator, self._clock, self._settings = operator, clock, settings or RunSettings()
        self._home, self._home_speed, self._at_home = home, home_speed, home is None
        self._recover, self._say = recover, say
        self.journal = Journal(record, say)
        self._dt = 1 / robot.features.command_hz
        self._ending = Ending(self._settings.longest, 1 / planner.spec.control_hz, success, self.journal.tell)
        execute = self._settings.execute or planner.spec.horizon.execute
        self._asking = Asking(
            planner, observer, scheduler, execute, self._settings.max_observation_age, self.journal.tell
        )
        self.machine = Machine(clock, self.journal.transition)
        self.faults: list[Fault] = []
        self._setpoint: Target | None = None  # None: the driver has the arm, nothing is commanded
        self._resting = True
        self._anew = False  # the switch has to be seen released before it counts
        self._due = 0.0

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
        except Ended as why:
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
        while self.machine.state is State.HOMING:
            self._at_home = self._home is None or self._go_home(self._home)
            if self._at_home:
                self.machine.to(State.READY, "no home is set" if self._home is None else "at home")

    def _go_home(self, home: Array) -> bool:
        """Whether it is there; a fault on the way was recovered otherwise."""
        while not self._hear(self._clock.now()).enabled:
            if (ended := self._ending.by_operator()) is not None:
                raise ended
            self._clock.sleep_until(self._clock.now() + self._dt)
        try:
            fault = go_home(
                self._robot, self._gate, home, self._home_speed, self._operator, self._ending.press,
                self._clock, self._dt,
            )  # fmt: skip
        except DeviceError as error:
            fault = self._why_refused(error)
        if fault is None:
            return True
        now = self._clock.now()
        if fault.kind in (FaultKind.OPERATOR_STOP, FaultKind.OPERATOR_RELEASE):
            self._note(fault, now)
            raise Ended("operator" if fault.kind is FaultKind.OPERATOR_STOP else "fault", str(fault))
        self._fault(fault, now)
        return False

    def _hear(self, now: float) -> OperatorState:
        """The operator's word, wherever the run is; a stop ends it."""
        wish = self._operator.read(now)
        self._ending.press(wish.pressed, now)
        if wish.stop:
            self._robot.stop()
            self._note(Fault(FaultKind.OPERATOR_STOP, "emergency stop"), now)
            raise Ended("operator", "the operator pressed stop")
        if self._anew:
            self._anew = wish.enabled
            wish = replace(wish, enabled=False, twist=np.zeros(6))
        return wish

    def _tick(self, now: float, late: float) -> None:
        wish = self._hear(now)
        state = self._measure(now)
        if state is not None:
            self._act(state, wish, now, late)
        self._look_for_the_end(now)

    def _act(self, state: RobotState, wish: OperatorState, now: float, late: float) -> None:
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
        self._end_if_lost(wish)
        if now - self.machine.since > self._settings.start and wish.enabled:
            raise Ended("fault", "no plan came in time")
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
        self._ending.moves(now)
        self.machine.to(State.RUNNING, "a plan is there")

    def _hold(self, state: RobotState, wish: OperatorState, now: float) -> None:
        """From HOLDING: back to READY when the arm stands and the cause is gone."""
        held = now - self.machine.since
        if held > self._settings.hold:
            raise Ended("fault", f"held for {self._settings.hold} s ({self.machine.why})")
        stands = self._resting and np.abs(state.velocities).max() <= _AT_REST
        if stands:
            self._end_if_lost(wish)
        if held > _SILENCE and stands and wish.enabled and self._asking.look(now) is None:
            self._asking.restart()
            self._setpoint = None
            self.machine.to(State.READY, "the cause is gone")

    def _end_if_lost(self, wish: OperatorState) -> None:
        """Nobody can hold or press anything any more; the arm rests."""
        if wish.lost:
            raise Ended("fault", f"the operator's device is lost: {wish.note}")

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
        self._ending.pause(self._clock.now())
        self._brake()
        self._robot.stop()
        if not self._recover or fault.kind is FaultKind.RECORDING:
            raise Ended("fault", str(fault))
        self._ask(fault)
        try:
            self._robot.recover()
            self._wait_until_ready()
        except DeviceError as error:
            raise Ended("fault", f"{fault}; not recovered: {error}") from error
        self._history.clear()
        self._asking.restart()
        self._setpoint, self._resting, self._anew = None, True, True
        self._due = self._clock.now()  # the operator took his time
        # an arm that is not at home yet goes there first
        self.machine.to(State.READY if self._at_home else State.HOMING, "the operator recovered it")

    def _ask(self, fault: Fault) -> None:
        """Wait for the operator's word, while the arm stands; anything but RECOVER ends the run."""
        self._ending.take(Button.RECOVER)  # it was no answer
        self._say(f"stopped: {fault}\nCheck the arm. Recover and go on? (recover: y on a keyboard; end: q)")
        while True:
            wish = self._hear(self._clock.now())
            if self._ending.take(Button.RECOVER):
                return
            ended = self._ending.by_operator()
            if wish.lost or ended is not None:
                raise Ended("fault", str(fault), None if ended is None else ended.success)
            self._clock.sleep_until(self._clock.now() + self._dt)

    def _wait_until_ready(self) -> None:
        """What the arm says of itself is older than its recovery at first."""
        until = self._clock.now() + self._settings.rest
        while True:
            self._hear(self._clock.now())
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
            self._hear(now)
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
            found = fault_of_gate(decision.fault.name, decision.fault.detail)
        elif decision.held and self.machine.state is State.RUNNING:
            self._fault(Fault(FaultKind.REFUSED, ", ".join(decision.limits)), now)
        try:
            sent = self._robot.command(decision.setpoint, now + self._dt)
        except DeviceError as error:
            self._setpoint = None
            refused = self._why_refused(error)
            if found is not None:
                self._note(found, now)  # the arm's own reason decides what follows
            self._fault(refused, now)
            return None, decision.limits
        if found is not None:
            self._fault(found, now)
        return sent.target, decision.limits

    def _why_refused(self, error: DeviceError) -> Fault:
        """A command that was not taken: because of what the arm says of itself, which may arrive a little later."""
        self._robot.stop()
        until = self._clock.now() + self._settings.max_state_age
        while self._clock.now() < until:
            self._hear(self._clock.now())
            try:
                fault = fault_of_mode(self._robot.observe().mode)
            except DeviceError:
                break  # the first error says more
            if fault is not None:
                return fault
            self._clock.sleep_until(self._clock.now() + self._dt)
        return Fault(FaultKind.CONNECTION_LOST, str(error))

    def _look_for_the_end(self, now: float) -> None:
        ended = self._ending.look(now)
        if ended is None:
            return
        if self.machine.state is State.RUNNING:
            self.machine.to(State.HOLDING, ended.reason)
        self._brake()
        raise ended

    # -- what is told ------------------------------------------------------------------------------

    def _note(self, fault: Fault, now: float) -> None:
        self.faults.append(fault)
        self.journal.fault(fault, now)
