"""The head's template: a grid mesh with material coordinates that every face is a displacement of.

Head space: 1 unit = 100 mm, x to the picture's right, y up, z towards the camera; the origin lies
between the eyes in x and y, and on the axis through the ears in z. Material coordinates (u, v) name
a spot of skin whatever it does: in the rest pose of the template u is the arc length from the
middle line and v the height, so that the features stand at the same (u, v) in every face.

The mesh has ROWS x COLUMNS vertices. Two rows lie on the line of the mouth, the upper and the lower
lip's; the strip between them opens when they part and shows the inside of the mouth.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

EYE_U, MOUTH_V, MOUTH_HALF_WIDTH = 0.315, -0.72, 0.25
"Material coordinates of the eyes' centres (v = 0) and of the line of the mouth."

FLAT_U = 0.5
"Up to this |u| the columns have the same u in every row."

# v, front y, front z, half width, lift of the sides, back z: by hand, from the proportions of heads.
_PROFILE = np.array(
    [
        [1.20, 1.16, 0.02, 0.02, 0.00, -0.06],
        [1.12, 1.12, 0.26, 0.26, 0.00, -0.42],
        [0.98, 1.00, 0.54, 0.47, 0.00, -0.72],
        [0.78, 0.79, 0.75, 0.62, 0.00, -0.90],
        [0.55, 0.55, 0.865, 0.695, 0.00, -0.98],
        [0.30, 0.30, 0.905, 0.715, 0.00, -0.98],
        [0.10, 0.10, 0.895, 0.715, 0.00, -0.93],
        [-0.10, -0.10, 0.870, 0.705, 0.00, -0.86],
        [-0.30, -0.30, 0.865, 0.690, 0.01, -0.78],
        [-0.50, -0.50, 0.870, 0.655, 0.03, -0.70],
        [-0.70, -0.70, 0.865, 0.620, 0.08, -0.62],
        [-0.85, -0.85, 0.840, 0.585, 0.14, -0.56],
        [-1.00, -1.00, 0.820, 0.560, 0.24, -0.50],
        [-1.10, -1.09, 0.790, 0.550, 0.31, -0.46],
        [-1.18, -1.145, 0.720, 0.535, 0.345, -0.42],
        [-1.28, -1.17, 0.610, 0.500, 0.35, -0.40],
        [-1.50, -1.16, 0.330, 0.400, 0.34, -0.30],
    ]
)


def _row_heights() -> np.ndarray:
    parts = [(1.2, 0.66, 11), (0.66, 0.12, 20), (0.12, -0.12, 11), (-0.12, -0.40, 10)]
    parts += [(-0.40, -0.60, 13), (-0.60, MOUTH_V, 11)]
    above = np.concatenate([np.linspace(top, end, n, endpoint=False) for top, end, n in parts])
    parts = [(MOUTH_V, -0.84, 11), (-0.84, -1.20, 14), (-1.20, -1.50, 6)]
    below = np.concatenate([np.linspace(top, end, n, endpoint=False) for top, end, n in parts])
    return np.concatenate([above, [MOUTH_V], below, [-1.5]])


ROW_V = _row_heights()
"(ROWS,): v of each row, from the crown down; MOUTH_V twice."
ROWS = len(ROW_V)
UPPER_ROW = int(np.nonzero(ROW_V == MOUTH_V)[0][0])
"Row of the upper lip's edge; the next is the lower lip's."
_FRONT_U = np.concatenate([np.linspace(0, 0.28, 15), np.linspace(0.3025, FLAT_U, 9)])
_REST = np.concatenate([np.linspace(0.02, 0.42, 21), [0.46, 0.52, 0.6, 0.7, 0.83, 1.0]])
HALF_COLUMNS = len(_FRONT_U) + len(_REST)
COLUMNS = 2 * HALF_COLUMNS - 1
FRONT_U = _FRONT_U


def gaussian(u, v, *, at: tuple[float, float], size: tuple[float, float]):
    """exp(-r^2 / 2) around `at` with standard deviations `size`, all in material coordinates."""
    return np.exp(-0.5 * (((u - at[0]) / size[0]) ** 2 + ((v - at[1]) / size[1]) ** 2))


def ramp(value, start: float, end: float):
    """Smoothstep from 0 at `start` to 1 at `end` (which may be smaller)."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _cross_section(front: float, width: float, back: float) -> tuple[np.ndarray, np.ndarray]:
    """Fine angle (n,) from front to back and arc length up to it (n,) of a rounded section."""
    angle = np.linspace(0, np.pi, 721)
    x, z = _section_point(angle, front, width, back)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    return angle, arc


def _section_point(angle, front, width, back):
    cosine = np.cos(angle)
    power = np.sign(cosine) * np.abs(cosine) ** 0.9
    depth = np.where(cosine > 0, front, -back)
    return width * np.sin(angle) ** 0.96, depth * power


def _nose_height(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What the nose adds to z, for |u| (an array) and v."""
    along = PchipInterpolator(
        [-0.62, -0.565, -0.535, -0.47, -0.42, -0.30, -0.12, 0.02, 0.12, 0.25],
        [0.0, 0.05, 0.165, 0.272, 0.28, 0.20, 0.105, 0.05, 0.02, 0.0],
    )(np.clip(v, -0.62, 0.25))
    width = PchipInterpolator(
        [-0.6, -0.47, -0.38, -0.2, 0.0, 0.2], [0.1, 0.103, 0.08, 0.061, 0.053, 0.1]
    )(np.clip(v, -0.6, 0.2))
    ridge = along * np.exp(-((u / width) ** 2) * 0.8)
    wing = 0.10 * gaussian(u, v, at=(0.13, -0.48), size=(0.045, 0.046))
    side = 0.05 * gaussian(u, v, at=(0.11, -0.36), size=(0.07, 0.12))
    return ridge + wing + side


def _lip_height(u: np.ndarray, v: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """What the lips add to z. `lower` marks the vertices of the lower lip's side of the line."""
    distance = np.abs(v - MOUTH_V)
    across = np.clip(1 - (u / 0.27) ** 2, 0, 1) ** 0.6
    size = np.where(lower, 0.105, 0.08)
    t = np.clip(distance / size, 0, 2)
    roll = np.where(t < 1, np.sin(np.pi * np.clip(t * 0.72 + 0.22, 0, 1)), 0.0)
    roll = np.where(t < 1, roll - 0.35 * (1 - t) ** 3, np.sin(np.pi * 0.94) * np.exp(-3 * (t - 1)))
    return across * np.where(lower, 0.062, 0.05) * roll


def build_template() -> tuple[np.ndarray, np.ndarray]:
    """Positions (ROWS, COLUMNS, 3) at rest and material coordinates (ROWS, COLUMNS, 2)."""
    profile = PchipInterpolator(-_PROFILE[:, 0], _PROFILE[:, 1:])(-ROW_V)
    positions = np.zeros((ROWS, HALF_COLUMNS, 3))
    material = np.zeros((ROWS, HALF_COLUMNS, 2))
    for row, (front_y, front_z, width, lift, back_z) in enumerate(profile):
        angle, arc = _cross_section(front_z, width, back_z)
        flat = min(1.0, 0.5 * arc[-1] / FLAT_U)
        u = np.concatenate([_FRONT_U * flat, FLAT_U * flat + _REST * (arc[-1] - FLAT_U * flat)])
        t = np.interp(u, arc, angle)
        x, z = _section_point(t, front_z, width, back_z)
        positions[row, :, 0], positions[row, :, 2] = x, z
        positions[row, :, 1] = front_y + lift * (1 - np.cos(np.minimum(t, np.pi / 2)))
        material[row, :, 0], material[row, :, 1] = u, ROW_V[row]
    u, v = material[..., 0], material[..., 1]
    lower = np.broadcast_to((np.arange(ROWS) > UPPER_ROW)[:, None], u.shape)
    positions[..., 2] += _face_relief(u, v) + _nose_height(u, v) + _lip_height(u, v, lower)
    left = positions[:, :0:-1] * [-1, 1, 1], material[:, :0:-1] * [-1, 1]
    return np.concatenate([left[0], positions], 1), np.concatenate([left[1], material], 1)


def _face_relief(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sockets, brows, cheekbones, muzzle and chin, added to z."""
    relief = -0.085 * gaussian(u, v, at=(0.27, 0.02), size=(0.15, 0.085))
    relief += 0.045 * gaussian(u, v, at=(0.315, 0.0), size=(0.11, 0.075))
    relief += 0.035 * gaussian(u, v, at=(0.26, 0.19), size=(0.2, 0.07))
    relief += 0.045 * gaussian(u, v, at=(0.42, -0.2), size=(0.15, 0.12))
    relief -= 0.03 * gaussian(u, v, at=(0.5, -0.6), size=(0.13, 0.15))
    relief += 0.045 * gaussian(u, v, at=(0.0, -0.68), size=(0.2, 0.17))
    relief -= 0.045 * gaussian(u, v, at=(0.0, -0.885), size=(0.16, 0.04))
    relief += 0.06 * gaussian(u, v, at=(0.0, -1.02), size=(0.15, 0.085))
    relief -= 0.014 * gaussian(u, v, at=(0.0, -0.61), size=(0.022, 0.04))
    return relief + 0.012 * gaussian(u, v, at=(0.042, -0.61), size=(0.018, 0.04))


POSITIONS, MATERIAL = build_template()
"(ROWS, COLUMNS, 3) and (ROWS, COLUMNS, 2): the template."


def rows_of(v: np.ndarray, *, lower: np.ndarray | bool = False) -> np.ndarray:
    """Fractional rows of heights; `lower` says on which lip those at MOUTH_V are."""
    # The lower lip's edge is told from the upper's by a step too small to see.
    heights = ROW_V.copy()
    heights[UPPER_ROW + 1] -= 1e-9
    return np.interp(np.where(lower & (v == MOUTH_V), 1e-9, 0) - v, -heights, np.arange(ROWS))


def columns_of(u: np.ndarray) -> np.ndarray:
    """Fractional columns of |u| <= FLAT_U."""
    offset = np.interp(np.abs(u), FRONT_U, np.arange(len(FRONT_U)))
    return HALF_COLUMNS - 1 + np.sign(u) * offset
