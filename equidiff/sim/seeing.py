"""What a policy saw in training is what it must see in simulation: settings from the data, checked."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from equidiff.perception import PerceptionError, PerceptionSettings, check_overhead
from equidiff.sim.render import RendererSettings
from equidiff.spec import Spec

__all__ = ["sight_of"]


def sight_of(
    about: Mapping[str, Any] | None, spec: Spec, ignore_mismatch: bool = False
) -> tuple[PerceptionSettings | None, RendererSettings | None]:
    """Settings of perception and renderer for a policy with `spec`, trained on data described by `about`.

    about: the attribute `perception` of a data file, as a checkpoint keeps it. None for a policy that sees nothing but
    poses. Raises PerceptionError if the pictures would be others than those of the data: another renderer or version of
    it, another MuJoCo, other shapes, a camera declared overhead that is not; `ignore_mismatch` makes the first two
    warnings.
    """
    wanted = [
        key for key, source in spec.observation.sources.items() if key in spec.observation.arrays and source.shape
    ]
    if not wanted:
        return None, None
    if not about:
        raise PerceptionError(
            f"the policy sees {', '.join(wanted)}, but its data did not say how they were made; train it on a file of "
            "scripts/prepare_data.py"
        )
    settings: PerceptionSettings = PerceptionSettings.from_config(about["settings"], centre=spec.workspace.centre)
    for key in wanted:
        have, want = settings.shapes.get(key), spec.observation.sources[key].shape
        if have is None or tuple(have[0]) != tuple(want):
            raise PerceptionError(
                f"the policy sees {key} {tuple(want)}, the data's perception makes "
                f"{'no such array' if have is None else tuple(have[0])}; prepare the data with the settings of obs"
            )
    check_overhead(spec.observation.arrays, settings.own_poses, spec.workspace.centre)
    _same_renderer(about, ignore_mismatch)
    return settings, RendererSettings.from_config({**about["renderer"], "version": RendererSettings().version})


def _same_renderer(about: Mapping[str, Any], ignore: bool) -> None:
    found = {"renderer version": RendererSettings().version, "mujoco": metadata.version("mujoco")}
    stored = {
        "renderer version": about["renderer"].get("version"),
        "mujoco": about.get("versions", {}).get("mujoco"),
    }
    for name, value in found.items():
        if stored[name] != value:
            message = (
                f"{name}: the data was drawn with {stored[name]}, now it is {value}; pictures may differ. Install "
                "that version, prepare the data again, or accept it: ignore_mismatch=true"
            )
            if not ignore:
                raise PerceptionError(message)
            print(f"warning: {message}", file=sys.stderr)
    backend = os.environ.get("MUJOCO_GL", "")
    if about.get("gl") not in ("", None, backend) and backend:
        print(f"note: the data was drawn with MUJOCO_GL={about['gl']}, now it is {backend}", file=sys.stderr)
