"""Calibration of one camera from a folder of pictures: reading, solving, checking, writing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equidiff.config import did_you_mean
from real_robot.calibration.board import BoardSettings, BoardView, CalibrationError, _opencv, find_board
from real_robot.calibration.hand_eye import HandEye, solve_hand_eye
from real_robot.calibration.lens import Lens, calibrate_lens
from real_robot.calibration.result import (
    BaseCalibration,
    BaseInWorld,
    CameraCalibration,
    load_calibration,
    save_base,
    save_calibration,
)
from real_robot.calibration.symmetry import (
    AxisBounds,
    SymmetryAxis,
    check_symmetry_axis,
    up_from_board,
    up_from_gravity,
    up_from_level,
)
from real_robot.poses import Pose, exp_map
from real_robot.types import Array

__all__ = ["calibrate", "measure_base", "read_picture", "read_poses"]


def calibrate(tree: dict[str, Any]) -> int:
    """As configs/calibrate.yaml says. Raises CalibrationError; prints what was found; 0."""
    if tree["folder"] is None:
        raise CalibrationError("folder is not set; give the folder of pictures and poses.json: folder=...")
    folder = Path(tree["folder"])
    board, base = BoardSettings(**tree["board"]), BaseInWorld(tree["base"]["yaw"], tuple(tree["base"]["position"]))
    poses = read_poses(folder / "poses.json")
    views, tools, without, size = _find(folder, poses, board)
    if without:
        print(f"no board found in {', '.join(without)}")
    lens = _lens(tree["lens"], views, size)
    found = solve_hand_eye(views, tools, lens, tree["mount"])
    print(_sentences(tree["camera"], found, lens))
    if not found.reprojection_px <= tree["max_reprojection"]:
        raise CalibrationError(
            f"the corners are off by {found.reprojection_px:.2f} pixels, max_reprojection={tree['max_reprojection']}; "
            "is the board flat, is board.square as measured, are the poses those of a robot at rest?"
        )
    axis = _axis(tree, folder, board, base, found, lens, poses)
    reach = tree["axis"]["reach"]
    print("symmetry axis not checked: give axis.gravity, axis.level or axis.table" if axis is None else
          axis.sentences(reach))  # fmt: skip
    errors = {
        "reprojection_px": found.reprojection_px,
        "rotation_rad": found.rotation,
        "translation_m": found.translation,
        "board_rotation_rad": found.board_rotation,
        "board_translation_m": found.board_translation,
        "pictures": len(found.views),
        "views_px": found.views,
        "left_out_px": found.left_out,
        "without_board": without,
    }
    result = CameraCalibration(
        tree["camera"], tree["mount"], found.camera, lens, base, errors, None if axis is None else axis.to_json()
    )
    out = Path(tree["out"] or folder / f"{tree['camera']}.json")
    save_calibration(result, out)
    print(f"written to {out}")
    return 0


def measure_base(tree: dict[str, Any]) -> int:
    """The base alone, by a level: for policies without cameras. As `calibrate`."""
    node, base = tree["axis"], BaseInWorld(tree["base"]["yaw"], tuple(tree["base"]["position"]))
    if node["level"] is None:
        raise CalibrationError(
            "axis.level is not set; without a camera the vertical is that of a level: axis.level=[along x, along y] "
            "in degrees"
        )
    up, source, tilt_error = _by_level(node["level"])
    axis = check_symmetry_axis(up, source, base=base, reach=node["reach"], tilt_error=tilt_error, bounds=_bounds(node))
    print(axis.sentences(node["reach"]))
    out = Path(tree["out"] or "base.json")
    save_base(BaseCalibration(base, axis.to_json()), out)
    print(f"written to {out}")
    return 0


def read_poses(path: Path) -> dict[str, Pose]:
    """{picture: pose of the tool in the base's frame}. CalibrationError that names the entry that does not fit."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: {error}; it holds the tool's pose at each picture, see --help") from error
    if not isinstance(tree, Mapping) or not tree:
        raise CalibrationError(f"{path}: expected {{picture: pose}}, see --help")
    poses = {}
    for name, node in tree.items():
        try:
            quat = np.array(node["quat_xyzw"], np.float64)
            if not abs(float(np.linalg.norm(quat)) - 1) < 1e-2:
                raise ValueError(f"a quaternion xyzw of length {np.linalg.norm(quat):.3f}")
            poses[name] = Pose.from_quat(node["position"], quat)
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"{path}: {name!r}: expected position and quat_xyzw, got {error}") from error
    return poses


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W) grey."""
    cv2 = _opencv()
    image: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise CalibrationError(f"{path}: not a picture that can be read")
    return image


def _find(
    folder: Path, poses: Mapping[str, Pose], board: BoardSettings
) -> tuple[list[BoardView], list[Pose], list[str], tuple[int, int]]:
    views, tools, without, sizes = [], [], [], {}
    for name, pose in poses.items():
        image = read_picture(folder / name)
        sizes[image.shape[1], image.shape[0]] = name
        view = find_board(name, image, board)
        if view is None:
            without.append(name)
        else:
            views.append(view)
            tools.append(pose)
    if len(sizes) > 1:
        raise CalibrationError(f"{folder}: pictures of different sizes: {sizes}; use one size, that of the loop")
    if not views:
        raise CalibrationError(
            f"{folder}: the board is in none of {len(poses)} pictures; are board.columns, board.rows and "
            "board.dictionary those of the print, is it sharp and wholly lit?"
        )
    return views, tools, without, next(iter(sizes))


def _lens(node: Any, views: list[BoardView], size: tuple[int, int]) -> Lens:
    width, height = size
    if node is None:
        return calibrate_lens(views, width, height)
    if isinstance(node, str):
        lens = load_calibration(Path(node)).lens
        if (lens.width, lens.height) != size:
            raise CalibrationError(
                f"lens: {node} is for {lens.width} x {lens.height}, the pictures are {width} x {height}"
            )
        return lens
    _known("lens", node, {"matrix", "distortion"})
    return Lens(np.array(node.get("matrix"), np.float64), width, height, np.array(node.get("distortion") or []))


def _axis(
    tree: dict[str, Any],
    folder: Path,
    board: BoardSettings,
    base: BaseInWorld,
    found: HandEye,
    lens: Lens,
    poses: Mapping[str, Pose],
) -> SymmetryAxis | None:
    node = tree["axis"]
    given = [key for key in ("gravity", "level", "table") if node[key] is not None]
    if len(given) > 1:
        raise CalibrationError(f"axis: give one of {' and '.join(given)}")
    if node["world"] is not None and node["table"] is None:
        raise CalibrationError("axis.world is the place of the board on the table: give its picture, axis.table, too")
    if not given:
        return None
    measured, tilt_error, place_error = None, found.rotation, 0.0
    if given == ["level"]:
        up, source, tilt_error = _by_level(node["level"])
    elif given == ["gravity"]:
        _known("axis.gravity", node["gravity"], {"reading", "picture"})
        up = up_from_gravity(node["gravity"]["reading"], _camera(found, node["gravity"].get("picture"), poses))
        source, tilt_error = "an accelerometer", math.hypot(found.rotation, math.radians(0.2))
    else:
        in_base, alone_turn, alone_place = _on_table(folder, node["table"], board, found, lens, poses)
        tilt_error, place_error = math.hypot(found.rotation, alone_turn), math.hypot(found.translation, alone_place)
        up, source = up_from_board(in_base), "the board on a levelled table"
        if node["world"] is not None:
            _known("axis.world", node["world"], {"position", "yaw"})
            # a board that lies with its x along the world's has its y against the world's, its z down
            lying = Pose(
                node["world"]["position"], exp_map([0, 0, node["world"].get("yaw", 0.0)]) @ np.diag([1, -1, -1.0])
            )
            measured = lying @ in_base.inverse()
    return check_symmetry_axis(
        up,
        source,
        base=base,
        measured=measured,
        centre=_centre(node),
        height=node["height"],
        reach=node["reach"],
        tilt_error=tilt_error,
        yaw_error=tilt_error,
        centre_error=math.hypot(place_error, tilt_error * node["reach"]),
        bounds=_bounds(node),
    )


def _by_level(degrees: Any) -> tuple[Array, str, float]:
    """Vertical, its source and its error, of two readings."""
    try:
        x, y = (math.radians(float(reading)) for reading in degrees)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"axis.level: expected [degrees along x, degrees along y], got {degrees!r}") from error
    return up_from_level(x, y), "a level", math.radians(0.1)


def _bounds(node: Mapping[str, Any]) -> AxisBounds:
    return AxisBounds(math.radians(node["max_tilt"]), node["max_centre"], math.radians(node["max_yaw"]))


def _camera(found: HandEye, picture: str | None, poses: Mapping[str, Pose]) -> Pose:
    """Of the camera in the base's frame, at a picture if it is on the gripper."""
    if found.mount == "base":
        return found.camera
    if picture is None or picture not in poses:
        raise CalibrationError(
            f"axis: the camera is on the gripper, so that poses.json must hold the tool's pose of {picture!r}"
            f"{did_you_mean(str(picture), poses)}"
        )
    return poses[picture] @ found.camera


def _on_table(
    folder: Path, picture: str, board: BoardSettings, found: HandEye, lens: Lens, poses: Mapping[str, Pose]
) -> tuple[Pose, float, float]:
    """Pose of the board on the table in the base's frame, and how sure that is of itself: rad, m."""
    view = find_board(picture, read_picture(folder / picture), board)
    if view is None:
        raise CalibrationError(f"axis.table: the board is not found in {picture}")
    matrix, distortion = lens.opencv
    _, turn, place = _opencv().solvePnP(view.on_board, view.in_picture.reshape(-1, 1, 2), matrix, distortion)
    seen = Pose.from_rotvec(place.ravel(), turn.ravel())
    off = lens.project(view.on_board @ seen.rotation.T + seen.position) - view.in_picture
    # linear errors of the six numbers of the pose from the scatter of the corners
    jacobian = _opencv().projectPoints(view.on_board, turn, place, matrix, distortion)[1][:, :6]
    variance = np.linalg.inv(jacobian.T @ jacobian) * (off**2).sum() / max(1, off.size - 6)
    sure = np.sqrt(np.diag(variance))
    return (
        _camera(found, picture, poses) @ seen,
        float(np.linalg.norm(sure[:3])),
        float(np.linalg.norm(sure[3:])),
    )


def _centre(node: Mapping[str, Any]) -> tuple[float, float]:
    if node["checkpoint"] is not None:
        from equidiff.checkpoint import load_policy

        return load_policy(node["checkpoint"]).spec.workspace.centre
    x, y = node["centre"] or (0.0, 0.0)
    return float(x), float(y)


def _known(where: str, node: Any, known: set[str]) -> None:
    if not isinstance(node, Mapping):
        raise CalibrationError(f"{where}: expected {' and '.join(sorted(known))}, got {node!r}")
    for key in node:
        if key not in known:
            raise CalibrationError(f"{where}: no setting {key!r}{did_you_mean(str(key), known)}")


def _sentences(camera: str, found: HandEye, lens: Lens) -> str:
    where = "tool" if found.mount == "hand" else "base"
    text = (
        f"{camera}: {len(found.views)} pictures, {found.reprojection_px:.3f} pixels rms; at "
        f"{found.camera.position.round(4).tolist()} m of the {where}, +- {1000 * found.translation:.2f} mm and "
        f"{math.degrees(found.rotation):.3f} degrees (leaving out each picture)"
    )
    if lens.errors:
        text += f"; focal length {lens.matrix[0, 0]:.1f} +- {lens.errors['focal_px']:.1f} pixels"
    if found.left_out:
        text += "; left out, because they contradict the others: " + ", ".join(
            f"{name} ({px:.0f} px)" for name, px in found.left_out.items()
        )
    return text
