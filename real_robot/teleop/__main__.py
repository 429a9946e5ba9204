"""Move an arm by hand and record demonstrations that training reads as they are.

    python -m real_robot.teleop output=demos.hdf5                            # a simulated arm, keys of the terminal
    python -m real_robot.teleop output=demos.hdf5 robot=ur5e robot.address=192.168.1.10 operator=spacemouse
    python -m real_robot.teleop output=demos.hdf5 robot=ur5e robot.address=192.168.1.10 mode=replay episode=3
    python -m real_robot.teleop output=demos.hdf5 mode=list
    python -m real_robot.teleop output=demos.hdf5 mode=relabel success=false               # the last episode
    python -m real_robot.teleop output=demos.hdf5 mode=delete                              # the last episode
    python -m real_robot.teleop output=demos.hdf5 mode=finish                    # join what a killed session left

The arm moves only while the dead-man switch is held. An episode begins with the first motion after the switch was
pressed; success, failure or discard ends it, end ends the session (docs/teleoperation.md: keys, devices, the file).
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.config import build, did_you_mean
from equidiff.hydra_app import run_app
from real_robot.contract import DeviceError
from real_robot.operator.contract import OperatorInput
from real_robot.safety import GateError, LimitsError
from real_robot.teleop import parts as hardware
from real_robot.teleop.env_args import env_arguments
from real_robot.teleop.errors import TeleopError
from real_robot.teleop.loop import End, Loop, LoopSettings
from real_robot.teleop.pictures import Pictures
from real_robot.teleop.pilot import Pilot, PilotSettings
from real_robot.teleop.playback import Playback, read_actions
from real_robot.teleop.recorder import Recorder, RecorderSettings
from real_robot.teleop.session import Session
from real_robot.teleop.sight import calibrated
from real_robot.teleop.store import EpisodeStore, list_episodes, open_store
from real_robot.world import World

MODES = ("record", "replay", "list", "relabel", "delete", "finish")


def main(config: DictConfig) -> int:
    """As `config` says; the exit code: 0, or 1 after an emergency stop."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(config)
    except (TeleopError, DeviceError, GateError, LimitsError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # on the way out the arm is stopped and the episodes are joined


def _run(config: DictConfig) -> int:
    path, mode = Path(config.output), str(config.mode)
    if mode not in MODES:
        raise TeleopError(f"mode={mode}: expected one of {', '.join(MODES)}{did_you_mean(mode, MODES)}")
    if mode == "record":
        return _record(config, path)
    if mode == "replay":
        return _replay(config, path)
    if mode == "list":
        _list(path)
        return 0
    store = open_store(path, float(config.valid_fraction))
    if mode == "relabel":
        store.relabel_last(None if config.success is None else bool(config.success))
    elif mode == "delete":
        print(f"deleted episode {store.delete_last().number}")
    if mode == "finish":
        store.finish()
    _list(path)
    return 0


def _list(path: Path) -> None:
    episodes = list_episodes(path)
    for one in episodes:
        label = {True: "success", False: "failure", None: "unlabelled"}[one.success]
        print(f"episode {one.number:4d}  {one.steps:5d} steps  {label}{'' if one.joined else '  (not joined yet)'}")
    print(f"{path}: {len(episodes)} episodes")


def _plain(node: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return dict(plain or {})


def _record(config: DictConfig, path: Path) -> int:
    # before the arm is touched, so that mistakes are told at once
    settings = RecorderSettings(control_hz=float(config.control_hz), **_plain(config.recorder))
    pilot_settings = PilotSettings(**_plain(config.pilot))
    print("loading ...", flush=True)
    made = hardware.build_parts(config)
    operator: OperatorInput = build(_plain(config.operator))
    with ExitStack() as stack:
        for device in made.devices:
            stack.enter_context(device)
        robot = made.robot
        features = {name: camera.features for name, camera in made.cameras.items()}
        size = None if config.picture_size is None else tuple(config.picture_size)
        sizes = ({} if size is None else dict.fromkeys(features, size)) | {
            name: tuple(one) for name, one in _plain(config.sizes).items()
        }
        pictures = Pictures(features, sizes, bool(config.depth))
        name = str(config.task_name or path.stem)
        env_args = env_arguments(name, robot.features, settings.control_hz, pictures.about())
        scene = calibrated(pictures, config.get("cameras"), robot.features)
        store = EpisodeStore(path, env_args, pictures.attributes(), float(config.valid_fraction))
        if store.episodes:
            print(f"{path}: goes on after {len(store.episodes)} episodes")
        perceive, on_gripper = (pictures.observe, ()) if scene is None else (scene.observe, scene.needs_tool)
        recorder = Recorder(robot.features, made.cameras, perceive, settings, on_gripper)
        pilot = Pilot(pilot_settings, robot.features.gripper)
        gate = made.make_gate(robot)
        stack.enter_context(operator)
        session = stack.enter_context(Session(recorder, store))
        end = Loop(robot, gate, operator, made.clock, pilot, [session], LoopSettings(stale=float(config.stale))).run()
        print(end.value)
    return int(end is End.STOP)


def _replay(config: DictConfig, path: Path) -> int:
    recorded = read_actions(path, config.episode)
    made = hardware.build_parts(config)
    operator: OperatorInput = build(_plain(config.operator))
    with ExitStack() as stack:
        stack.enter_context(made.robot)
        robot = made.robot
        node = _plain(config.replay)
        source = Playback(recorded, World.of(robot.features), tuple(node["approach"]), tuple(node["near"]))
        gate = made.make_gate(robot)
        stack.enter_context(operator)
        print(f"{len(recorded.actions)} steps; hold the dead-man switch, a release ends the replay")
        settings = LoopSettings(stale=float(config.stale), release_ends=True)
        end = Loop(robot, gate, operator, made.clock, source, [], settings).run()
        print(end.value)
    return int(end is End.STOP)


if __name__ == "__main__":
    run_app(main, "teleop", __doc__)
