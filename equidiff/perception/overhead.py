"""Whether cameras that are declared to look straight down at the workspace centre do so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equidiff.perception.settings import PerceptionError

__all__ = ["check_overhead"]

_TILT = math.radians(2.0)  # as well as a camera is mounted and calibrated
_OFFSET = 0.01  # metres


def check_overhead(arrays: Mapping[str, Any], poses: Mapping[str, ArrayLike], centre: tuple[float, float]) -> None:
    """Raise PerceptionError if a picture declared `overhead` is of a camera that is tilted or stands elsewhere.

    arrays: the pictures, grids and clouds that are observed, by name. poses: {camera: (4, 4) camera to world}, those
    that are known; others are taken at their word. centre: the workspace's (x, y). Allowed are 2 degrees and 1 cm.
    """
    for name, field in arrays.items():
        camera = name.removesuffix("_image").removesuffix("_depth")
        if not getattr(field, "overhead", False) or camera not in poses:
            continue
        pose = np.asarray(poses[camera], np.float64)
        tilt = math.acos(float(np.clip(-pose[2, 2], -1, 1)))
        offset = float(np.linalg.norm(pose[:2, 3] - centre))
        if tilt > _TILT or offset > _OFFSET:
            x, y = (round(float(v), 3) for v in pose[:2, 3])
            raise PerceptionError(
                f"observation {name!r}: declared overhead, but the camera is tilted by {math.degrees(tilt):.1f} "
                f"degrees and stands at ({x:g}, {y:g}), {offset:.3f} m from the workspace centre {tuple(centre)}, so "
                "its picture does not turn about the centre; set obs.fields.overhead=false, or take one that looks "
                "straight down there (obs=overhead_image)"
            )
