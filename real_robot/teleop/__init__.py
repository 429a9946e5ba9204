"""Teleoperation, and recording of demonstrations that training reads as they are."""

from real_robot.teleop.env_args import env_arguments
from real_robot.teleop.errors import RecordingError, TeleopError
from real_robot.teleop.loop import End, Loop, LoopSettings, Tick
from real_robot.teleop.pictures import Pictures
from real_robot.teleop.pilot import Pilot, PilotSettings
from real_robot.teleop.playback import Playback, read_actions
from real_robot.teleop.recorder import Demonstration, Recorder, RecorderSettings
from real_robot.teleop.session import Session
from real_robot.teleop.store import EpisodeInfo, EpisodeStore, list_episodes, open_store
from real_robot.teleop.world import World

__all__ = [
    "Demonstration",
    "End",
    "EpisodeInfo",
    "EpisodeStore",
    "Loop",
    "LoopSettings",
    "Pictures",
    "Pilot",
    "PilotSettings",
    "Playback",
    "Recorder",
    "RecorderSettings",
    "RecordingError",
    "Session",
    "TeleopError",
    "Tick",
    "World",
    "env_arguments",
    "list_episodes",
    "open_store",
    "read_actions",
]
