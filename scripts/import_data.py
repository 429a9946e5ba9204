"""Import a LeRobotDataset v3 or a diffusion_policy replay buffer (zarr) as a file to train on.

    python scripts/import_data.py data=path/to/dataset mapping=print > my_mapping.yaml    # a draft, to be checked
    python scripts/import_data.py data=path/to/dataset mapping=my_mapping.yaml out=outputs/data/mine.hdf5
    python scripts/import_data.py data=buffer.zarr.zip mapping=my_mapping.yaml valid_fraction=0.1

Writes the robomimic HDF5 layout; the dataset is not changed. The mapping file says which array is which field
(docs/formats.md; examples in configs/mapping). A dataset that scripts/export_data.py wrote carries its own mapping. A
call that was interrupted goes on where it stopped. Needs the extra `formats`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from equidiff.hydra_app import CONFIGS, run_app

MAPPINGS = CONFIGS / "mapping"


def main(config: DictConfig) -> None:
    from equidiff.data import DataError
    from equidiff.data.formats import import_dataset, open_dataset, read_mapping, suggest_mapping
    from equidiff.data.formats.lerobot_export import MAPPING_FILE

    data = Path(config.data.path)
    source = open_dataset(data, config.format)
    try:
        if config.mapping.path == "print":
            print(suggest_mapping(source), end="")
            return
        if config.mapping.path is None:
            path = data / MAPPING_FILE
            if not path.is_file():
                raise DataError(
                    f"{data}: carries no mapping; say which array is which field: mapping=FILE "
                    "(mapping=print drafts one)"
                )
        else:
            path = Path(config.mapping.path)
            named = MAPPINGS / f"{config.mapping.path}.yaml"
            path = named if not path.exists() and named.is_file() else path
        out = Path(config.out or f"outputs/data/{data.name.removesuffix('.zip').removesuffix('.zarr')}.hdf5")
        report = import_dataset(source, read_mapping(path), out, config.valid_fraction, config.n)
    finally:
        source.close()
    if report.unread:
        print(f"not read: {', '.join(report.unread)}", file=sys.stderr)
    held_out = f", {report.valid} of them in mask/valid" if report.valid else ""
    print(f"{report.path}: {report.episodes} demonstrations{held_out}, {report.steps} steps")


if __name__ == "__main__":
    run_app(main, "import_data", __doc__)
