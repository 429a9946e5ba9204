"""Demonstrations: reading, writing and cutting into windows."""

from equidiff.data.episode import DataError, Episode
from equidiff.data.robomimic import DemoFile, load_episodes
from equidiff.data.windows import WindowDataset, resting_action, split_episodes
from equidiff.data.writer import DemoWriter

__all__ = [
    "DataError",
    "DemoFile",
    "DemoWriter",
    "Episode",
    "WindowDataset",
    "load_episodes",
    "resting_action",
    "split_episodes",
]
