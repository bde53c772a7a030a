"""Displacement fields over the template, kept where they are not zero and summed quickly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numba
import numpy as np

from norface.synthetic.head import COLUMNS, MATERIAL, POSITIONS, ROWS, UPPER_ROW, ramp


class Spots(NamedTuple):
    """What a field may depend on, each (ROWS, COLUMNS)."""

    u: np.ndarray
    "Material coordinates."
    v: np.ndarray
    a: np.ndarray
    "|u|: fields are written for one half of the face."
    y: np.ndarray
    z: np.ndarray
    "Template heights and depths."
    lower: np.ndarray
    "True on the lower lip's side of the mouth's line."


SPOTS = Spots(
    u=MATERIAL[..., 0],
    v=MATERIAL[..., 1],
    a=np.abs(MATERIAL[..., 0]),
    y=POSITIONS[..., 1],
    z=POSITIONS[..., 2],
    lower=np.broadcast_to((np.arange(ROWS) > UPPER_ROW)[:, None], (ROWS, COLUMNS)),
)
OUTWARD = np.sign(SPOTS.u) * ramp(SPOTS.a, 0.0, 0.1)

Field = Callable[[Spots], tuple]
"Spots => (outward, up, forward) displacements in head units, arrays or 0."


class Basis(NamedTuple):
    """Fields packed as rectangles of the grid. Numba reads it as it is."""

    boxes: np.ndarray
    "(K, 5) int64: first and end row, first and end column, start in `values`."
    values: np.ndarray
    "(M,) float32: (rows, columns, 3) of each rectangle, one after another."


def evaluate(field: Field, *, mirror: bool = True) -> np.ndarray:
    """(ROWS, COLUMNS, 3): a field as x, y, z. `mirror`: outward instead of to the right."""
    out, up, forward = field(SPOTS)
    shape = (ROWS, COLUMNS)
    x = np.broadcast_to(out, shape) * (OUTWARD if mirror else 1.0)
    return np.stack([x, np.broadcast_to(up, shape), np.broadcast_to(forward, shape)], -1)


def pack(fields: Sequence[np.ndarray], *, threshold: float = 2e-4) -> Basis:
    """Keep the rectangle in which a field (ROWS, COLUMNS, 3) exceeds `threshold`, for each."""
    boxes, values, start = [], [], 0
    for field in fields:
        there = np.abs(field).max(-1) > threshold
        rows, columns = np.nonzero(there.any(1))[0], np.nonzero(there.any(0))[0]
        box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        part = np.where(there[..., None], field, 0)[box[0] : box[1], box[2] : box[3]]
        boxes.append([*box, start])
        values.append(part.astype(np.float32).ravel())
        start += part.size
    return Basis(np.array(boxes, np.int64), np.concatenate(values))


@numba.njit(cache=True, nogil=True)
def add_fields(mesh, boxes, values, weights):
    """Add weights (K,) x fields to mesh (ROWS, COLUMNS, 3) in place."""
    for k in range(len(weights)):
        weight = numba.float32(weights[k])
        if weight == 0.0:
            continue
        at = boxes[k, 4]
        for row in range(boxes[k, 0], boxes[k, 1]):
            for column in range(boxes[k, 2], boxes[k, 3]):
                mesh[row, column, 0] += weight * values[at]
                mesh[row, column, 1] += weight * values[at + 1]
                mesh[row, column, 2] += weight * values[at + 2]
                at += 3
