"""`SimWorld`: a task of the simulator whose time is that of a clock."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from equidiff.perception import PerceptionSettings
from equidiff.sim.backend import load_mujoco
from equidiff.sim.env import TaskEnv, env_arguments
from equidiff.sim.physics import FastPhysics
from equidiff.sim.render import Camera, RendererSettings
from equidiff.sim.task import Task
from real_robot.clock import Clock
from real_robot.contract import RobotError
from real_robot.poses import Pose
from real_robot.types import Array

__all__ = ["SimWorld"]

_T = TypeVar("_T")
_GRIPPERS = {"panda": (0.0, 0.08), "ur5e": (0.0, 0.085)}
_ROBOTS = {"panda": "Panda", "ur5e": "UR5e"}


class SimWorld:
    """Steps the physics up to the clock's time; the arm goes to the last goal it was given.

    arm: "panda", "ur5e". `advance` is called by whoever owns time: a ManualClock's listeners, or the thread that
    `start` begins, for a clock that runs by itself. Everything else may be called from any thread; what draws is done
    in that thread, because a drawing context belongs to one.
    """

    def __init__(
        self,
        task: Task,
        clock: Clock,
        arm: str = "panda",
        perception: PerceptionSettings | None = None,
        renderer: RendererSettings | None = None,
    ) -> None:
        if arm not in _ROBOTS:
            raise RobotError(f"robot.arm: expected one of {', '.join(_ROBOTS)}, got {arm!r}")
        arguments = env_arguments(task, "absolute")
        arguments["env_kwargs"]["robots"] = [_ROBOTS[arm]]
        self.env = TaskEnv(task, arguments, "fast", perception, renderer)
        self.env.blind = True  # cameras look when they take a picture
        self.clock, self.arm, self.gripper_range = clock, arm, _GRIPPERS[arm]
        self.lock = threading.RLock()
        self.listeners: list[Callable[[float], None]] = []
        """Called after each advance with the time: devices that measure."""
        self.restarts: list[Callable[[], None]] = []
        """Called when an episode begins: devices forget the last one."""
        self._time = clock.now()
        self._goal: tuple[Pose, float] | None = None
        self._thread: threading.Thread | None = None
        self._quit = threading.Event()
        self._painter = ThreadPoolExecutor(1, "sim-picture")
        self._camera: Camera | None = None
        self._shown: Any = None
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._reset(0)

    # -- episodes ----------------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """Begin the episode of that seed, as a rollout of the simulator does; the arm stands."""
        self.in_thread(lambda: self._reset(seed))

    def _reset(self, seed: int) -> None:
        with self.lock:
            self.env.reset(seed=seed)
            physics = self.env.physics
            if not isinstance(physics, FastPhysics):
                raise RobotError(f"task {self.env.task.name}: the fast step does not apply, it cannot follow a clock")
            self._physics = physics
            self._substep = float(self.env.env.model_timestep)
            self._time = self.clock.now()
            controller = self.env.env.robots[0].controller
            self._posture = np.array(controller.initial_joint)
            self._gains = np.array(controller.kp), np.array(controller.kd)
            self._goal = (self.pose, -1.0)
            self.rest()
            base = self.env.env.robots[0].base_pos, self.env.env.robots[0].base_ori
            self.base = Pose.from_quat(*base)
            for restart in self.restarts:
                restart()

    @property
    def success(self) -> bool:
        with self.lock:
            return self.env.success

    # -- time --------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Step up to `now`."""
        with self.lock:
            count = int((now - self._time) / self._substep + 1e-6)
            if count > 0:
                assert self._goal is not None
                pose, grip = self._goal
                self._physics.advance(np.array([*pose.position, *pose.rotvec, grip]), count)
                self._time += count * self._substep
                for listener in self.listeners:
                    listener(self._time)

    def start(self, period: float = 0.004) -> None:
        """Advance in a thread from now on, each `period` seconds, up to `close`."""
        self._time = self.clock.now()
        atexit.register(self.close)  # a thread that steps while the interpreter goes down is a segmentation fault
        self._thread = threading.Thread(target=self._run, args=(period,), name="sim-world", daemon=True)
        self._thread.start()

    def _run(self, period: float) -> None:
        while not self._quit.is_set():
            while not self._work.empty():
                future, work = self._work.get()
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                    future.set_exception(error)
            now = self.clock.now()
            self.advance(now)
            self.clock.sleep_until(now + period)

    def in_thread(self, work: Callable[[], _T]) -> _T:
        """The result of `work`, done in the thread that `start` began, if it did."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return work()
        future: Future[_T] = Future()
        self._work.put((future, work))
        return future.result(timeout=60)

    def close(self) -> None:
        """End the thread and the simulator; may be called twice."""
        if self._quit.is_set():
            return
        with contextlib.suppress(RuntimeError):  # at the end of the program the drawing thread is gone already
            self._painter.submit(self._close_camera).result(timeout=60)
        self._painter.shutdown()
        self.in_thread(self.env.close)
        self._quit.set()
        if self._thread is not None:
            self._thread.join(5)
        atexit.unregister(self.close)

    # -- the arm -----------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Up to when the physics were stepped."""
        return self._time

    def steer(self, pose: Pose, grip: float) -> None:
        """Go to `pose` of the gripper site in the world from now on; grip -1 open, +1 closed."""
        with self.lock:
            self._goal = (pose, float(np.clip(grip, -1, 1)))
            controller = self.env.env.robots[0].controller
            controller.initial_joint = self._posture
            controller.kp, controller.kd = self._gains

    def rest(self) -> None:
        """Stay where the arm is, as it was told to hold the gripper."""
        with self.lock:
            grip = -1.0 if self._goal is None else self._goal[1]
            self._goal = (self.pose, grip)
            controller = self.env.env.robots[0].controller
            # the controller pulls a redundant arm to a posture of its own: at rest that is the one it has
            controller.initial_joint = self.joints[0]
            # and it is a soft spring, where an arm that stops is stiff
            controller.kp, controller.kd = 4 * self._gains[0], 2 * self._gains[1]

    @property
    def pose(self) -> Pose:
        """Of the gripper site in the world."""
        with self.lock:
            # after a step the poses are those before its last integration
            self._kinematics()
            position, rotation = self.env.eef
            return Pose(position, rotation)

    @property
    def joints(self) -> tuple[Array, Array]:
        """(rad, rad/s) of the arm."""
        with self.lock:
            robot = self.env.env.robots[0]
            data = self.env.data
            return (
                np.array(data.qpos[robot._ref_joint_pos_indexes]),
                np.array(data.qvel[robot._ref_joint_vel_indexes]),
            )

    @property
    def opening(self) -> float:
        """Between the fingers, metres."""
        with self.lock:
            fingers = np.array(self.env.data.qpos[self.env._fingers])
        if self.arm == "panda":
            return float(fingers[0] - fingers[1])
        # Robotiq 85: the driving knuckle turns by 0.8 rad from open to closed
        return float(np.clip(1 - fingers[0] / 0.8, 0, 1) * self.gripper_range[1])

    def objects(self) -> Mapping[str, Any]:
        """<object>_pos (3), <object>_quat (4) xyzw of the objects of the task, in the world."""
        with self.lock:
            seen = self.env.observe()
        return {key: value for key, value in seen.items() if not key.startswith("robot0_")}

    def look(self) -> Mapping[str, Any]:
        """Observations of all cameras at this moment."""
        return self.in_thread(self._look)

    def _look(self) -> Mapping[str, Any]:
        with self.lock:
            sight = self.env._sight
            if sight is None:
                raise RobotError("this world was made without perception; it has no cameras")
            self._kinematics()
            return sight.look(self.env.model, self.env.data)

    def picture(self) -> Any:
        """(256, 256, 3) of the task's camera, for people; drawn from a copy of the state, so that nothing waits."""
        return self._painter.submit(self._paint).result(timeout=60)

    def _paint(self) -> Any:
        # always the same thread and a size of its own: a drawing context belongs to one thread and one size
        with self.lock:
            model, positions = self.env.model, self.env.data.qpos.copy()
        if self._camera is None or self._camera.model is not model:
            if self._camera is not None:
                self._camera.close()
            self._camera, self._shown = Camera(model, 256, 256), load_mujoco().MjData(model)
        self._shown.qpos[:] = positions
        load_mujoco().mj_kinematics(model, self._shown)
        return self._camera.picture(self._shown, self.env.task.camera)

    def _close_camera(self) -> None:
        if self._camera is not None:
            self._camera.close()

    def _kinematics(self) -> None:
        load_mujoco().mj_kinematics(self.env.model, self.env.data)
