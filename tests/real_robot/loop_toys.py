"""A simulated arm on exact time, a planner that draws a straight line, and what the arm did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from equidiff.fields import Position, Rotation, Scalars
from equidiff.fields.presets import absolute_action
from equidiff.spec import Horizon, Space, Spec
from real_robot.build import plain
from real_robot.clock import ManualClock
from real_robot.loop.history import StateHistory
from real_robot.loop.observer import Observer
from real_robot.loop.runner import Runner, RunResult
from real_robot.loop.schedule import ChunkScheduler, ScheduleSettings
from real_robot.loop.sensors import RobotSensor
from real_robot.loop.settings import RunSettings
from real_robot.operator.contract import OperatorInput
from real_robot.operator.scripted import Moment, ScriptedOperator
from real_robot.planner import Planner, PlannerError
from real_robot.poses import Pose
from real_robot.safety import SafetyGate, SafetyLimits
from real_robot.sim.robot import SimRobot
from real_robot.sim.sensors import SimSensor, tracker
from real_robot.sim.setting import task_named
from real_robot.sim.world import SimWorld
from real_robot.types import Plan, PlanRequest
from real_robot.world import World

SPEED = 0.08
"""m/s along +y of the world, at which the line goes on."""
SPEC = Spec(
    observation=Space(
        (
            Position("robot0_eef_pos"),
            Rotation("robot0_eef_quat_site"),
            Scalars("robot0_gripper_qpos", size=2),
            Position("cube_pos"),
        )
    ),
    action=Space(absolute_action()),
    horizon=Horizon(obs=2, predict=17, execute=8),
    control_hz=20,
)


class LinePlanner(Planner):
    """From where the gripper is at first along +y, open; the answer comes after `delay` seconds of the clock.

    After a pause without requests the line begins anew from where the gripper is then.
    """

    def __init__(self, clock: ManualClock, delay: float = 0.05) -> None:
        self.clock, self.delay = clock, delay
        self.crashed = False
        self.requests: list[PlanRequest] = []
        self._begin: tuple[float, Pose] | None = None
        self._answer: tuple[float, Plan] | None = None

    @property
    def spec(self) -> Spec:
        return SPEC

    def submit(self, request: PlanRequest) -> None:
        if self.crashed:
            raise PlannerError("the policy's process is gone")
        assert self._answer is None
        pose = Pose.from_quat(
            request.observation["robot0_eef_pos"][-1], request.observation["robot0_eef_quat_site"][-1]
        )
        paused = self.requests and request.stamp > self.requests[-1].stamp + 0.6
        if self._begin is None or paused:
            self._begin = (request.stamp, pose)
        self.requests.append(request)
        start, pose = self._begin
        actions = np.tile([*pose.position, *pose.rotvec, -1.0], (16, 1))
        actions[:, 1] += SPEED * (request.stamp - start + (np.arange(16) + 1) / SPEC.control_hz)
        self._answer = (self.clock.now() + self.delay, Plan(request.number, request.stamp, actions, self.delay))

    def poll(self) -> Plan | None:
        if self.crashed:
            raise PlannerError("the policy's process is gone")
        if self._answer is None or self._answer[0] > self.clock.now() + 1e-9:
            return None
        (_, plan), self._answer = self._answer, None
        return plan

    def close(self) -> None:
        self._answer = None


@dataclass
class Ran:
    """What the arm did: times (n,), positions (n, 3) in the world, each 2 ms; the rest is of the runner."""

    result: RunResult
    times: np.ndarray
    positions: np.ndarray
    transitions: list[tuple[float, str, str]]
    records: list[tuple[str, float, dict[str, Any]]]
    said: list[str]

    @property
    def faults(self) -> list[str]:
        return [fault.kind.label for fault in self.result.faults]

    @property
    def path(self) -> list[str]:
        return [target for _, _, target in self.transitions]

    def moved_after(self, when: float) -> float:
        """Metres from where the arm was at `when` to where it ended."""
        return float(np.linalg.norm(self.positions[-1] - self.positions[np.searchsorted(self.times, when)]))

    def stopped(self, speed: float = 0.015) -> float:
        """The time from which on the arm was slower than `speed` m/s."""
        window = 5
        moved = np.linalg.norm(self.positions[window:] - self.positions[:-window], axis=1)
        fast = np.flatnonzero(moved > speed * (self.times[window:] - self.times[:-window]))
        return float(self.times[fast[-1] + window]) if len(fast) else float(self.times[0])

    def largest_speed(self, since: float) -> float:
        """m/s over 10 ms, from a time on."""
        window = 5
        moved = np.linalg.norm(self.positions[window:] - self.positions[:-window], axis=1)
        passed = self.times[window:] - self.times[:-window]
        return float((moved / np.maximum(passed, 0.01))[self.times[window:] >= since].max())


class Memory:
    """Records in memory; `full_at`: from then on the disk takes nothing."""

    def __init__(self, clock: ManualClock) -> None:
        self.rows: list[tuple[str, float, dict[str, Any]]] = []
        self.full_at = np.inf
        self._clock = clock

    def write(self, kind: str, t: float, fields: dict[str, Any]) -> None:
        from real_robot.records import RecordError

        if self._clock.now() >= self.full_at:
            raise RecordError("run.jsonl: No space left on device; free space, the run cannot be recorded")
        self.rows.append((kind, t, fields))


def limits(**changes: Any) -> SafetyLimits:
    configs = Path(__file__).parents[2] / "configs/safety"
    merged = OmegaConf.merge(OmegaConf.load(configs / "default.yaml"), OmegaConf.load(configs / "sim.yaml"), changes)
    tree = plain(merged)
    tree.pop("defaults")
    return SafetyLimits.from_config(tree)


@dataclass
class Bench:
    """One world for many runs; each starts at the same place."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(step=0.002))

    def __post_init__(self) -> None:
        self.world = SimWorld(task_named("lift"), self.clock)
        self.clock.listeners.append(self.world.advance)

    def close(self) -> None:
        self.world.close()

    def run(
        self,
        inject: Callable[[Run], None] | None = None,
        at: float = 1.0,
        operator: OperatorInput | list[Moment] | None = None,
        settings: RunSettings | None = None,
        schedule: ScheduleSettings | None = None,
        delay: float = 0.05,
        recover: bool = False,
        success: Callable[[], bool] | None = None,
        gate: dict[str, Any] | None = None,
        home: np.ndarray | None = None,
        **robot_settings: Any,
    ) -> Ran:
        """A run of at most 3 s in which `inject` is called once, `at` seconds after the start."""
        self.world.reset(3)
        robot = SimRobot(self.world, **robot_settings)
        sensor = tracker(self.world)
        history, base = StateHistory(), World.of(robot.features)
        hands = operator if isinstance(operator, OperatorInput) else ScriptedOperator(operator or [Moment(0.0)])
        if isinstance(hands, ScriptedOperator):
            hands.connect()
        memory = Memory(self.clock)
        planner = LinePlanner(self.clock, delay)
        start = self.clock.now()
        trace: list[tuple[float, np.ndarray]] = []
        done: list[bool] = []
        said: list[str] = []
        with robot:
            run = Run(self, robot, sensor, planner, memory, start)

            def watch(now: float) -> None:
                trace.append((now - start, self.world.pose.position))
                if inject is not None and not done and now >= start + at:
                    done.append(True)
                    inject(run)

            self.world.listeners.append(watch)
            runner = Runner(
                robot,
                SafetyGate.for_robot(limits(**(gate or {})), robot.features, robot.tool, robot.maker_base),
                planner,
                Observer(SPEC, [RobotSensor(history, base), sensor]),
                ChunkScheduler(SPEC, base, schedule or ScheduleSettings()),
                history,
                hands,
                self.clock,
                settings or RunSettings(longest=3.0),
                memory,  # type: ignore[arg-type]
                home=home,
                success=success,
                recover=recover,
                say=said.append,
            )
            result = runner.run()
            self.clock.sleep_until(self.clock.now() + 1.0)  # whether it really rests
            self.world.listeners.remove(watch)
        self.world.listeners.remove(sensor._measure)
        self.world.restarts.remove(sensor._restart)
        changes = [(t - start, f["source"], f["target"]) for kind, t, f in memory.rows if kind == "transition"]
        times, places = zip(*trace, strict=True)
        return Ran(result, np.array(times), np.array(places), changes, memory.rows, said)


@dataclass
class Run:
    """What a fault is injected into."""

    bench: Bench
    robot: SimRobot
    sensor: SimSensor
    planner: LinePlanner
    memory: Memory
    start: float

    @property
    def now(self) -> float:
        return self.bench.clock.now()
