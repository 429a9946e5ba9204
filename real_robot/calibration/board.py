"""The ChArUco board: drawn to scale for printing, and found in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoardSettings", "BoardView", "CalibrationError", "find_board", "print_board"]

_MIN_CORNERS = 6


class CalibrationError(RuntimeError):
    """Pictures, poses or settings that give no calibration; the message says which and what to do."""


@dataclass(frozen=True)
class BoardSettings:
    """columns, rows: squares. square, marker: their sides in metres, as measured on the print, not as asked of the
    printer. dictionary: one of OpenCV's, cv2.aruco.DICT_...
    """

    columns: int = 8
    rows: int = 6
    square: float = 0.030
    marker: float = 0.022
    dictionary: str = "DICT_5X5_100"

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not 0 < self.marker < self.square:
            raise CalibrationError(
                f"board: expected at least 3 x 3 squares and 0 < marker < square, got {self.columns} x {self.rows}, "
                f"marker={self.marker}, square={self.square}"
            )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in metres."""
        return self.columns * self.square, self.rows * self.square

    def make(self) -> Any:
        """OpenCV's board. Its frame: origin in the upper left corner, x right, y down, z into the board."""
        cv2 = _opencv()
        number = getattr(cv2.aruco, self.dictionary, None)
        if not isinstance(number, int) or not self.dictionary.startswith("DICT_"):
            known = ", ".join(sorted(n for n in dir(cv2.aruco) if n.startswith("DICT_")))
            raise CalibrationError(f"board.dictionary: no {self.dictionary!r}; there are: {known}")
        dictionary = cv2.aruco.getPredefinedDictionary(number)
        needed, having = self.columns * self.rows // 2, len(dictionary.bytesList)
        if needed > having:
            raise CalibrationError(
                f"board: {self.columns} x {self.rows} squares need {needed} markers, {self.dictionary} has {having}; "
                "choose a larger dictionary"
            )
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, dictionary)

    def picture(self, pixels: int) -> NDArray[np.uint8]:
        """(rows * pixels, columns * pixels) uint8: the board without a margin, `pixels` to a square."""
        drawn: NDArray[np.uint8] = self.make().generateImage((self.columns * pixels, self.rows * pixels), None, 0, 1)
        return drawn


@dataclass(frozen=True, eq=False)
class BoardView:
    """Corners of the board in one picture: where on the board (n, 3) metres, and where in the picture (n, 2) pixels,
    a pixel's middle at whole numbers, as OpenCV counts."""

    name: str
    on_board: NDArray[np.float32]
    in_picture: NDArray[np.float32]


def find_board(name: str, image: NDArray[np.uint8], board: BoardSettings) -> BoardView | None:
    """The board in a picture (H, W) or (H, W, 3); None unless enough of it is seen, not all on one line."""
    cv2 = _opencv()
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    made = board.make()
    corners, ids, _, _ = cv2.aruco.CharucoDetector(made).detectBoard(grey)
    if ids is None or len(ids) < _MIN_CORNERS:
        return None
    on_board = np.asarray(made.getChessboardCorners(), np.float32)[ids.ravel()]
    if np.linalg.matrix_rank(on_board[:, :2] - on_board[:, :2].mean(0), tol=board.square / 2) < 2:
        return None
    return BoardView(name, on_board, _refined(grey, np.asarray(corners, np.float32).reshape(-1, 2), on_board, board))


def _refined(
    grey: NDArray[np.uint8], corners: NDArray[np.float32], on_board: NDArray[np.float32], board: BoardSettings
) -> NDArray[np.float32]:
    """Corners (n, 2) to a fraction of a pixel, a pixel's middle at whole numbers.

    Up to OpenCV 4.12 detectBoard gives them half a pixel too far right and down (opencv issue 25539); refining them
    once more gives the same with every version.
    """
    cv2 = _opencv()
    apart = np.linalg.norm(on_board[:, None] - on_board, axis=-1)
    pixels = np.linalg.norm(corners[:, None] - corners, axis=-1)
    scale = float(np.median(pixels[apart > 0] / apart[apart > 0]))  # pixels to a metre
    half = int(np.clip(0.8 * scale * (board.square - board.marker) / 2, 2, 11))  # the markers stay outside
    until = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 50, 1e-3)
    refined = cv2.cornerSubPix(grey, corners.reshape(-1, 1, 2).copy(), (half, half), (-1, -1), until)
    return np.asarray(refined, np.float32).reshape(-1, 2)


def print_board(board: BoardSettings, path: Path, dpi: int = 300, margin: float = 0.01) -> tuple[int, int]:
    """Write the board in true size to a PNG or PDF, a margin of `margin` metres around it; its size in pixels.

    A square is a whole number of pixels, so that it is off by less than half of one; measure the print anyway.
    """
    from PIL import Image

    if path.suffix.lower() not in (".png", ".pdf"):
        raise CalibrationError(f"out: a board is written as .png or .pdf, got {path}")
    pixels = round(board.square / 0.0254 * dpi)
    if pixels < 16:
        raise CalibrationError(
            f"board: a square of {board.square} m is {pixels} pixels at {dpi} dpi, at least 16 needed"
        )
    exact = pixels / board.square * 0.0254  # the resolution at which the square has its size
    edge = round(margin / board.square * pixels)
    page = np.pad(board.picture(pixels), edge, constant_values=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    if path.suffix.lower() == ".pdf":
        Image.fromarray(page).save(part, resolution=exact)
    else:
        Image.fromarray(page).save(part, dpi=(exact, exact))
    part.replace(path)
    return page.shape[1], page.shape[0]


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise CalibrationError(f'calibration needs OpenCV ({error}): pip install "equidiff[robot]"') from error
    if not hasattr(cv2, "calibrateHandEye"):
        raise CalibrationError(f"OpenCV {cv2.__version__} has no calibrateHandEye; install opencv-python-headless<5")
    return cv2
