"""Triangles => which triangle each sample of the picture sees."""

from __future__ import annotations

import numba
import numpy as np

X, Y, PX, PY, PZ, NX, NY, NZ, U, V, HAIR, LIT, FLUSH, DARK, OIL = range(15)
"""Columns of a vertex: place in the picture in samples (X right, Y down), position and normal in
camera space, material coordinates, distance into the hair, share of the sky's light that comes
there, and the skin's redness, darkness and gloss."""


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def place_vertices(points, normals, bodies, material, rotations, distance, matrix, vertices):
    """Fill `vertices` (V, 15) float32 from points and normals (V, 3) in head space.

    bodies (V,) uint8: which of rotations (2, 3, 3) turns the vertex; distance: the camera's; matrix
    (2, 3): projected points, x right and y down, => samples.
    """
    for k in range(len(points)):
        turn = rotations[bodies[k]]
        for c in range(3):
            at = numba.float32(0.0)
            normal = numba.float32(0.0)
            for d in range(3):
                at += turn[c, d] * points[k, d]
                normal += turn[c, d] * normals[k, d]
            vertices[k, PX + c] = at
            vertices[k, NX + c] = normal
        near = distance / (distance - vertices[k, PZ])
        x, y = vertices[k, PX] * near, -vertices[k, PY] * near
        vertices[k, X] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
        vertices[k, Y] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
        for c in range(7):
            vertices[k, U + c] = material[k, c]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def rasterize(vertices, triangles, two_sided, side, nearest, seen):
    """Fill `seen` (side, side) int32 with the index of the nearest triangle, -1 where there is none.

    vertices as place_vertices makes them; triangles (T, 3); two_sided (T,): draw backs too; nearest
    (side, side) float32: scratch.
    """
    nearest[:] = -1e9
    seen[:] = -1
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = vertices[i, X], vertices[i, Y], vertices[j, X], vertices[j, Y]
        x2, y2 = vertices[k, X], vertices[k, Y]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        # Seen from the front, the triangles of the grids turn anticlockwise as y grows downwards.
        if area == 0.0 or (area > 0.0 and not two_sided[t]):
            continue
        left, right = (
            max(int(np.ceil(min(x0, x1, x2) - 0.5)), 0),
            int(np.floor(max(x0, x1, x2) - 0.5)),
        )
        top, low = max(int(np.ceil(min(y0, y1, y2) - 0.5)), 0), int(np.floor(max(y0, y1, y2) - 0.5))
        right, low = min(right, side - 1), min(low, side - 1)
        if right < left or low < top:
            continue
        inverse = 1.0 / area
        d0, d1, d2 = vertices[i, PZ], vertices[j, PZ], vertices[k, PZ]
        step1, step2 = (y2 - y0) * inverse, -(y1 - y0) * inverse
        for y in range(top, low + 1):
            py = y + 0.5 - y0
            px = left + 0.5 - x0
            w1 = (px * (y2 - y0) - (x2 - x0) * py) * inverse
            w2 = ((x1 - x0) * py - px * (y1 - y0)) * inverse
            for x in range(left, right + 1):
                if w1 >= -1e-5 and w2 >= -1e-5 and w1 + w2 <= 1.00001:
                    z = d0 + w1 * (d1 - d0) + w2 * (d2 - d0)
                    if z > nearest[y, x]:
                        nearest[y, x] = z
                        seen[y, x] = t
                w1 += step1
                w2 += step2


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def grid_normals(mesh, split, normals):
    """Unit normals (ROWS, COLUMNS, 3) of a grid mesh, not looking across the row after `split`."""
    rows, columns, _ = mesh.shape
    for r in range(rows):
        above, below = max(r - 1, 0), min(r + 1, rows - 1)
        if r == split:
            below = r
        if r == split + 1:
            above = r
        for c in range(columns):
            left, right = max(c - 1, 0), min(c + 1, columns - 1)
            ax = mesh[r, right, 0] - mesh[r, left, 0]
            ay = mesh[r, right, 1] - mesh[r, left, 1]
            az = mesh[r, right, 2] - mesh[r, left, 2]
            bx = mesh[above, c, 0] - mesh[below, c, 0]
            by = mesh[above, c, 1] - mesh[below, c, 1]
            bz = mesh[above, c, 2] - mesh[below, c, 2]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            size = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            normals[r, c, 0], normals[r, c, 1], normals[r, c, 2] = nx * size, ny * size, nz * size


@numba.njit(cache=True, nogil=True)
def add_reliefs(relief, sources, boxes, weights):
    """Sum of reliefs (R, H, W) with weights (R, 2), for u < 0 and u > 0, into relief (H, W)."""
    relief[:] = 0
    middle, blend = relief.shape[1] / 2, 12.0
    for k in range(len(sources)):
        left, right = weights[k, 0], weights[k, 1]
        if left == 0 and right == 0:
            continue
        for x in range(boxes[k, 2], boxes[k, 3]):
            share = min(max((x - middle) / blend + 0.5, 0.0), 1.0)
            weight = numba.float32(left + share * (right - left))
            for y in range(boxes[k, 0], boxes[k, 1]):
                relief[y, x] += weight * sources[k, y, x]


@numba.njit(cache=True, nogil=True)
def box_downsample(samples, factor, out):
    """(side * factor)^2 samples 0..1 => means (side, side, 3)."""
    side = out.shape[0]
    share = numba.float32(1.0 / (factor * factor))
    for y in range(side):
        for x in range(side):
            for c in range(3):
                total = numba.float32(0.0)
                for dy in range(factor):
                    for dx in range(factor):
                        total += samples[y * factor + dy, x * factor + dx, c]
                out[y, x, c] = total * share
