"""Actions of OSC_POSE from relative to absolute and back, as robosuite's controller reads them.

Relative (7): displacement and rotation vector in the world frame, in units of `output_max` and cut to [-1, 1], from
the gripper's pose when the action starts; gripper. Absolute (7): target position in metres, rotation vector in
radians, gripper; world frame. The controller steers to the same goal either way, so the conversion needs the poses
at which the actions start, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from equidiff.config import did_you_mean
from equidiff.data.episode import DataError
from equidiff.sim.backend import load_mujoco
from equidiff.sim.env import TaskEnv
from equidiff.sim.kinematics import matrix_to_rotvec, rotvec_to_matrix

mujoco = load_mujoco()

__all__ = ["Relative", "absolute_targets", "actions_of", "full_action", "poses_of_states", "relative_deltas"]

_ROUNDING = 1e-6  # of a full action: cutting less than this changes nothing
_LEAST_TURN = 1e-9  # a turn of exactly zero would keep the orientation that was asked for before


@dataclass(frozen=True)
class Relative:
    """Relative actions (T, 7); `clipped` (T,) bool: at which steps the target is further than one action reaches."""

    actions: np.ndarray
    clipped: np.ndarray


def absolute_targets(
    actions: np.ndarray, positions: np.ndarray, rotations: np.ndarray, output_max: np.ndarray
) -> np.ndarray:
    """(T, 7) absolute targets of relative OSC_POSE actions (T, 7), as robosuite's controller forms them.

    positions (T, 3), rotations (T, 3, 3) of the gripper when the action starts; output_max (6,): metres
    and radians of a full action. A turn of exactly zero keeps the orientation that was asked for before.
    """
    out, kept = np.empty((len(actions), 7)), rotations[0]
    for t, action in enumerate(actions):
        delta = np.clip(action[:6], -1, 1) * output_max
        if np.abs(delta[3:]).max() > 0:
            kept = rotvec_to_matrix(delta[3:]) @ rotations[t]
        out[t] = np.concatenate([positions[t] + delta[:3], matrix_to_rotvec(kept), action[6:]])
    return out


def relative_deltas(
    targets: np.ndarray, positions: np.ndarray, rotations: np.ndarray, output_max: np.ndarray
) -> Relative:
    """The inverse: which OSC_POSE delta reaches each absolute target (T, 7) from the current pose.

    positions, rotations, output_max: see `absolute_targets`. A target further than one action reaches is cut, each
    of the six numbers on its own, as the controller would.
    """
    out, clipped = np.empty((len(targets), 7)), np.zeros(len(targets), dtype=bool)
    for t, target in enumerate(targets):
        turn = matrix_to_rotvec(rotvec_to_matrix(target[3:6]) @ rotations[t].T)
        delta = np.concatenate([target[:3] - positions[t], turn]) / output_max
        if not delta[3:].any():
            delta[3] = _LEAST_TURN
        clipped[t] = np.abs(delta).max() > 1 + _ROUNDING
        out[t] = np.concatenate([np.clip(delta, -1, 1), target[6:]])
    return Relative(out, clipped)


def poses_of_states(env: TaskEnv, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, 3) and rotations (T, 3, 3) of the gripper in stored states (T, S)."""
    positions, rotations = np.empty((len(states), 3)), np.empty((len(states), 3, 3))
    for t, state in enumerate(states):
        env.set_positions(state)
        mujoco.mj_kinematics(env.model, env.data)
        positions[t], rotations[t] = env.eef
    return positions, rotations


def full_action(env_args: Mapping[str, Any]) -> np.ndarray:
    """(6,) metres and radians of an action of 1, from a file's `env_args`. Raises DataError."""
    controller = env_args.get("env_kwargs", {}).get("controller_configs", {})
    if controller.get("type") != "OSC_POSE" or "output_max" not in controller:
        raise DataError(
            f"env_args: the controller is {controller.get('type')!r}; relative and absolute actions can be converted "
            "for OSC_POSE, whose settings (output_max) 'env_args' must have"
        )
    return np.broadcast_to(np.asarray(controller["output_max"], dtype=np.float64), (6,)).copy()


def actions_of(
    demo: h5py.Group, control: str, env: TaskEnv, where: str, *, derive: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Actions (T, 7) of a stored demonstration for a control, and which steps were cut (T,) bool.

    `actions` are of the file's own control (env_args), `actions_abs` absolute. Those of the other control are
    converted, with the poses of the stored states; derive: even if both are stored. Raises DataError.
    """
    own, other = env.control, "relative" if control == "absolute" else "absolute"
    stored = {own: _checked(demo, "actions", where)}
    if own == "relative" and "actions_abs" in demo:
        stored["absolute"] = _checked(demo, "actions_abs", where)
    if control in stored and not (derive and other in stored):
        return stored[control], np.zeros(len(stored[control]), dtype=bool)
    if "states" not in demo or len(demo["states"]) != len(stored[own]):
        raise DataError(f"{where}: has no states, one for each action; the gripper's poses are taken from them")
    positions, rotations = poses_of_states(env, np.asarray(demo["states"]))
    limits = full_action(env.env_args)
    if control == "absolute":
        made = absolute_targets(stored[other], positions, rotations, limits)
        return made, np.zeros(len(made), dtype=bool)
    relative = relative_deltas(stored[other], positions, rotations, limits)
    return relative.actions, relative.clipped


def _checked(demo: h5py.Group, key: str, where: str) -> np.ndarray:
    if key not in demo:
        raise DataError(f"{where}: has no {key!r}{did_you_mean(key, list(demo))}")
    actions = np.asarray(demo[key], dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1] != 7 or not len(actions) or not np.isfinite(actions).all():
        raise DataError(
            f"{where}: {key!r} has shape {actions.shape}, expected (T, 7) finite numbers (one arm); repair or drop it"
        )
    return actions
