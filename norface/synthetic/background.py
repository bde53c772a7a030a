"""What is behind the face: a gradient and soft shapes, drawn from a seed."""

from __future__ import annotations

import functools

import numpy as np

from norface.synthetic.identity import to_linear


@functools.lru_cache(maxsize=4096)
def draw_scene(seed: int) -> np.ndarray:
    """(N, 10) float32. Row 0: two colours, the gradient's direction (x, y), two zeros.

    Other rows: colour, centre x, y, four numbers that take the offset from the centre to the unit
    disc or square, softness of the edge (negative = a rectangle).
    """
    rng = np.random.default_rng([0xBA, seed])
    grey = np.full(3, rng.uniform(25, 230))
    base = to_linear(grey + rng.uniform(0, 0.75) * (rng.uniform(15, 235, 3) - grey))
    other = np.clip(base * np.exp(rng.normal(0, 0.45, 3)) + 0.02, 0, 0.9)
    angle = rng.uniform(0, 2 * np.pi)
    rows = [[*base, *other, np.cos(angle), np.sin(angle), 0, 0]]
    for number in range(rng.integers(0, 6)):
        mix = np.clip(base * np.exp(rng.normal(0, 0.8, 3)) + rng.uniform(0, 0.12), 0, 0.95)
        soft = (0.12, 0.37, 0.62)[number % 3] * (-1 if rng.random() < 0.5 else 1)
        x, y = rng.uniform(-0.1, 1.1, 2)
        width, height, tilt = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.6), rng.uniform(-0.4, 0.4)
        c, s = np.cos(tilt), np.sin(tilt)
        rows.append([*mix, x, y, c / width, s / width, -s / height, c / height, soft])
    return np.array(rows, np.float32)
