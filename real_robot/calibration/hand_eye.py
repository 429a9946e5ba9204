"""Camera on the gripper, or camera beside the arm with the board on the gripper: where it is, and how sure that is.

Of a first guess by OpenCV's calibrateHandEye on few pictures at a time, the one on which most pictures agree is refined
by least squares on the corners in pixels, with Huber's weights. Errors are the jackknife's (Efron and Tibshirani 1993,
chapter 11): the result is found again without each picture in turn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from real_robot.calibration.board import BoardView, CalibrationError, _opencv
from real_robot.calibration.lens import Lens
from real_robot.poses import Pose, log_map
from real_robot.types import Array

__all__ = ["MIN_VIEWS", "MOUNTS", "HandEye", "solve_hand_eye"]

MOUNTS = ("hand", "base")
MIN_VIEWS = 6
_AGREE = 10.0  # pixels: what is further off never counts as agreement
_AXIS = math.radians(10)  # by how much the tool must turn about a second axis


@dataclass(frozen=True, eq=False)
class HandEye:
    """camera: of the camera in the tool's frame (mount "hand") or in the base's ("base"). board: of the board in the
    base's frame ("hand") or in the tool's ("base").

    reprojection_px: root mean square over all corners. rotation (rad) and translation (m): one standard error of the
    camera's pose by leaving out each picture in turn, all three axes together; board_rotation, board_translation the
    same of the board. views: {picture: rms px} of those used; left_out: of those that contradict the others.
    """

    mount: str
    camera: Pose
    board: Pose
    reprojection_px: float
    rotation: float
    translation: float
    board_rotation: float
    board_translation: float
    views: dict[str, float]
    left_out: dict[str, float]


def solve_hand_eye(views: Sequence[BoardView], tools: Sequence[Pose], lens: Lens, mount: str) -> HandEye:
    """views: of the board; tools: pose of the tool in the base's frame at each.

    Raises CalibrationError for too few pictures, for tool poses that do not determine the camera's, and when fewer
    than MIN_VIEWS pictures agree with each other.
    """
    if mount not in MOUNTS:
        raise CalibrationError(f"mount: expected {' or '.join(MOUNTS)}, got {mount!r}")
    if len(views) < MIN_VIEWS:
        raise CalibrationError(
            f"hand-eye: {len(views)} pictures show the board, at least {MIN_VIEWS} are needed (15 are good); take more"
        )
    check_poses(tools)
    problem = _Problem(views, tools, lens, mount)
    everything = list(range(len(views)))
    guess = problem.guess()
    kept = everything
    for turn in range(6):  # what contradicts is found again after each refinement
        x, z = problem.refine(*guess, kept)
        rms = problem.rms(x, z)
        limit = max(3.0, 4 * float(np.median(rms[kept])))
        again = [i for i in everything if rms[i] <= (min(limit, _AGREE) if turn else limit)]
        if again == kept and turn:
            break
        if len(again) < MIN_VIEWS:
            raise _disagree(views, rms)
        kept, guess = again, (x, z)
    check_poses([tools[i] for i in kept])
    parts = [problem.refine(x, z, [i for i in kept if i != left], 2) for left in kept]
    camera_error, board_error = (_jackknife([part[side] for part in parts], (x, z)[side]) for side in (0, 1))
    return HandEye(
        mount,
        x,
        z,
        float(np.sqrt(2 * np.average(problem.residuals(x, z) ** 2, weights=problem.chosen(kept)))),
        *camera_error,
        *board_error,
        {views[i].name: float(rms[i]) for i in kept},
        {views[i].name: float(rms[i]) for i in everything if i not in kept},
    )


def check_poses(tools: Sequence[Pose]) -> None:
    """CalibrationError unless the tool turns about two axes at least: else the camera's place along one is free."""
    turns = np.array([log_map(a.rotation.T @ b.rotation) for a, b in itertools.combinations(tools, 2)])
    # second largest turn that is left when the main axis is taken out
    _, _, axes = np.linalg.svd(turns, full_matrices=False)
    main, rest = np.abs(turns @ axes[0]).max(), np.linalg.norm(turns - np.outer(turns @ axes[0], axes[0]), axis=1).max()
    if main < _AXIS:
        raise CalibrationError(
            f"hand-eye: between all pictures the tool turns by no more than {math.degrees(main):.1f} degrees; turn it "
            "by 20 to 60 degrees, about different axes"
        )
    if rest < _AXIS:
        raise CalibrationError(
            f"hand-eye: the tool turns about one axis only, {axes[0].round(2).tolist()} of its own (about others by "
            f"{math.degrees(rest):.1f} degrees); the camera's place along it cannot be found: turn it by 20 degrees or "
            "more about another axis, too"
        )


class _Problem:
    def __init__(self, views: Sequence[BoardView], tools: Sequence[Pose], lens: Lens, mount: str) -> None:
        self.views, self.tools, self.lens, self.mount = views, tools, lens, mount
        # all corners of all pictures in one array: one call of OpenCV projects them
        self._of = np.concatenate([np.full(len(v.on_board), i) for i, v in enumerate(views)])
        self._on_board = np.concatenate([v.on_board for v in views]).astype(np.float64)
        self._in_picture = np.concatenate([v.in_picture for v in views]).astype(np.float64)
        self._arms = np.stack([(t.inverse() if mount == "hand" else t).matrix for t in tools])

    def residuals(self, x: Pose, z: Pose) -> Array:
        """(2 * corners,) pixels. A corner behind the camera counts as very far off."""
        seen = x.inverse().matrix @ self._arms @ z.matrix  # the board in the camera's frame, in each picture
        points = np.einsum("nij,nj->ni", seen[self._of, :3, :3], self._on_board) + seen[self._of, :3, 3]
        behind = points[:, 2] <= 1e-3
        points[behind] = [0, 0, 1]
        off = self.lens.project(points) - self._in_picture
        off[behind] = 1e4
        return off.ravel()

    def chosen(self, which: Sequence[int]) -> Array:
        """(2 * corners,): 1 for corners of those pictures, else 0."""
        return np.repeat(np.isin(self._of, which), 2).astype(np.float64)

    def rms(self, x: Pose, z: Pose) -> Array:
        """(n,) of each picture: root mean square distance of its corners, pixels."""
        square = (self.residuals(x, z).reshape(-1, 2) ** 2).sum(1)
        return np.sqrt(np.bincount(self._of, square) / np.bincount(self._of))

    def guess(self) -> tuple[Pose, Pose]:
        """The best of many guesses, each from a few pictures, by the median over all pictures."""
        boards = [self._alone(view) for view in self.views]
        n = len(self.views)
        random = np.random.default_rng(0)
        subsets = [list(range(n))] + [sorted(random.choice(n, min(4, n), replace=False).tolist()) for _ in range(80)]
        best: tuple[float, Pose, Pose] | None = None
        for subset in subsets:
            x = self._closed_form(subset, boards)
            if x is None:
                continue
            chain = [self.tools[i] @ x @ boards[i] if self.mount == "hand" else self.tools[i].inverse() @ x @ boards[i]
                     for i in subset]  # fmt: skip
            z = chain[0].towards(chain[-1], 0.5) if len(subset) < n else chain[0]
            score = float(np.median(self.rms(x, z)))
            if best is None or score < best[0]:
                best = score, x, z
        if best is None:
            raise CalibrationError(
                "hand-eye: no pictures give a first guess; check poses.json and the board's settings"
            )
        return best[1], best[2]

    def _alone(self, view: BoardView) -> Pose:
        matrix, distortion = self.lens.opencv
        good, turn, place = _opencv().solvePnP(view.on_board, view.in_picture.reshape(-1, 1, 2), matrix, distortion)
        if not good:
            raise CalibrationError(f"hand-eye: {view.name}: the pose of the board cannot be found; leave it out")
        return Pose.from_rotvec(place.ravel(), turn.ravel())

    def _closed_form(self, subset: Sequence[int], boards: Sequence[Pose]) -> Pose | None:
        cv2 = _opencv()
        arms = [self.tools[i] if self.mount == "hand" else self.tools[i].inverse() for i in subset]
        try:
            turn, place = cv2.calibrateHandEye(
                [a.rotation for a in arms],
                [a.position for a in arms],
                [boards[i].rotation for i in subset],
                [boards[i].position for i in subset],
                method=cv2.CALIB_HAND_EYE_PARK,
            )
            return Pose(place.ravel(), turn)
        except (cv2.error, ValueError):  # these few turn about one axis, or contradict each other
            return None

    def refine(self, x: Pose, z: Pose, which: Sequence[int], steps: int = 30) -> tuple[Pose, Pose]:
        """Levenberg-Marquardt with Huber's weights over the pixels of the pictures `which`."""
        damping, eps = 1e-3, 1e-6
        counted = self.chosen(which)
        r = self.residuals(x, z)
        for _ in range(steps):
            scale = max(0.2, 1.5 * 1.4826 * float(np.median(np.abs(r[counted > 0]))))
            weight = counted * np.minimum(1.0, scale / np.maximum(np.abs(r), 1e-12))
            jacobian = np.stack([(self.residuals(*_moved(x, z, eps * e)) - r) / eps for e in np.eye(12)], 1)
            normal = jacobian.T @ (weight[:, None] * jacobian)
            slope = jacobian.T @ (weight * r)
            while True:
                step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), slope)
                new = _moved(x, z, step)
                trial = self.residuals(*new)
                if counted @ _huber(trial, scale) <= counted @ _huber(r, scale):
                    x, z, r, damping = *new, trial, max(damping / 5, 1e-9)
                    break
                damping *= 5
                if damping > 1e6:
                    return x, z
            if np.abs(step).max() < 1e-7:  # metres and radians
                break
        return x, z


def _huber(r: Array, scale: float) -> Array:
    size = np.abs(r)
    return np.where(size <= scale, r**2, 2 * scale * size - scale**2)


def _moved(x: Pose, z: Pose, step: Array) -> tuple[Pose, Pose]:
    return x @ Pose.from_rotvec(step[:3], step[3:6]), z @ Pose.from_rotvec(step[6:9], step[9:])


def _jackknife(parts: Sequence[Pose], whole: Pose) -> tuple[float, float]:
    """(rotation, translation): one standard error."""
    n = len(parts)
    spread: Callable[[Array], float] = lambda a: float(np.sqrt((n - 1) / n * ((a - a.mean(0)) ** 2).sum()))
    turns = np.array([log_map(whole.rotation.T @ part.rotation) for part in parts])
    return spread(turns), spread(np.array([part.position for part in parts]))


def _disagree(views: Sequence[BoardView], rms: Array) -> CalibrationError:
    worst = ", ".join(f"{views[i].name} {rms[i]:.1f}" for i in np.argsort(rms)[::-1][:5])
    return CalibrationError(
        f"hand-eye: fewer than {MIN_VIEWS} pictures agree (worst, in pixels: {worst}); are the poses those of the "
        "pictures, in metres and xyzw, is the board's square as measured, did the board or camera move?"
    )
