"""`EpisodeStore`: a file of recorded episodes with labels; each is safe once it was added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from real_robot.teleop.errors import RecordingError
from real_robot.teleop.recorder import Demonstration

__all__ = ["EpisodeInfo", "EpisodeStore", "list_episodes", "open_store"]


@dataclass(frozen=True)
class EpisodeInfo:
    """number: counts recorded episodes, deleted ones too. success: None without a label. joined: whether it is in the
    file already, or beside it until the end of a session."""

    number: int
    steps: int
    success: bool | None
    joined: bool


class EpisodeStore:
    """Episodes in robomimic's layout at `path`, written by `DemoWriter`: a kill loses at most the one being added.

    While a session runs they lie one by one in .NAME.parts beside it; `finish` joins them and writes the masks:
    success, failure and unlabelled; train and valid, which name successes only. Whatever changes the file makes a
    new one and puts it in the place of the old. One process at a time: a second one is refused (DataError) until
    `close`.
    """

    def __init__(
        self,
        path: Path,
        env_args: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        valid_fraction: float = 0.0,
    ) -> None:
        self.path = path
        self._parts = path.parent / f".{path.name}.parts"
        self._valid_fraction = valid_fraction
        from equidiff.data import DemoWriter  # loads PyTorch, which a list of episodes can do without

        path.parent.mkdir(parents=True, exist_ok=True)
        self._new_writer = DemoWriter
        self._settings = (dict(env_args), dict(attrs or {}))
        self._writer = self._new_writer(path, *self._settings)

    def add(self, demo: Demonstration, success: bool | None) -> int:
        """Store an episode and return its number. Raises RecordingError when the disk does not take it."""
        number = max(self._writer.seeds_done, default=-1) + 1
        label = {} if success is None else {"success": success}
        size = sum(array.nbytes for array in (demo.actions, demo.actions_abs, *demo.obs.values()))
        try:
            self._writer.add(number, actions=demo.actions, actions_abs=demo.actions_abs, obs=demo.obs, attrs=label)
        except OSError as error:
            raise RecordingError(
                f"{self.path}: the episode under way ({len(demo)} steps, {size / 1e6:.0f} MB) could not be stored "
                f"({error.strerror or error}) and is lost; {len(self._writer.seeds_done)} episodes are safe. Make room"
            ) from error
        return number

    @property
    def episodes(self) -> list[EpisodeInfo]:
        """All that are safely stored, in the order of recording."""
        return list_episodes(self.path)

    def relabel_last(self, success: bool | None) -> EpisodeInfo:
        """Give the last episode another label."""
        from equidiff.data.whole_file import need_room, put_whole

        last = self._last()
        part = self._parts / f"{last.number}.hdf5"
        if part.exists():
            need_room(self.path.parent, part.stat().st_size)
            with put_whole(part) as temporary:
                shutil.copyfile(part, temporary)
                with h5py.File(temporary, "a") as file:
                    _label(file["demo"], success)
        else:
            self._finish({last.number: success})
        return self._last()

    def delete_last(self) -> EpisodeInfo:
        """Remove the last episode; returns what it was."""
        last = self._last()
        if last.joined and len(self.episodes) == 1:
            raise RecordingError(f"{self.path}: holds this episode alone; remove the file")
        self._writer.drop(last.number)
        if last.joined:
            self._finish({})
        return last

    def finish(self) -> Path | None:
        """Join what was recorded into the file; None when there is nothing. Raises RecordingError for a full disk."""
        if not self._writer.seeds_done:
            return None
        if not any(self._parts.glob("*.hdf5")):  # nothing new
            return self.path
        return self._finish({})

    def close(self) -> None:
        """Let another process change the file; what was added is safe. May be called twice."""
        self._writer.close()

    def _finish(self, labels: Mapping[int, bool | None]) -> Path:
        def edit(file: h5py.File) -> None:
            for demo in file["data"].values():
                if int(demo.attrs["seed"]) in labels:
                    _label(demo, labels[int(demo.attrs["seed"])])
            _write_masks(file, self._valid_fraction)

        try:
            path = self._writer.finish(edit=edit)
            self._writer = self._new_writer(self.path, *self._settings)  # which reads anew what the file holds
            return path
        except OSError as error:
            raise RecordingError(
                f"{self.path}: the episodes could not be joined ({error.strerror or error}); all are safe in "
                f"{self._parts}. Make room and run mode=finish"
            ) from error

    def _last(self) -> EpisodeInfo:
        episodes = self.episodes
        if not episodes:
            raise RecordingError(f"{self.path}: no episodes")
        return episodes[-1]


def _label(demo: h5py.Group, success: bool | None) -> None:
    if success is not None:
        demo.attrs["success"] = success
    elif "success" in demo.attrs:
        del demo.attrs["success"]


def _success(demo: h5py.Group) -> bool | None:
    label = demo.attrs.get("success")
    return None if label is None else bool(label)


def _write_masks(file: h5py.File, valid_fraction: float) -> None:
    from equidiff.data.writer import held_out

    names = sorted(file["data"], key=lambda name: int(file["data"][name].attrs["seed"]))
    groups: dict[str, list[str]] = {"success": [], "failure": [], "unlabelled": []}
    for name in names:
        groups[{True: "success", False: "failure", None: "unlabelled"}[_success(file["data"][name])]].append(name)
    good = groups["success"]
    split = len(good) - held_out(len(good), valid_fraction)
    groups["train"], groups["valid"] = good[:split], good[split:]
    if "mask" in file:
        del file["mask"]
    for mask, members in groups.items():
        if members or mask == "train":  # without the mask a trainer would take failures too
            file.create_dataset(f"mask/{mask}", data=np.array(members, dtype="S"))


def list_episodes(path: Path) -> list[EpisodeInfo]:
    """The episodes of a file and those that wait beside it, in the order of recording. Changes nothing."""
    found: dict[int, EpisodeInfo] = {}
    try:
        if path.exists():
            with h5py.File(path, "r") as file:
                for demo in file["data"].values():
                    found[int(demo.attrs["seed"])] = _info(demo, joined=True)
        for part in (path.parent / f".{path.name}.parts").glob("*.hdf5"):
            if part.stem.isdigit():
                with h5py.File(part, "r") as file:
                    found[int(part.stem)] = _info(file["demo"], joined=False)
    except (OSError, KeyError) as error:
        raise RecordingError(f"{path}: not a readable file of recorded episodes ({error})") from error
    return [found[number] for number in sorted(found)]


def _info(demo: h5py.Group, joined: bool) -> EpisodeInfo:
    return EpisodeInfo(int(demo.attrs["seed"]), int(demo.attrs["num_samples"]), _success(demo), joined)


def open_store(path: Path, valid_fraction: float = 0.0) -> EpisodeStore:
    """The store of a recording that is there already, with the settings it was made with. Raises RecordingError."""
    note = path.parent / f".{path.name}.parts" / "settings.json"
    try:
        if path.exists():
            with h5py.File(path, "r") as file:
                text = str(file["data"].attrs["settings"])
        else:
            text = note.read_text(encoding="utf-8")
        settings = json.loads(text)
        env_args, attrs = settings["env_args"], settings["attrs"]
    except (OSError, KeyError, ValueError) as error:
        raise RecordingError(f"{path}: no recording that this program made ({error})") from error
    return EpisodeStore(path, env_args, attrs, valid_fraction)
