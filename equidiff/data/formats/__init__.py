"""Other people's data: LeRobotDataset v3 and diffusion_policy's zarr in, LeRobotDataset v3 out."""

from equidiff.data.formats.importer import ImportReport, import_dataset
from equidiff.data.formats.mapping import Mapping, read_mapping
from equidiff.data.formats.opening import open_dataset
from equidiff.data.formats.suggest import suggest_mapping

__all__ = ["ImportReport", "Mapping", "import_dataset", "open_dataset", "read_mapping", "suggest_mapping"]
