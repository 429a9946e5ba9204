"""Writing demonstrations so that a kill loses at most the episode under way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from equidiff.data.alone import clear_folder, lock_folder
from equidiff.data.episode import DataError
from equidiff.data.whole_file import need_room, put_whole, whole_file
from equidiff.results import write_json

__all__ = ["DemoWriter", "held_out"]


class DemoWriter:
    """Collects episodes and makes one file in robomimic's layout of them.

    Each episode is first a small file of its own in `.NAME.parts` beside `path`, put there by a rename,
    because a killed process leaves an open HDF5 file unreadable. `finish` joins them. A second writer
    with the same settings goes on where the first was killed, and also extends a finished file. Only one can be at
    work at `path`: from when it is made until `finish`, `close` or the end of a `with` block.

    env_args: stored as JSON. attrs: further attributes of 'data' (JSON values). Raises DataError if what is there was
    made with other settings, or another process is at work.
    """

    def __init__(
        self, path: str | os.PathLike[str], env_args: Mapping[str, Any], attrs: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self._parts = self.path.parent / f".{self.path.name}.parts"
        settings = {"env_args": dict(env_args), "attrs": dict(attrs or {})}
        self._settings = json.loads(json.dumps(settings))
        self._finished: dict[int, str] = {}
        self._facts: str | None = None
        self._note = self._parts / "settings.json"
        try:
            self._lock = lock_folder(self._parts)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error}); choose another path") from error
        try:
            if self.path.exists():
                self._finished = self._read_finished()
            if self._note.exists():
                self._same(json.loads(self._note.read_text()), str(self._parts))
        except BaseException:
            self.close()
            raise
        for left in self._parts.glob(".*.part"):  # an episode that was under way when a process died
            left.unlink()

    def __enter__(self) -> DemoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Episodes are on disk already; another writer may go on."""
        self.close()

    def close(self) -> None:
        """Let another writer work at `path`; may be called twice. What was added is kept for it."""
        if not self._lock.is_locked:
            return
        if not any(self._parts.glob("*.hdf5")):  # nothing to go on with
            clear_folder(self._parts)
        self._lock.release()

    @property
    def seeds_done(self) -> set[int]:
        """Seeds of the episodes that are safely stored."""
        return set(self._finished) | {int(p.stem) for p in self._parts.glob("*.hdf5")}

    def add(
        self,
        seed: int,
        states: ArrayLike | None = None,
        actions: ArrayLike | None = None,
        actions_abs: ArrayLike | None = None,
        obs: Mapping[str, ArrayLike] | None = None,
        model_file: str = "",
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the episode of `seed`: states (T, S), actions (T, 7), actions_abs (T, 7), obs {key: (T, *shape)}.

        Demonstrations that were not made here may have no states, and only one kind of actions. Whole numbers
        (pictures, grids) are compressed. attrs: further attributes of the episode (numbers, words).
        """
        self._at_work()
        given = {"states": states, "actions": actions, "actions_abs": actions_abs}
        arrays = {name: value for name, value in given.items() if value is not None}
        if not {"actions", "actions_abs"} & set(arrays):
            raise DataError(f"DemoWriter.add: seed {seed}: expected actions, actions_abs or both, got neither")
        arrays |= {f"obs/{key}": value for key, value in (obs or {}).items()}
        values = {name: np.asarray(value) for name, value in arrays.items()}
        lengths = {name: len(value) for name, value in values.items()}
        steps = next(iter(lengths.values()))
        if len(set(lengths.values())) != 1 or not steps:
            raise DataError(f"DemoWriter.add: seed {seed}: expected arrays of one length > 0, got {lengths}")
        for name, value in values.items():
            if not np.isfinite(value).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
                raise DataError(f"DemoWriter.add: seed {seed}: {name!r} is {value[index]} at index {index}")
        if not self._note.exists():
            write_json(self._note, self._settings)
        with whole_file(self._parts / f"{seed}.hdf5") as file:
            demo = file.create_group("demo")
            demo.attrs.update(attrs or {})
            for name, value in values.items():
                if value.dtype.kind in "ui" and value.ndim > 2:  # one step to a chunk, so that a step is read alone
                    chunks = (1, *value.shape[1:])
                    demo.create_dataset(name, data=value, chunks=chunks, compression="gzip", compression_opts=4)
                else:
                    demo.create_dataset(name, data=value)
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = model_file
            demo.attrs["seed"] = seed

    def drop(self, seed: int) -> None:
        """Leave out an episode: one that is in the finished file stays there until the next `finish`."""
        self._at_work()
        if seed not in self.seeds_done:
            raise DataError(f"{self.path}: no episode of seed {seed} to drop")
        self._finished.pop(seed, None)
        (self._parts / f"{seed}.hdf5").unlink(missing_ok=True)

    def finish(
        self,
        valid_fraction: float = 0.0,
        facts: Mapping[str, Any] | None = None,
        edit: Callable[[h5py.File], None] | None = None,
    ) -> Path:
        """Join all episodes, in the order of their seeds, to `path` and return it; the writer is then closed.

        valid_fraction: share of the episodes, the last ones, that mask/valid names; the others are in mask/train.
        facts: what to note about how they were made (JSON), as the attribute "generation"; None keeps what is there.
        edit: called with the joined file, open for writing, before it takes the place of the old one.
        """
        self._at_work()
        if not 0 <= valid_fraction < 1:
            raise DataError(f"DemoWriter.finish: expected 0 <= valid_fraction < 1, got {valid_fraction}")
        seeds = sorted(self.seeds_done)
        if not seeds:
            raise DataError(f"{self.path}: no episode was added, nothing to write")
        note = json.dumps(dict(facts)) if facts is not None else self._facts
        used = [self.path, *self._parts.glob("*.hdf5")]
        need_room(self.path.parent, sum(file.stat().st_size for file in used if file.exists()))
        with put_whole(self.path) as temporary:
            self._join(temporary, seeds, valid_fraction, note, edit)
        clear_folder(self._parts)
        self._lock.release()
        return self.path

    def _join(
        self,
        path: Path,
        seeds: list[int],
        valid_fraction: float,
        note: str | None,
        edit: Callable[[h5py.File], None] | None,
    ) -> None:
        with h5py.File(path, "w") as out:
            data = out.create_group("data")
            old = h5py.File(self.path, "r") if self._finished else None
            try:
                for i, seed in enumerate(seeds):
                    part = self._parts / f"{seed}.hdf5"
                    if part.exists():
                        with h5py.File(part, "r") as source:
                            source.copy("demo", data, name=f"demo_{i}")
                    elif old is not None:
                        old.copy(f"data/{self._finished[seed]}", data, name=f"demo_{i}")
            finally:
                if old is not None:
                    old.close()
            names = [f"demo_{i}" for i in range(len(seeds))]
            data.attrs["env_args"] = json.dumps(self._settings["env_args"])
            data.attrs["total"] = sum(int(data[n].attrs["num_samples"]) for n in names)
            for key, value in self._settings["attrs"].items():
                data.attrs[key] = json.dumps(value) if isinstance(value, dict | list) or value is None else value
            split = len(names) - held_out(len(names), valid_fraction)
            for mask, members in (("train", names[:split]), ("valid", names[split:])):
                if members:
                    out.create_dataset(f"mask/{mask}", data=np.array(members, dtype="S"))
            data.attrs["settings"] = json.dumps(self._settings)
            if note is not None:
                data.attrs["generation"] = note
            if edit is not None:
                edit(out)
            out.flush()  # an error on closing would be lost

    def _at_work(self) -> None:
        if not self._lock.is_locked:
            raise DataError(f"{self.path}: this writer is finished or closed; make another one to go on")

    def _read_finished(self) -> dict[int, str]:
        try:
            with h5py.File(self.path, "r") as file:
                data = file["data"]
                self._same(json.loads(data.attrs["settings"]), str(self.path))
                self._facts = data.attrs.get("generation")
                return {int(data[name].attrs["seed"]): name for name in data}
        except (OSError, KeyError) as error:
            raise DataError(
                f"{self.path}: exists but was not written by this program ({error}); choose another path"
            ) from error

    def _same(self, found: Any, where: str) -> None:
        if found == self._settings:
            return
        there, now = _leaves(found), _leaves(self._settings)
        differing = [
            f"{key}: {there.get(key)!r} there, {now.get(key)!r} now"
            for key in sorted(there.keys() | now.keys())
            if there.get(key) != now.get(key)
        ]
        raise DataError(
            f"{where}: made with other settings ({'; '.join(differing[:3])}). Remove it, or choose another path"
        )


def held_out(episodes: int, valid_fraction: float) -> int:
    """How many of so many episodes go into mask/valid: some, unless the fraction is 0, but never all."""
    count = min(round(valid_fraction * episodes), max(episodes - 1, 0))
    return max(count, 1) if valid_fraction and episodes > 1 else count


def _leaves(tree: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """{path of the keys, e.g. "attrs.source.mark": value}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return found
