"""Stiff meshes around the face: neck and shoulders, ears, hanging hair, glasses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from norface.synthetic.head import COLUMNS, ROWS, UPPER_ROW, gaussian, ramp
from norface.synthetic.identity import Identity

HEAD, MOUTH, TORSO, EAR, CURTAIN, FRAME = range(6)
"What a triangle belongs to."
EAR_ROW = 42
"Row of the head's grid at the height of the ears."


class Parts(NamedTuple):
    """Vertices beyond the head's grid, and the triangles of everything."""

    points: np.ndarray
    "(E, 3) head space."
    normals: np.ndarray
    "(E, 3)."
    material: np.ndarray
    "(E, 2): own coordinates of each part."
    body: np.ndarray
    "(E,) bool: turns with the trunk, not with the head."
    triangles: np.ndarray
    "(T, 3) int32 into the head's vertices followed by `points`."
    kinds: np.ndarray
    "(T,) uint8."
    two_sided: np.ndarray
    "(T,) bool."


def _grid_triangles(rows: int, columns: int, start: int = 0) -> np.ndarray:
    r, c = np.mgrid[: rows - 1, : columns - 1]
    corner = start + r * columns + c
    first = np.stack([corner, corner + columns, corner + 1], -1)
    second = np.stack([corner + 1, corner + columns, corner + columns + 1], -1)
    return np.stack([first, second], 2).reshape(-1, 3).astype(np.int32)


_HEAD_TRIANGLES = _grid_triangles(ROWS, COLUMNS)
_HEAD_KINDS = np.where(
    np.arange(len(_HEAD_TRIANGLES)) // (2 * (COLUMNS - 1)) == UPPER_ROW, MOUTH, HEAD
).astype(np.uint8)


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], faces)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _torso(width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    heights = np.concatenate([np.linspace(-0.55, -1.2, 7), np.linspace(-1.27, -2.4, 18)])
    knots = np.array([0.55, 1.0, 1.2, 1.38, 1.52, 1.7, 1.95, 2.4])
    across = PchipInterpolator(knots, np.array([0.46, 0.455, 0.47, 0.56, 0.78, 1.3, 1.7, 1.8]))(
        -heights
    )
    depth = PchipInterpolator(knots, np.array([0.44, 0.42, 0.44, 0.49, 0.55, 0.66, 0.76, 0.85]))(
        -heights
    )
    angle = np.deg2rad(np.linspace(-110, 110, 37))
    x = (across * (1 + 0.06 * width))[:, None] * np.sin(angle)
    z = -0.3 + depth[:, None] * np.cos(angle)
    y = np.broadcast_to(heights[:, None], x.shape)
    z = z + _neck_relief(np.abs(np.broadcast_to(angle, x.shape)), y)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    material = np.stack([np.broadcast_to(angle, x.shape), y], -1).reshape(-1, 2)
    return points, material, _grid_triangles(len(heights), len(angle))


def _neck_relief(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What neck muscles, larynx, pit of the throat and collarbones add to z; a: |angle|."""
    muscle = 0.12 + 0.62 * ramp(y, -1.62, -0.9)
    relief = 0.035 * np.exp(-(((a - muscle) / 0.12) ** 2)) * ramp(y, -1.66, -1.5)
    relief += 0.03 * gaussian(a, y, at=(0.0, -1.36), size=(0.1, 0.06))
    relief -= 0.05 * gaussian(a, y, at=(0.0, -1.66), size=(0.11, 0.05))
    bone = -1.68 + 0.06 * a
    return relief + 0.035 * np.exp(-(((y - bone) / 0.04) ** 2)) * ramp(a, 0.08, 0.2) * ramp(
        a, 1.3, 0.8
    )


def _ear(sign: float, anchor: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    radius, angle = np.meshgrid(np.linspace(0, 1, 8), np.linspace(0, 2 * np.pi, 25), indexing="ij")
    lobe = 1 - 0.3 * ramp(np.sin(angle), 0.0, -1.0)
    across = 0.17 * radius * np.cos(angle) * lobe * size
    up = 0.30 * radius * np.sin(angle) * size - 0.02 * np.cos(angle) * radius
    rim = 0.035 * np.exp(-(((radius - 0.86) / 0.13) ** 2)) - 0.04 * np.exp(-((radius / 0.5) ** 2))
    away = 0.10 * size + across
    x = sign * (anchor[0] + 0.5 * away + 0.9 * rim)
    z = anchor[2] - 0.8 * away + 0.4 * rim
    points = np.stack([x, anchor[1] + up, z], -1).reshape(-1, 3)
    material = np.stack([radius, np.sin(angle)], -1).reshape(-1, 2)
    return points, material, _grid_triangles(8, 25)


def _curtain(identity: Identity, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([0x4A, identity.seed])
    bottom = -0.75 + rng.normal(0, 0.12) if identity.hairstyle == "bob" else -1.9
    heights = np.linspace(1.0, bottom, 26)
    front = 58 + 20 * rng.random()
    angle = np.deg2rad(np.concatenate([np.linspace(-180, -front, 20), np.linspace(front, 180, 20)]))
    fall = np.clip((1.0 - heights) / 1.2, 0, 1.3)
    radius = 0.42 + 0.30 * ramp(fall, 0.0, 0.38) + 0.8 * identity.hair_thickness
    radius = (radius + 0.11 * ramp(fall, 0.25, 0.75) + rng.normal(-0.02, 0.05) * fall) * width
    wave = 0.02 * identity.look.hair_wave * np.sin(9 * heights[:, None] + 3 * angle)
    x = (radius[:, None] + wave) * np.sin(angle)
    z = (radius[:, None] * 1.2 + wave) * np.cos(angle) - 0.04 - 0.05 * fall[:, None]
    y = np.broadcast_to(heights[:, None], x.shape)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    material = np.stack([np.broadcast_to(angle, x.shape), y], -1).reshape(-1, 2)
    triangles = _grid_triangles(26, 40)
    # The two locks do not meet over the face.
    keep = ~np.isin(np.arange(len(triangles)) // 2 % 39, [19])
    return points, material, triangles[keep]


def _strip(outer: np.ndarray, inner: np.ndarray, *, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    count = len(outer)
    i = np.arange(count if closed else count - 1)
    j = (i + 1) % count
    triangles = np.concatenate(
        [np.stack([i, i + count, j], 1), np.stack([j, i + count, j + count], 1)]
    )
    return np.concatenate([outer, inner]), triangles.astype(np.int32)


def _glasses(identity: Identity, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    half_width, half_height, roundness = identity.glasses_shape
    rim = identity.glasses
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    unit = np.stack([np.cos(angle), np.sin(angle)], 1)
    shape = unit / (np.abs(unit) ** roundness).sum(1, keepdims=True) ** (1 / roundness)
    depth = eyes[:, 2].mean() + 0.23
    height = eyes[:, 1].mean() - 0.03
    points, triangles, count = [], [], 0

    def add(strip: tuple[np.ndarray, np.ndarray]) -> None:
        nonlocal count
        points.append(strip[0])
        triangles.append(strip[1] + count)
        count += len(strip[0])

    def bent(x, y):
        return np.stack([x, y, depth - 0.2 * np.abs(x) ** 2 + 0 * y], -1)

    centre = np.abs(eyes[:, 0]).mean() + 0.01
    for sign in (-1, 1):
        size = np.array([half_width, half_height])
        outer, inner = shape * (size + rim / 2), shape * (size - rim / 2)
        add(
            _strip(
                *(bent(sign * centre + ring[:, 0], height + ring[:, 1]) for ring in (outer, inner)),
                closed=True,
            )
        )
        edge = centre + half_width
        x, z = np.array([edge, 0.71]), np.array([depth - 0.2 * edge**2, 0.0])
        arm = np.stack([sign * x, np.full(2, height + 0.5 * half_height), z], -1)
        add(_strip(arm + [0, 0.6 * rim, 0], arm - [0, 0.6 * rim, 0], closed=False))
    x = np.linspace(-1, 1, 7) * (centre - half_width)
    y = height + 0.035 - 0.02 * (x / max(abs(x[0]), 1e-3)) ** 2
    add(_strip(bent(x, y + 0.5 * rim), bent(x, y - 0.5 * rim), closed=False))
    return np.concatenate(points), np.zeros((count, 2)), np.concatenate(triangles)


def build_parts(identity: Identity, head: np.ndarray, eyes: np.ndarray, *, skull: float) -> Parts:
    """The parts of one person.

    head (ROWS, COLUMNS, 3) is the resting face with its hair; eyes (2, 3); skull: the head's half
    width at the ears without hair.
    """
    column = COLUMNS - 7
    side = np.abs(head[EAR_ROW]).max(0)[0]
    anchor = np.array([skull * 0.965, -0.2, 0.02])
    pieces = [(*_torso(identity.shape[0]), TORSO)]
    size = 1 + 0.08 * identity.shape[column % len(identity.shape)]
    if identity.hairstyle not in ("bob", "long"):
        pieces += [(*_ear(sign, anchor, size), EAR) for sign in (-1.0, 1.0)]
    else:
        pieces.append((*_curtain(identity, side / 0.715), CURTAIN))
    if identity.glasses:
        pieces.append((*_glasses(identity, eyes), FRAME))
    starts = ROWS * COLUMNS + np.cumsum([0] + [len(piece[0]) for piece in pieces])
    kinds = [np.full(len(piece[2]), piece[3], np.uint8) for piece in pieces]
    kinds = np.concatenate([_HEAD_KINDS, *kinds])
    return Parts(
        points=np.concatenate([piece[0] for piece in pieces]).astype(np.float32),
        normals=np.concatenate([_normals(piece[0], piece[2]) for piece in pieces]).astype(
            np.float32
        ),
        material=np.concatenate([piece[1] for piece in pieces]).astype(np.float32),
        body=np.concatenate([np.full(len(piece[0]), piece[3] == TORSO) for piece in pieces]),
        triangles=np.concatenate(
            [_HEAD_TRIANGLES]
            + [piece[2] + np.int32(start) for piece, start in zip(pieces, starts[:-1], strict=True)]
        ),
        kinds=kinds,
        two_sided=kinds >= EAR,
    )
