"""`Session`: the parts of a deployment, kept from episode to episode."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from equidiff.checkpoint import inspect_checkpoint, load_policy
from equidiff.config import build
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Spec
from real_robot.build import (
    BuildError,
    build_gate,
    build_robot,
    clock_of,
    driver_of,
    plain,
)
from real_robot.calibration.frame import FrameSettings, check_frame
from real_robot.clock import ManualClock
from real_robot.contract import Robot, RobotError
from real_robot.loop.cameras import CameraSensor
from real_robot.loop.history import StateHistory
from real_robot.loop.observer import Observer
from real_robot.loop.runner import Runner, RunResult
from real_robot.loop.schedule import ChunkScheduler, ScheduleSettings
from real_robot.loop.sensors import RobotSensor, Sensor
from real_robot.loop.settings import RunSettings
from real_robot.operator.contract import OperatorInput
from real_robot.operator.scripted import Moment, ScriptedOperator
from real_robot.operator.terminal import TerminalKeyboard
from real_robot.planner import Planner
from real_robot.planners import LatePlanner, ProcessPlanner, RemotePlanner
from real_robot.records import RecordError, RecordWriter
from real_robot.report.write import write_report
from real_robot.safety import GateError, SafetyLimits
from real_robot.seeing import Seeing
from real_robot.server.access import read_token
from real_robot.types import Target
from real_robot.video import VideoRecorder
from real_robot.world import World

__all__ = ["Session"]


class Session:
    """Opens everything of `config` on `stack`. Raises DeviceError, PlannerError, CalibrationError, BuildError or
    LimitsError."""

    def __init__(self, config: DictConfig, stack: ExitStack, say: Callable[[str], None] = print) -> None:
        self._config, self._stack, self._say = config, stack, say
        self._limits = SafetyLimits.from_config(plain(config.safety))
        self._settings = RunSettings(**plain(config.run))
        self._schedule = ScheduleSettings(**plain(config.schedule))
        self._manifest = inspect_checkpoint(config.checkpoint)
        self.simulated = driver_of(config.robot) == "sim"
        operator = self._operator()
        self._success = self._make_success()
        self._robot = self._make_robot()
        self._clock = clock_of(self._robot)
        self._planner = self._make_planner()
        seeing = self._check_frame()
        self._robot = stack.enter_context(self._robot)
        self._history = StateHistory()
        self._world = World.of(self._robot.features)
        self._picture: Callable[[], NDArray[np.uint8]] | None = None
        self._sensors = self._make_sensors(self._planner.spec)
        self._cameras: CameraSensor | None = None
        if seeing is not None:
            self._cameras, self._planner, self._picture = seeing.open(
                self._planner, self._history, stack, float(config.policy.timeout)
            )
        self._observer = Observer(self._planner.spec, self._sensors, self._cameras)
        self._gate = build_gate(self._limits, self._robot)
        self._warm_up()
        self._operator_input = stack.enter_context(operator)

    def episode(self, number: int, folder: Path) -> RunResult:
        """One run; its record, report and video are in `folder`."""
        config = self._config
        success = self._success
        if self.simulated:
            from real_robot.sim.robot import SimRobot

            assert isinstance(self._robot, SimRobot)
            world = self._robot.world
            world.reset(int(config.seed) + number)
            success = success or (lambda: world.success)
        self._history.clear()
        scheduler = ChunkScheduler(self._planner.spec, self._world, self._schedule)
        record = RecordWriter(folder)
        if not self.simulated:
            self._say("hold the dead-man switch (space in a terminal); docs/teleoperation.md has the keys")
        with contextlib.closing(record), ExitStack() as stack:
            record.write("start", self._clock.now(), self._about())
            runner = Runner(
                self._robot, self._gate, self._planner, self._observer, scheduler, self._history,
                self._operator_input, self._clock, self._settings, record,
                home=None if config.home is None else np.array(list(config.home), np.float64),
                home_speed=float(config.home_speed),
                success=success,
                recover=not self.simulated and sys.stdin.isatty(),  # somebody is there to look at the arm
                say=self._say,
            )  # fmt: skip
            for sensor in (*self._sensors, self._cameras):
                if sensor is not None and hasattr(sensor, "listener"):
                    sensor.listener = lambda name, count, stamp: runner.journal.frame(
                        name, count, stamp, self._clock.now()
                    )
            if config.video and self._picture is not None:
                stack.enter_context(VideoRecorder(folder / "video.mp4", self._picture, self._clock))
            result = runner.run()
        try:
            write_report(folder)
        except OSError as error:  # the arm stands
            raise RecordError(
                f"{folder}: {error.strerror}; no report of this run; free space, then python -m "
                f"real_robot.report {folder}"
            ) from error
        return result

    def _warm_up(self) -> None:
        """What is slow the first time, such as loading libraries, before an arm depends on it."""
        with contextlib.suppress(GateError):  # before homing the arm may stand where the gate does not start
            now = self._clock.now()
            state = self._robot.observe()
            self._gate.reset(state, now)
            self._gate.next(Target(state.pose, state.gripper), state, now)
        if self._picture is not None and self._config.video:
            self._picture()

    # -- parts -------------------------------------------------------------------------------------

    def _operator(self) -> OperatorInput:
        if self._config.get("operator") is not None:
            operator: OperatorInput = build(plain(self._config.operator))
            return operator
        if not self.simulated:
            if sys.stdin.isatty():
                return TerminalKeyboard()
            raise BuildError(
                "operator: is not set, and there is no terminal; an arm moves only while somebody holds a "
                "dead-man switch: operator=keyboard, spacemouse or gamepad"
            )
        return ScriptedOperator([Moment(0.0)])  # nobody is near it

    @cached_property
    def _policy(self) -> DiffusionPolicy:
        """In this process; where the plans are made elsewhere only its spec is of use."""
        return load_policy(self._config.checkpoint, device=str(self._config.policy.device))

    def _make_robot(self) -> Robot:
        if not self.simulated:
            return build_robot(self._config.robot)
        from real_robot.sim.setting import make_robot

        robot = make_robot(plain(self._config.robot), self._manifest, self._policy.spec)
        self._stack.callback(robot.world.close)
        return robot

    def _make_success(self) -> Callable[[], bool] | None:
        """What the node `success` names, asked with the newest measurement of the arm."""
        if self._config.success is None:
            return None
        made = build(plain(self._config.success))
        if not callable(made):
            raise BuildError(
                f"success: expected something to call with a RobotState, got {type(made).__name__}; "
                "real_robot.success has one"
            )

        def solved() -> bool:
            try:
                state = self._history.newest
            except RobotError:  # nothing was measured since a recovery
                return False
            return bool(made(state))

        return solved

    def _make_planner(self) -> Planner:
        node = self._config.policy
        if isinstance(self._clock, ManualClock):
            from real_robot.sim.planner import DelayedPlanner

            return DelayedPlanner(self._policy, self._clock, float(node.delay), int(node.seed or 0))
        planner = self._real_planner()
        self._stack.callback(planner.close)
        return LatePlanner(planner, self._clock, float(node.delay)) if node.delay else planner

    def _real_planner(self) -> Planner:
        node = self._config.policy
        if node.server is not None:
            return RemotePlanner(
                str(node.server),
                read_token(None if node.token_file is None else Path(node.token_file)),
                timeout=float(node.timeout),
                ca=None if node.ca is None else Path(node.ca),
                insecure=bool(node.insecure),
                expected=self._policy.spec,
            )
        return ProcessPlanner(
            self._config.checkpoint,
            device=str(node.device),
            timeout=float(node.timeout),
            seed=node.seed,
            threads=node.threads,
        )

    def _make_sensors(self, spec: Spec) -> list[Sensor]:
        sensors: list[Sensor] = [RobotSensor(self._history, self._world)]
        if self.simulated:
            from real_robot.sim.robot import SimRobot
            from real_robot.sim.sensors import cameras, tracker

            assert isinstance(self._robot, SimRobot)
            world, node = self._robot.world, self._config.robot
            delays = float(node.sensor_latency), float(node.sensor_jitter)
            poses = [key for key in spec.observation.keys if key.endswith(("_pos", "_quat"))]
            if any(not key.startswith("robot0_") for key in poses):
                sensors.append(tracker(world, float(node.sensor_hz), *delays))
            if spec.observation.arrays:
                sensors.append(cameras(world, float(node.camera_hz), *delays))
            self._picture = world.picture
        return sensors

    def _check_frame(self) -> Seeing | None:
        """Before a real arm is connected: that its frame is the one the policy was trained in, cameras included."""
        if self.simulated:
            return None
        settings = FrameSettings(**plain(self._config.calibration))
        features, seeing = self._robot.features, None
        if self._config.cameras:
            seeing = Seeing(self._config.cameras, self._manifest, self._planner.spec, features)
        calibrations = {} if seeing is None else seeing.calibrations
        self._say(check_frame(settings, features, calibrations, self._planner.spec.workspace.centre))
        return seeing

    def _about(self) -> dict[str, Any]:
        features = self._robot.features
        return {
            "robot": features.name,
            "checkpoint": str(self._config.checkpoint),
            "control_hz": self._planner.spec.control_hz,
            "command_hz": features.command_hz,
            "settings": {name: plain(self._config[name]) for name in ("robot", "safety", "schedule", "run", "policy")},
        }
