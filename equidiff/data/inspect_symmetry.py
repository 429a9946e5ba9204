"""Does the assumption of the method hold in these demonstrations? Numbers, and a verdict in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.data.inspect_circle import Angles, Centre, Spread, angles, best_centre, spread
from equidiff.data.inspect_poses import GRIPPER, DemoPoses, heading
from equidiff.data.inspect_views import CameraView

__all__ = ["ActionSymmetry", "StartSymmetry", "SymmetryReport", "symmetry_report"]

_FEW = 8  # demonstrations below which nothing is said about evenness
_FIXED = 0.03  # metres: a start that varies less says nothing about the other sides and is called fixed
_TURN_FIXED = 0.05  # radians


@dataclass(frozen=True)
class StartSymmetry:
    """Start poses of one thing about the configured centre. points, yaws: for drawing, rows as demonstrations.

    around: directions as seen from the centre. yaw: headings modulo 2 pi / fold. offset: distance of their mean from
    the centre in units of their root mean square distance from it, 0 balanced to 1 one place. fixed: does not vary.
    slope: angle in degrees between the horizontal and the plane fitted to the start positions, with its standard error.
    """

    name: str
    fold: int
    n: int
    around: Angles
    spread: Spread
    offset: float
    fixed: bool
    yaw: Angles | None
    yaw_fixed: bool
    slope: tuple[float, float] | None
    points: NDArray[np.float64] = dataclasses.field(repr=False)
    yaws: NDArray[np.float64] | None = dataclasses.field(repr=False)


@dataclass(frozen=True)
class ActionSymmetry:
    """Horizontal motion commands. resultants: |sum of length * exp(i k phi)| / sum of length over all steps, k = 1..4.

    ratio: sqrt of smallest / largest eigenvalue of the steps' second moments, with its 95 % bootstrap interval over
    demonstrations. axis: of the larger one, radians. net: directions of the net motion, one per demonstration.
    """

    resultants: tuple[float, ...]
    ratio: float
    interval: tuple[float, float]
    axis: float
    net: Angles


@dataclass(frozen=True)
class SymmetryReport:
    """verdict: `holds`, `partly`, `does not hold` or `too few to say`; words: the sentences that say why."""

    centre: tuple[float, float]
    starts: tuple[StartSymmetry, ...]
    actions: ActionSymmetry | None
    best: Centre | None
    cameras: tuple[CameraView, ...]
    verdict: str
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For inspect.json: without the single points."""
        tree = dataclasses.asdict(self)
        for start in tree["starts"]:
            del start["points"], start["yaws"]
        return tree


def symmetry_report(
    poses: Sequence[DemoPoses],
    centre: tuple[float, float],
    folds: Mapping[str, int] | None = None,
    cameras: Sequence[CameraView] = (),
    seed: int = 0,
) -> SymmetryReport:
    """Statistics of start states and actions about `centre`. folds: {object: n} as in configs/task, 1 where unknown."""
    names = sorted({name for p in poses for name in p.start}, key=lambda name: (name != GRIPPER, name))
    starts = [s for name in names if (s := _start(name, poses, centre, (folds or {}).get(name, 1))) is not None]
    actions = _actions(poses, seed)
    moving = {s.name: s.points for s in starts if not s.fixed}
    best = best_centre(moving, centre, seed=seed)
    from equidiff.data.inspect_words import judge  # it reads the classes above

    verdict, words = judge(starts, actions, best, cameras, centre)
    return SymmetryReport(centre, tuple(starts), actions, best, tuple(cameras), verdict, tuple(words))


def _start(name: str, poses: Sequence[DemoPoses], centre: tuple[float, float], fold: int) -> StartSymmetry | None:
    missing = np.full(3, np.nan)
    points = np.stack([p.start.get(name, missing) for p in poses])
    here = np.isfinite(points).all(1)
    if not here.any():
        return None
    xy = points[here, :2] - np.asarray(centre)
    size = float(np.sqrt((xy**2).sum(1).mean()))
    offset = float(np.linalg.norm(xy.mean(0))) / size if size > 0 else 0.0
    moments = spread(xy)
    frames = np.stack([p.frame.get(name, np.full((3, 3), np.nan)) for p in poses])
    turned = np.isfinite(frames).all((1, 2)) & here
    yaws = yaw = None
    if turned.any():
        yaws = np.full(len(poses), np.nan)
        yaws[turned] = heading(frames[turned])
        yaw = angles(yaws[turned], fold)
    return StartSymmetry(
        name,
        fold,
        int(here.sum()),
        angles(np.arctan2(xy[:, 1], xy[:, 0])),
        moments,
        offset,
        moments.deviation < _FIXED,
        yaw,
        yaw is not None and yaw.resultants[0] > math.cos(fold * _TURN_FIXED),
        _slope(points[here]),
        points[:, :2],
        yaws,
    )


def _slope(points: NDArray[np.float64]) -> tuple[float, float] | None:
    """(degrees, standard error) of the plane z = a + b x + c y fitted to start positions; None if they do not tell."""
    n = len(points)
    if n < _FEW or spread(points[:, :2]).deviation < 0.02 or spread(points[:, :2]).ratio < 0.1:
        return None
    design = np.column_stack([np.ones(n), points[:, :2] - points[:, :2].mean(0)])
    solution, *_ = np.linalg.lstsq(design, points[:, 2], rcond=None)
    rest = points[:, 2] - design @ solution
    variance = float(rest @ rest) / (n - 3) * np.linalg.inv(design.T @ design)
    error = math.sqrt(float(np.trace(variance[1:, 1:])))
    return math.degrees(math.atan(float(np.linalg.norm(solution[1:])))), math.degrees(math.atan(error))


def _actions(poses: Sequence[DemoPoses], seed: int) -> ActionSymmetry | None:
    usable = [p for p in poses if p.moments is not None and p.travel is not None and p.headings is not None]
    moments = np.array([p.moments for p in usable])
    if not len(usable) or not moments.sum() > 0:
        return None
    travel = np.array([p.travel for p in usable])
    headings = np.array([p.headings for p in usable]).sum(0)
    ratio, axis = _ratio(moments.sum(0))
    generator = np.random.default_rng(seed)
    draws = [_ratio(moments[generator.integers(0, len(usable), len(usable))].sum(0))[0] for _ in range(500)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return ActionSymmetry(
        tuple(float(abs(h) / headings[0].real) for h in headings[1:]),
        ratio,
        (float(low), float(high)),
        axis,
        angles(np.arctan2(travel[:, 1], travel[:, 0])),
    )


def _ratio(moments: NDArray[np.float64]) -> tuple[float, float]:
    xx, xy, yy = moments
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    if values[1] <= 0:
        return 1.0, 0.0
    return math.sqrt(max(float(values[0]), 0.0) / float(values[1])), math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
