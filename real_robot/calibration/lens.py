"""`Lens`: intrinsics and distortion of a camera, given or calibrated.

Everywhere in this project a pixel's corner is at whole numbers, its middle at + 0.5, as in equidiff.perception. OpenCV
has the middle at whole numbers; the two matrices differ by half a pixel in the principal point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from real_robot.calibration.board import BoardView, CalibrationError, _opencv
from real_robot.poses import exp_map
from real_robot.types import Array

__all__ = ["Lens", "calibrate_lens"]

_TILT = 20.0  # degrees


@dataclass(frozen=True, eq=False)
class Lens:
    """matrix (3, 3) in pixels, a pixel's corner at 0. distortion: OpenCV's k1, k2, p1, p2, k3 ..., may be empty.

    errors: from calibration: reprojection_px (rms), and one standard deviation of focal_px and centre_px; empty if the
    matrix was given.
    """

    matrix: Array
    width: int
    height: int
    distortion: Array = field(default_factory=lambda: np.zeros(0))
    errors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        m = np.asarray(self.matrix, np.float64)
        d = np.asarray(self.distortion, np.float64)
        good = m.shape == (3, 3) and np.isfinite(m).all() and min(m[0, 0], m[1, 1]) > 0
        if not good or d.ndim != 1 or d.size not in (0, 4, 5, 8, 12, 14) or not np.isfinite(d).all():
            raise CalibrationError(
                f"lens: expected a matrix ((fx, 0, cx), (0, fy, cy), (0, 0, 1)) in pixels and 0, 4, 5, 8, 12 or 14 "
                f"coefficients of distortion, got {m.tolist()} and {d.tolist()}"
            )
        object.__setattr__(self, "matrix", m)
        object.__setattr__(self, "distortion", d)

    @property
    def opencv(self) -> tuple[Array, Array]:
        """Matrix and distortion as OpenCV wants them."""
        matrix = self.matrix.copy()
        matrix[:2, 2] -= 0.5
        return matrix, self.distortion if self.distortion.size else np.zeros(5)

    @property
    def straight(self) -> bool:
        """Whether there is no distortion."""
        return not np.abs(self.distortion).max(initial=0.0) > 1e-9

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (n, 3) along the camera's axes, metres -> (n, 2) pixels, as OpenCV counts them."""
        matrix, distortion = self.opencv
        out: NDArray[np.float64] = (
            _opencv()
            .projectPoints(
                np.asarray(points, np.float64).reshape(-1, 1, 3), np.zeros(3), np.zeros(3), matrix, distortion
            )[0]
            .reshape(-1, 2)
        )
        return out

    def to_json(self) -> dict[str, Any]:
        """A JSON tree."""
        return {
            "matrix": self.matrix.tolist(),
            "width": self.width,
            "height": self.height,
            "distortion": self.distortion.tolist(),
            "errors": dict(self.errors),
        }


def calibrate_lens(views: Sequence[BoardView], width: int, height: int) -> Lens:
    """Intrinsics and distortion (k1, k2, p1, p2) from at least 8 pictures of the board; Zhang's method in OpenCV.

    Raises CalibrationError for too few, and for pictures that do not determine the focal length, which is what views
    from one direction do.
    """
    if len(views) < 8:
        raise CalibrationError(f"lens: {len(views)} pictures show the board, at least 8 are needed; take more")
    cv2 = _opencv()
    rms, matrix, distortion, turns, _, deviations, _, _ = cv2.calibrateCameraExtended(
        [v.on_board for v in views],
        [v.in_picture.reshape(-1, 1, 2) for v in views],
        (width, height),
        None,
        None,
        flags=cv2.CALIB_FIX_K3,
    )
    fx, fy, cx, cy = deviations.ravel()[:4]
    focal, centre = float(max(fx, fy)), float(max(cx, cy))
    normals = np.stack([exp_map(turn.ravel())[:, 2] for turn in turns])
    tilt = float(np.degrees(np.arccos(np.clip((normals @ normals.T).min(), -1, 1))))
    # from views of one direction any focal length follows, with a small deviation, too
    if tilt < _TILT or not focal < 0.02 * matrix[0, 0]:
        raise CalibrationError(
            f"lens: the board is seen from directions {tilt:.0f} degrees apart, at least {_TILT:.0f} are needed, and "
            f"the focal length comes out as {matrix[0, 0]:.0f} +- {focal:.1f} pixels; tilt the board by 20 to 45 "
            "degrees in several directions, and fill the picture with it"
        )
    matrix[:2, 2] += 0.5
    errors = {"reprojection_px": float(rms), "focal_px": focal, "centre_px": centre}
    return Lens(matrix, width, height, np.asarray(distortion, np.float64).ravel()[:4], errors)
