"""Made-up calibrations: a camera, an arm and a board of which everything is known, as corners or as pictures."""

from dataclasses import dataclass

import cv2
import numpy as np

from real_robot.calibration.board import BoardSettings, BoardView
from real_robot.calibration.lens import Lens
from real_robot.poses import Pose, exp_map

BOARD = BoardSettings()
SIZE = (640, 480)
LENS = Lens(np.array([[560.0, 0, 322.3], [0, 562.0, 238.9], [0, 0, 1]]), *SIZE)


@dataclass(frozen=True, eq=False)
class Scene:
    """mount, true poses of camera and board (as HandEye has them), and the tool at each picture."""

    mount: str
    camera: Pose
    board: Pose
    tools: list[Pose]

    def seen(self, i: int) -> Pose:
        tool = self.tools[i]
        if self.mount == "hand":
            return (tool @ self.camera).inverse() @ self.board
        return self.camera.inverse() @ tool @ self.board

    def view(self, i: int, random: np.random.Generator, noise: float = 0.15, lens: Lens = LENS) -> BoardView:
        corners = np.asarray(BOARD.make().getChessboardCorners(), np.float32)
        pose = self.seen(i)
        pixels = lens.project(corners @ pose.rotation.T + pose.position)
        return BoardView(f"{i:03d}.png", corners, (pixels + random.normal(0, noise, pixels.shape)).astype(np.float32))


def make_scene(mount: str, seed: int = 0, count: int = 15, tilt: float = 0.45, axes: int = 3) -> Scene:
    """The camera sees the board's middle from 0.35 to 0.5 m, tilted at random. axes=1: turned about one axis only."""
    random = np.random.default_rng(seed)
    middle = np.array([*np.array(BOARD.size) / 2, 0.0])
    if mount == "hand":
        camera = Pose.from_rotvec([0.05, -0.03, 0.04], [0.05, -0.1, 1.5])
        board = Pose([0.5, 0.1, 0.02], exp_map([np.pi, 0, 0]) @ exp_map([0, 0, 0.3]))
    else:
        camera = Pose([1.1, 0.1, 0.6], exp_map([0, 0, np.pi / 2]) @ exp_map([-2.2, 0, 0]))
        board = Pose.from_rotvec([-0.1, 0.08, 0.05], [0.3, 0.2, -0.4])
    tools = []
    for _ in range(count):
        turn = random.uniform(-tilt, tilt, 3) * ([1, 1, 2] if axes == 3 else [0, 0, 2])
        at = np.array([*random.uniform(-0.05, 0.05, 2), random.uniform(0.35, 0.5)])
        seen = Pose(at, exp_map(turn)) @ Pose(-middle, np.eye(3))  # the board in the camera
        if mount == "hand":  # base_board = tool @ camera @ seen
            tools.append(board @ (camera @ seen).inverse())
        else:  # camera @ seen = tool @ board
            tools.append(camera @ seen @ board.inverse())
    return Scene(mount, camera, board, tools)


def render(
    pose: Pose, lens: Lens = LENS, noise: float = 4.0, seed: int = 0, board: BoardSettings = BOARD
) -> np.ndarray:
    """(H, W) uint8: the board at `pose` in the camera's frame, three times as fine and averaged, with noise."""
    fine, pixels = 3, 60
    drawn = np.pad(board.picture(pixels), pixels // 2, constant_values=255)  # a white margin of half a square
    scale = board.square / pixels
    half = pixels // 2
    # corners at whole numbers: board pixel -> metres -> picture; then OpenCV's middles at whole numbers
    to_board = np.array([[scale, 0, -half * scale], [0, scale, -half * scale], [0, 0, 1]])
    matrix = np.diag([fine, fine, 1.0]) @ lens.matrix
    plane = np.column_stack([pose.rotation[:, 0], pose.rotation[:, 1], pose.position])
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    homography = np.linalg.inv(shift) @ matrix @ plane @ to_board @ shift
    size = lens.width * fine, lens.height * fine
    big = cv2.warpPerspective(drawn, homography, size, flags=cv2.INTER_LINEAR, borderValue=110)
    image = cv2.resize(big, (lens.width, lens.height), interpolation=cv2.INTER_AREA).astype(np.float64)
    image = 30 + 0.75 * image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)
