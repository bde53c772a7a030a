"""The one template that every face is brought to, and the warp that brings it there.

Five points in this order: the person's right eye (on the left of an upright picture), left eye, tip
of the nose, right and left corner of the mouth. An eye's point is the centre of its opening. The
shape is that of the 112x112 template in common use for face recognition, made smaller and moved up
so that the chin stays in the picture when the jaw drops (AU26, AU27) and the forehead stays in it
when the brows rise (AU1, AU2).
"""

from __future__ import annotations

import cv2
import numpy as np

from norface.errors import CorpusError

TEMPLATE = np.array(
    [[0.360, 0.370], [0.640, 0.370], [0.500, 0.530], [0.385, 0.693], [0.615, 0.693]]
)
"(5, 2): x, y of the five points in units of the side, from the left and from the top."

WEIGHTS = np.array([1.0, 1.0, 0.1, 0.1, 0.1])
"""Share of each point in the fit. The eyes lead: they keep their place when the face acts, while
mouth corners follow the expression that is to be read and the nose follows the turn of the head."""

FILL = cv2.BORDER_REPLICATE
"What lies outside the photograph continues its border."


def template_points(side: int) -> np.ndarray:
    """(5, 2): the template in pixel coordinates of a picture of that side (pixel centres at .0)."""
    return TEMPLATE * side - 0.5


def fit_similarity(
    source: np.ndarray, target: np.ndarray, *, weights: np.ndarray | None = None
) -> np.ndarray:
    """Similarity (2, 3) that takes `source` (P, 2) nearest to `target` (P, 2) by least squares.

    Rotation, one scale and shift, never a mirror image: Umeyama 1991, eq. 40-43, in the plane.
    Raises CorpusError where the source points coincide.
    """
    share = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    share = (share / share.sum())[:, None]
    source_mean, target_mean = (share * source).sum(0), (share * target).sum(0)
    centred, wanted = source - source_mean, target - target_mean
    variance = (share * centred**2).sum()
    if not variance > 1e-12:
        raise CorpusError("the five points of a face coincide; it cannot be aligned")
    left, stretch, right = np.linalg.svd((share * wanted).T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    turn = (stretch * signs).sum() / variance * (left * signs) @ right
    return np.hstack([turn, (target_mean - turn @ source_mean)[:, None]])


def alignment_matrix(five_points: np.ndarray, side: int) -> np.ndarray:
    """(2, 3): pixel coordinates of the photograph => pixel coordinates of the aligned picture."""
    return fit_similarity(np.asarray(five_points, float), template_points(side), weights=WEIGHTS)


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) matrix to points (P, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix of the way back."""
    return cv2.invertAffineTransform(matrix)


def warp_picture(
    pixels: np.ndarray, matrix: np.ndarray, side: int, *, border: int = FILL
) -> np.ndarray:
    """Pixels (H, W, 3) => (side, side, 3) under `matrix`, without aliasing when it shrinks.

    A warp samples points, so where the photograph is finer than the result it is first warped to a
    multiple of the side, and areas are averaged from there.
    """
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    finer = int(np.clip(np.ceil(0.75 / scale), 1, 16))
    enlarged = matrix * finer
    # Pixel centres: x_fine + 0.5 = finer * (x + 0.5).
    enlarged[:, 2] += 0.5 * (finer - 1)
    warped = cv2.warpAffine(
        pixels, enlarged, (side * finer, side * finer), flags=cv2.INTER_LINEAR, borderMode=border
    )
    if finer == 1:
        return warped
    return cv2.resize(warped, (side, side), interpolation=cv2.INTER_AREA)


def align_face(pixels: np.ndarray, five_points: np.ndarray, side: int = 256) -> np.ndarray:
    """The face with these five points (pixel coordinates) => aligned picture (side, side, 3)."""
    return warp_picture(pixels, alignment_matrix(five_points, side), side)
