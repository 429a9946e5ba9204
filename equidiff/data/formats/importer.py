"""A foreign dataset and a mapping -> a file in robomimic's layout, episode by episode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from equidiff.data.episode import DataError
from equidiff.data.formats.convert import check_mapping, convert_episode, unread
from equidiff.data.formats.foreign import ForeignDataset, writing
from equidiff.data.formats.mapping import Mapping
from equidiff.data.robomimic import DemoFile
from equidiff.data.writer import DemoWriter, held_out

__all__ = ["ImportReport", "import_dataset"]


@dataclass(frozen=True)
class ImportReport:
    """What the file holds, and what of the source was not read."""

    path: Path
    episodes: int
    steps: int
    valid: int
    unread: tuple[str, ...]


def import_dataset(
    source: ForeignDataset,
    mapping: Mapping,
    out: Path,
    valid_fraction: float | None = None,
    n: int | None = None,
    progress: bool = True,
) -> ImportReport:
    """Write the first `n` episodes (None: all) of `source` to `out`; a call that was killed goes on.

    An `out` that was imported from other content, or by another mapping, is refused.

    valid_fraction: share of the episodes, the last ones, in mask/valid; None: as the dataset says. Raises DataError.
    """
    check_mapping(mapping, source.features, str(source.where))
    if mapping.control_hz is None and source.hz is None:
        raise DataError(f"{source.where}: does not say its rate; give it in the mapping file: control_hz: ...")
    hz = float(mapping.control_hz or source.hz or 0)
    if source.hz is not None and abs(source.hz - hz) > 1e-6 * hz:
        raise DataError(
            f"{source.where}: was recorded at {source.hz:g} Hz, the mapping's control_hz is {hz:g}. Leave it "
            f"out of the mapping and train with task.control_hz={source.hz:g}, or record at {hz:g} Hz"
        )
    if n is not None and not 1 <= n <= len(source.lengths):
        raise DataError(f"n={n}: expected a number of episodes from 1 to {len(source.lengths)}")
    if out.suffix not in (".hdf5", ".h5"):
        raise DataError(f"out={out}: expected a file name that ends in .hdf5")
    count = n or len(source.lengths)
    if valid_fraction is None:
        valid_fraction = source.valid / count if n is None and 0 < source.valid < count else 0.0
    env_args = {"env_name": mapping.name, "type": None, "env_kwargs": {"control_freq": hz}}
    attrs = {"source": {**source.about, "episodes": count}, "mapping": mapping.to_json(), "control_hz": hz}
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(source, mapping, out, count, valid_fraction, DemoWriter(out, env_args, attrs), progress)
    with DemoFile(out) as file:
        steps = int(file.attributes["total"])
        return ImportReport(out, len(file.names), steps, _valid(file), tuple(unread(mapping, source.features)))


def _write(
    source: ForeignDataset,
    mapping: Mapping,
    out: Path,
    count: int,
    valid_fraction: float,
    writer: DemoWriter,
    progress: bool,
) -> None:
    with writer:
        left = [i for i in range(count) if i not in writer.seeds_done]
        for i in tqdm(left, desc="episodes", unit="episode", disable=not progress):
            at = f"{source.where}: episode {i}"
            arrays = source.read(i, mapping.sources)
            wrong = {key: len(a) for key, a in arrays.items() if len(a) != source.lengths[i]}
            if wrong:
                raise DataError(f"{at}: lengths differ: {wrong}, expected {source.lengths[i]}")
            obs, actions = convert_episode(mapping, arrays, source.features, at)
            writer.add(i, None, actions.get("actions"), actions.get("actions_abs"), obs)
        if left or not out.exists() or _held_out(out) != held_out(count, valid_fraction):
            writer.finish(valid_fraction)


def _held_out(path: Path) -> int:
    with DemoFile(path) as file:
        return _valid(file)


def _valid(file: DemoFile) -> int:
    return len(file.masks.get("valid", ()))
