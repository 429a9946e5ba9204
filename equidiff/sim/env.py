"""`TaskEnv`: a robosuite task as a gymnasium environment with the observations of the state policies."""

from __future__ import annotations

import copy
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np

from equidiff.config import did_you_mean
from equidiff.perception import PerceptionSettings
from equidiff.sim import memory
from equidiff.sim.backend import (
    MIMICGEN_INSTALL,
    TASK_ZOO_INSTALL,
    SimulatorError,
    load_mujoco,
    load_package,
    load_robosuite,
)
from equidiff.sim.kinematics import matrix_to_quat, matrix_to_rotvec, rotation_z, solve_ik, yaw_of
from equidiff.sim.physics import goal_of, make_physics
from equidiff.sim.placement import sample_objects, sample_start
from equidiff.sim.render import Camera, RendererSettings
from equidiff.sim.sight import Sight
from equidiff.sim.task import Task

mujoco = load_mujoco()

__all__ = ["CONTROLS", "TaskEnv", "env_arguments", "make_env", "make_env_from_args", "seeded"]

CONTROLS = ("absolute", "relative")
_POINTING_DOWN = np.diag([1.0, -1.0, -1.0])
_OUT_OF_SIGHT = (0.0, 0.0, -2.0)  # below the floor
_CONTROLLER = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}


def env_arguments(task: Task, control: str = "relative") -> dict[str, Any]:
    """robomimic's `env_args` of a task: {"env_name", "env_version", "type", "env_kwargs"}."""
    if control not in CONTROLS:
        raise ValueError(
            f"control: expected 'absolute' or 'relative', got {control!r}{did_you_mean(control, CONTROLS)}"
        )
    return {
        "env_name": task.env,
        "env_version": load_robosuite().__version__,
        "type": 1,
        "env_kwargs": {
            "robots": ["Panda"],
            "controller_configs": {**_CONTROLLER, "control_delta": control == "relative"},
            "control_freq": task.control_hz,
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "use_camera_obs": False,
            "use_object_obs": False,
            "ignore_done": True,
            "reward_shaping": False,
        },
    }


def make_env(
    task: Mapping[str, Any] | Task,
    control: str = "absolute",
    physics: str = "fast",
    perception: PerceptionSettings | None = None,
    renderer: RendererSettings | None = None,
) -> TaskEnv:
    """Environment of a task config; with `perception` it sees as well. Raises ConfigError or SimulatorError."""
    described = task if isinstance(task, Task) else Task.from_config(task)
    return TaskEnv(described, env_arguments(described, control), physics, perception, renderer)


def make_env_from_args(
    env_args: Mapping[str, Any],
    task: Mapping[str, Any] | Task,
    control: str | None = None,
    physics: str = "fast",
    perception: PerceptionSettings | None = None,
    renderer: RendererSettings | None = None,
) -> TaskEnv:
    """Environment of a data set's `env_args`; the task says which objects are observed.

    control: None keeps the data set's. Placement and start pose are those of the environment itself.
    """
    described = task if isinstance(task, Task) else Task.from_config(task)
    arguments = copy.deepcopy(dict(env_args))
    kwargs = arguments["env_kwargs"]
    kwargs.update(has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False, use_object_obs=False)
    for name in [n for n in kwargs if n.startswith("camera_")]:
        del kwargs[name]
    if control is not None:
        kwargs["controller_configs"]["control_delta"] = control == "relative"
    return TaskEnv(described, arguments, physics, perception, renderer)


class TaskEnv(gymnasium.Env):
    """Observations of poses, actions of 7 values, success in `info`. `rest_yaw`: gripper's in the standard pose.

    Observations (float32, world frame, metres, quaternions xyzw): robot0_eef_pos (3),
    robot0_eef_quat_site (4), robot0_gripper_qpos (2), and <object>_pos (3), <object>_quat (4) of every
    object of the task; and what `perception` asks for (PerceptionSettings.shapes), unless `blind` is set,
    because looking takes time. They are those of the state in which the next action starts.
    Action (7): target position, rotation vector and gripper (-1 open, +1 closed), or relative deltas in
    [-1, 1] for control "relative". `reset(seed=s)` gives the same episode for the same s.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(
        self,
        task: Task,
        env_args: Mapping[str, Any],
        physics: str = "fast",
        perception: PerceptionSettings | None = None,
        renderer: RendererSettings | None = None,
    ) -> None:
        robosuite = load_robosuite()
        load_package(task.package)
        from robosuite.environments.base import REGISTERED_ENVS

        name = env_args["env_name"]
        if name not in REGISTERED_ENVS:
            raise SimulatorError(
                f"task {task.name}: no environment {name!r} with task.package={task.package}"
                f"{did_you_mean(name, REGISTERED_ENVS)}"
            )
        self.task, self.env_args, self.physics_kind = task, copy.deepcopy(dict(env_args)), physics
        self.control = "relative" if env_args["env_kwargs"]["controller_configs"]["control_delta"] else "absolute"
        # robosuite_task_zoo cannot be built without the object observations that we do not use
        kwargs = {**env_args["env_kwargs"], "use_object_obs": task.package == "robosuite_task_zoo"}
        with seeded(0):  # sizes that some tasks draw when they are built
            # placed by us: the model is compiled once; else the task rebuilds it at every reset
            try:
                self.env = robosuite.make(name, **kwargs, hard_reset=task.placement is None)
            except FileNotFoundError as error:
                both = f"{MIMICGEN_INSTALL} && {TASK_ZOO_INSTALL}"
                installs = {"mimicgen": MIMICGEN_INSTALL, "robosuite_task_zoo": both}
                install = installs.get(task.package, "pip install robosuite==1.4.1")
                raise SimulatorError(
                    f"task {task.name}: a file of its models is missing ({error.filename}); the set-up of its package "
                    f"leaves files out. Install it whole: {install}"
                ) from error
        self._cameras: dict[tuple[int, int], Camera] = {}
        self.blind = False
        self._sight = None if perception is None else Sight(perception, renderer or RendererSettings())
        self._bind()
        self.rest_yaw = 0.0
        self.observation_space = gymnasium.spaces.Dict({key: _box(value) for key, value in self.observe().items()})
        high = np.full(7, np.inf if self.control == "absolute" else 1.0, np.float32)
        self.action_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)

    # -- gymnasium ---------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; the seed decides everything random in it."""
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        with seeded(seed):
            self.env.reset()
        self._bind()
        rng = np.random.default_rng(seed)
        mujoco.mj_kinematics(self.model, self.data)
        self.rest_yaw = yaw_of(self.eef[1])
        if self.task.placement is not None:
            for name, (x, y, yaw) in sample_objects(self.task, rng).items():
                self._place(name, x, y, yaw)
        if self.task.start is not None:
            self._start(rng)
        self.data.qvel[:] = 0
        self._settle()
        return self.observe(), {"success": False, "seed": seed}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step (1 / control_hz seconds). Never terminates: success may be lost again."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"TaskEnv.step: expected 7 finite values, got shape {action.shape}: {action}")
        self.physics.advance(action)
        observation, success = self.observe(), self.success
        return observation, float(success), False, False, {"success": success}

    def render(self) -> np.ndarray:
        """Picture (256, 256, 3) of the task's camera."""
        return self.render_frame(self.task.camera, 256, 256)

    def close(self) -> None:
        """Free the GL contexts and the simulator."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras = {}
        if self._sight is not None:
            self._sight.close()
        self.env.close()

    # -- state -------------------------------------------------------------------------------------

    @property
    def success(self) -> bool:
        """Whether the task is solved in the current state."""
        memory.look(self.env)
        return bool(self.env._check_success())

    def ends_solved(self, states: np.ndarray) -> bool:
        """Whether an episode of these states (T, S) is solved in the last one; that state is set afterwards."""
        memory.forget(self.env)
        solved = False
        for state in states if memory.remembers(self.env) else states[-1:]:
            self.set_state(state)
            solved = self.success
        return solved

    @property
    def state(self) -> np.ndarray:
        """Flattened simulator state as robomimic stores it: time, positions, velocities."""
        return np.array(self.env.sim.get_state().flatten())

    def set_state(self, state: np.ndarray) -> None:
        """Put the simulator into a stored state."""
        self.env.sim.set_state_from_flattened(np.asarray(state))
        self._settle()

    def set_positions(self, state: np.ndarray) -> None:
        """Only what `observe` needs of `set_state`: the poses, without contacts and controller."""
        self.data.qpos[:] = np.asarray(state)[1 : 1 + self.model.nq]

    def load_model(self, model_xml: str) -> None:
        """Use a stored model (an episode's `model_file`) from now on, up to the next reset."""
        self.env.reset_from_xml_string(self.env.edit_model_xml(model_xml))
        self._bind()

    @property
    def model_xml(self) -> str:
        """The scene of this episode as XML, fixed objects at their places."""
        # get_xml() of a compiled model is global in MuJoCo (the last one compiled): use the source tree
        root = ElementTree.fromstring(self.env.model.get_xml())
        moved = {thing.body for name, thing in self.task.objects.items() if self._joints[name] is None}
        for element in root.iter("body"):
            if element.get("name") in moved | set(self.task.removed):
                body = self.env.sim.model.body_name2id(element.get("name"))
                element.set("pos", " ".join(map(str, self.model.body_pos[body])))
                element.set("quat", " ".join(map(str, self.model.body_quat[body])))
        return ElementTree.tostring(root, encoding="unicode")

    def observe(self) -> dict[str, np.ndarray]:
        """Observation of the current state."""
        # after a step the poses are those before its last integration; bring them up to date
        mujoco.mj_kinematics(self.model, self.data)
        memory.show(self.env)
        position, rotation = self.eef
        out = {
            "robot0_eef_pos": position,
            "robot0_eef_quat_site": matrix_to_quat(rotation),
            "robot0_gripper_qpos": self.data.qpos[self._fingers],
        }
        for name in self.task.objects:
            out[f"{name}_pos"], matrix = self.pose(name)
            out[f"{name}_quat"] = matrix_to_quat(matrix)
        observation = {key: np.asarray(value, dtype=np.float32) for key, value in out.items()}
        if self._sight is not None and not self.blind:
            observation |= self._sight.look(self.model, self.data)
        return observation

    @property
    def eef(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) and rotation (3, 3) of the gripper site."""
        return np.array(self.data.site_xpos[self._site]), np.array(self.data.site_xmat[self._site]).reshape(3, 3)

    def pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) and rotation (3, 3) of an object of the task."""
        body = self._bodies[name]
        return np.array(self.data.xpos[body]), np.array(self.data.xmat[body]).reshape(3, 3)

    @property
    def goal(self) -> tuple[np.ndarray, np.ndarray]:
        """The pose that the last action asked for, position (3,) and rotation (3, 3)."""
        return goal_of(self.env)

    def relative_action(self, position: np.ndarray, rotation: np.ndarray, grip: float) -> np.ndarray:
        """The OSC_POSE delta (7,), cut to [-1, 1], that asks for this target from the current pose."""
        here, turned = self.eef
        limit = np.asarray(self.env.robots[0].controller.output_max)
        delta = np.concatenate([position - here, matrix_to_rotvec(rotation @ turned.T)]) / limit
        return np.concatenate([np.clip(delta, -1, 1), [grip]])

    def render_frame(self, camera: str, width: int, height: int) -> np.ndarray:
        """Picture (height, width, 3), uint8, of the current state."""
        key = (width, height)
        if key not in self._cameras or self._cameras[key].model is not self.model:
            if key in self._cameras:
                self._cameras[key].close()
            self._cameras[key] = Camera(self.model, width, height)
        return self._cameras[key].picture(self.data, camera)

    # -- reset -------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Look up what a reset may have replaced."""
        env = self.env
        self.model, self.data = env.sim.model._model, env.sim.data._data
        robot = env.robots[0]
        self._site = robot.eef_site_id
        self._fingers = list(robot._ref_gripper_joint_pos_indexes)
        self._bodies, self._joints = {}, {}
        for name, thing in self.task.objects.items():
            known = env.sim.model.body_names
            if thing.body not in known:
                raise SimulatorError(
                    f"task.objects.{name}.body: {self.task.env} has no body {thing.body!r}"
                    + did_you_mean(thing.body, known)
                )
            body = env.sim.model.body_name2id(thing.body)
            joint = int(self.model.body_jntadr[body])
            free = joint >= 0 and self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
            self._bodies[name] = body
            self._joints[name] = int(self.model.jnt_qposadr[joint]) if free else None
        for name in self.task.removed:
            self.model.body_pos[env.sim.model.body_name2id(name)] = _OUT_OF_SIGHT
        self.physics = make_physics(env, self.physics_kind)

    def _place(self, name: str, x: float, y: float, yaw: float) -> None:
        """Put an object there, at the height it has; a fixed body is moved in the model."""
        wxyz = np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
        address, body = self._joints[name], self._bodies[name]
        if address is None:
            self.model.body_pos[body, :2], self.model.body_quat[body] = (x, y), wxyz
        else:
            self.data.qpos[address : address + 2] = (x, y)
            self.data.qpos[address + 3 : address + 7] = wxyz

    def _start(self, rng: np.random.Generator) -> None:
        assert self.task.start is not None
        robot = self.env.robots[0]
        joints, velocities = np.array(robot._ref_joint_pos_indexes), np.array(robot._ref_joint_vel_indexes)
        rest = self.data.qpos[joints].copy()
        for _ in range(20):
            position, yaw = sample_start(self.task.start, self.task, rng)
            self.data.qpos[joints] = rest
            target = rotation_z(self.rest_yaw + yaw) @ _POINTING_DOWN
            if solve_ik(self.model, self.data, self._site, joints, velocities, position, target):
                return
        raise SimulatorError(f"task {self.task.name}: no start pose within task.start can be reached by the arm")

    def _settle(self) -> None:
        """Bring everything up to date with the state; the controller's goal is where the gripper is."""
        mujoco.mj_forward(self.model, self.data)
        controller = self.env.robots[0].controller
        controller.update(force=True)
        controller.reset_goal()


class seeded:
    """robosuite draws from the global generators: seed them, and give them back as they were."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.numpy, self.python = np.random.get_state(), random.getstate()  # noqa: NPY002
        np.random.seed(self.seed)  # noqa: NPY002
        random.seed(self.seed)

    def __exit__(self, *details: object) -> None:
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


def _box(value: np.ndarray) -> gymnasium.spaces.Box:
    """The range of an observation like this one."""
    if value.dtype.kind == "u":
        return gymnasium.spaces.Box(0, np.iinfo(value.dtype).max, value.shape, value.dtype.type)
    return gymnasium.spaces.Box(-np.inf, np.inf, value.shape, np.float32)
