"""The 68 points of iBUG's scheme, found on the displaced surface and projected.

Left and right are those of the picture: point 0 is at the left end of the jaw as seen.
"""

from __future__ import annotations

import numpy as np

from norface.synthetic.head import (
    COLUMNS,
    EYE_U,
    HALF_COLUMNS,
    MATERIAL,
    MOUTH_HALF_WIDTH,
    MOUTH_V,
    ROWS,
    columns_of,
    rows_of,
)
from norface.synthetic.identity import Look
from norface.synthetic.materials import lid_edges

_NOSE = [(0.0, 0.0), (0.0, -0.14), (0.0, -0.28), (0.0, -0.42), (-0.115, -0.53), (-0.055, -0.55),
         (0.0, -0.565), (0.055, -0.55), (0.115, -0.53)]  # fmt: skip
_JAW_V = np.array([-0.02, -0.2, -0.38, -0.55, -0.72, -0.87])
"Heights at which the outline is followed on each side, ear to jaw corner."
_CHIN_U = np.array([-0.36, -0.19, 0.0, 0.19, 0.36])
"Where the lower edge of the chin is followed."
_JAW_ROWS = rows_of(_JAW_V).round().astype(int)
_CHIN_COLUMNS = columns_of(_CHIN_U).round().astype(int)
_REACH = int((MATERIAL[_JAW_ROWS[0], HALF_COLUMNS:, 0] < 0.98).sum())
"Columns from the middle to before the ear."
_CHIN_ROWS = rows_of(np.array([-0.98, -1.28])).round().astype(int)


def _brow(look: Look, share: float) -> tuple[float, float]:
    arch = look.brow_arch * (1 - ((share - 0.62) / 0.62) ** 2)
    height = look.brow_height + look.brow_tilt * (share - 0.5) * 0.4 + arch - 0.03
    return look.brow_start + share * (look.brow_end - look.brow_start), height


def _lids(t: float, upper: float, lower: float, tilt: float) -> tuple[float, float]:
    """Edges of the lids at t; of a shut eye, where the upper one hides the lower, both are its."""
    top, low = lid_edges(t, upper, lower, tilt)
    return top, min(low, top)


def inner_spots(look: Look, lids: np.ndarray) -> list[tuple[float, float, bool]]:
    """(u, v, on the lower lip) of points 17..67. lids (2, 2): edges of the left and right eye."""
    shares = (0.97, 0.75, 0.5, 0.25, 0.03)
    brows = [_brow(look, share) for share in shares]
    spots = [(-a, v, False) for a, v in brows] + [(a, v, False) for a, v in brows[::-1]]
    spots += [(u, v, False) for u, v in _NOSE]
    for half, sign in ((0, -1), (1, 1)):
        edges = {t: _lids(t, *lids[half], look.eye_tilt) for t in (-1.0, -0.36, 0.36, 1.0)}
        order = [(1.0, 0), (0.36, 0), (-0.36, 0), (-1.0, 0), (-0.36, 1), (0.36, 1)]
        if sign > 0:
            order = [(-1.0, 0), (-0.36, 0), (0.36, 0), (1.0, 0), (0.36, 1), (-0.36, 1)]
        for t, edge in order:
            spots.append((sign * (EYE_U + t * look.eye_half_width), edges[t][edge], False))
    corner, upper, lower = MOUTH_HALF_WIDTH + 0.005, look.lip_upper, look.lip_lower
    spots.append((-corner, MOUTH_V, False))
    for u, size in ((-0.16, 0.62), (-0.06, 0.93), (0, 0.78), (0.06, 0.93), (0.16, 0.62)):
        spots.append((u, MOUTH_V + size * upper, False))
    spots.append((corner, MOUTH_V, False))
    for u, size in ((0.16, 0.66), (0.07, 0.95), (0, 1.0), (-0.07, 0.95), (-0.16, 0.66)):
        spots.append((u, MOUTH_V - size * lower, True))
    spots += [(u, MOUTH_V, False) for u in (-0.215, -0.08, 0, 0.08, 0.215)]
    spots += [(u, MOUTH_V, True) for u in (0.08, 0, -0.08)]
    return spots


def sample_grid(mesh: np.ndarray, spots: list[tuple[float, float, bool]]) -> np.ndarray:
    """(P, D): a grid attribute (ROWS, COLUMNS, D) at spots (u, v, lower), |u| <= FLAT_U + 0.1."""
    u, v, lower = np.array(spots).T
    row = rows_of(v, lower=lower > 0)
    column = columns_of(u)
    r, c = np.minimum(row.astype(int), ROWS - 2), np.minimum(column.astype(int), COLUMNS - 2)
    fr, fc = (row - r)[:, None], (column - c)[:, None]
    top = mesh[r, c] * (1 - fc) + mesh[r, c + 1] * fc
    low = mesh[r + 1, c] * (1 - fc) + mesh[r + 1, c + 1] * fc
    return top * (1 - fr) + low * fr


def close_lips(marks: np.ndarray) -> None:
    """Lips that press on one another meet half way: changes the 68 landmarks (68, 2) in place.

    The mesh's lips may pass through each other by a fraction of a pixel; a person who marks the
    picture sees one line. y points down; open lips stay as they are.
    """
    upper, lower = np.array([61, 62, 63]), np.array([67, 66, 65])
    crossed = marks[upper, 1] > marks[lower, 1]
    upper, lower = upper[crossed], lower[crossed]
    marks[upper, 1] = marks[lower, 1] = (marks[upper, 1] + marks[lower, 1]) / 2


def contour(projected: np.ndarray) -> np.ndarray:
    """(17, 2): the jaw's outline. projected (ROWS, COLUMNS, 2): x right, y down, any scale.

    On the sides each height is followed to where its row is seen furthest out, but not behind the
    ear; along the chin each column is followed to where it is seen lowest.
    """
    middle, reach = HALF_COLUMNS - 1, _REACH
    rows = projected[_JAW_ROWS]
    left = rows[:, middle - reach : middle + 1]
    right = rows[:, middle : middle + reach + 1]
    every = np.arange(len(rows))
    left = left[every, left[..., 0].argmin(1)]
    right = right[every, right[..., 0].argmax(1)]
    chin = projected[_CHIN_ROWS[0] : _CHIN_ROWS[1], _CHIN_COLUMNS]
    chin = chin[chin[..., 1].argmax(0), np.arange(len(_CHIN_COLUMNS))]
    return np.concatenate([left, chin, right[::-1]])
