"""Export demonstrations as a LeRobotDataset v3, which LeRobot and the Hugging Face hub read.

    python scripts/export_data.py data=outputs/demos/lift_100.hdf5 out=outputs/lerobot/lift instruction="lift the cube"
    python scripts/export_data.py data=demos.hdf5 images=png              # pictures without loss, larger
    python scripts/export_data.py data=demos.hdf5 control=relative keys='[robot0_eef_pos,agentview_image]'

State vectors become observation.state, colour pictures observation.images.<camera>, actions action, all with names.
Videos are compressed with loss; crf says how much. The folder also holds the mapping file that leads back
(scripts/import_data.py). The file is not changed. Needs the extra `formats`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    from equidiff.data.formats.lerobot_export import export_lerobot

    data = Path(config.data.path)
    report = export_lerobot(
        data,
        Path(config.out or f"outputs/lerobot/{data.stem}"),
        control=config.control,
        obs=None if config["keys"] is None else list(config["keys"]),
        images=config.images,
        codec=config.codec,
        crf=config.crf,
        task=config.instruction,
        robot_type=config.robot_type,
        control_hz=config.control_hz,
    )
    for key, reason in report.left_out.items():
        print(f"left out: {key} ({reason})", file=sys.stderr)
    print(f"{report.path}: {report.episodes} episodes, {report.steps} steps")


if __name__ == "__main__":
    run_app(main, "export_data", __doc__)
