"""Static textures: tileable noise, and the relief that each action unit folds into the skin."""

from __future__ import annotations

import numpy as np

from norface.synthetic.action_units import UNITS
from norface.synthetic.head import EYE_U, MOUTH_V, gaussian, ramp

NOISE_SIDE = 256
"Texels a period of the noise; one period spans one head unit at frequency 1."

RELIEF_U, RELIEF_V = (-0.8, 0.8), (-1.25, 0.75)
RELIEF_DENSITY = 160
"Texels a head unit."
RELIEF_SHAPE = (320, 256)
"Rows (downwards from v = 0.75) and columns of a relief."


def _smooth_noise(rng: np.random.Generator, exponent: float, low: float) -> np.ndarray:
    """Tileable noise of zero mean and unit variance with a power spectrum f^-exponent."""
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(NOISE_SIDE), np.fft.rfftfreq(NOISE_SIDE), indexing="ij")
    )
    spectrum = np.fft.rfft2(rng.standard_normal((NOISE_SIDE, NOISE_SIDE)))
    amplitude = np.where(
        frequency * NOISE_SIDE >= low, np.maximum(frequency, 1e-9) ** (-exponent / 2), 0
    )
    noise = np.fft.irfft2(spectrum * amplitude, s=(NOISE_SIDE, NOISE_SIDE))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def build_noise() -> np.ndarray:
    """(3, 256, 256) float32: broad blotches, fine grain, round spots (0..1)."""
    rng = np.random.default_rng(0xFACE)
    spots = np.zeros((NOISE_SIDE, NOISE_SIDE))
    ys, xs = np.mgrid[-9:10, -9:10]
    for y, x, radius, depth in zip(
        rng.integers(0, NOISE_SIDE, 450), rng.integers(0, NOISE_SIDE, 450),
        rng.uniform(0.8, 2.6, 450), rng.uniform(0.3, 1, 450), strict=True,
    ):  # fmt: skip
        dot = depth * np.clip(1.5 - np.hypot(ys, xs) / radius, 0, 1)
        rows, columns = (y + ys) % NOISE_SIDE, (x + xs) % NOISE_SIDE
        spots[rows, columns] = np.maximum(spots[rows, columns], dot)
    return np.stack(
        [_smooth_noise(rng, 2.6, 2), _smooth_noise(rng, 1.0, 24), spots.astype(np.float32)]
    )


NOISE = build_noise().ravel()

_U, _V = np.meshgrid(
    np.linspace(*RELIEF_U, RELIEF_SHAPE[1]), np.linspace(*RELIEF_V[::-1], RELIEF_SHAPE[0])
)
_A = np.abs(_U)


def _crease(distance: np.ndarray, width: float, strength) -> np.ndarray:
    """A groove along distance = 0 with swollen banks."""
    bank = np.exp(-(((np.abs(distance) - 2.3 * width) / (1.3 * width)) ** 2))
    return strength * (0.5 * bank - np.exp(-((distance / width) ** 2)))


def _distance_to_path(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance from a polyline in (a, v), and the share of its length passed, per texel."""
    nodes = np.array(points)
    lengths = np.hypot(*np.diff(nodes, axis=0).T)
    best, signed, share = np.full(_A.shape, 9.0), np.zeros(_A.shape), np.zeros(_A.shape)
    for i, (start, end) in enumerate(zip(nodes[:-1], nodes[1:], strict=True)):
        along = (end - start) / lengths[i]
        t = np.clip((_A - start[0]) * along[0] + (_V - start[1]) * along[1], 0, lengths[i])
        x, y = _A - start[0] - t * along[0], _V - start[1] - t * along[1]
        distance = np.hypot(x, y)
        nearer = distance < best
        best = np.where(nearer, distance, best)
        signed = np.where(nearer, distance * np.sign(x * along[1] - y * along[0]), signed)
        share = np.where(nearer, (lengths[:i].sum() + t) / lengths.sum(), share)
    return signed, share


def _fold(points, width: float, *, start: float = 0.15, end: float = 0.25) -> np.ndarray:
    """A crease along a path, fading in over `start` and out over `end` of its length."""
    distance, share = _distance_to_path(points)
    fade = ramp(share, 0, start) * (1 - ramp(share, 1 - end, 1))
    return _crease(distance, width, fade)


def _forehead(mask: np.ndarray, bend: float) -> np.ndarray:
    total = np.zeros(_A.shape)
    for line, (height, depth) in enumerate([(0.355, 0.8), (0.425, 1.0), (0.495, 0.9), (0.56, 0.6)]):
        wave = 0.008 * np.sin(9 * _U + 2.1 * line) + bend * (_A - 0.3) ** 2
        total += _crease(_V - height - wave, 0.011, depth * mask)
    return total


def _rays(centre, angles, *, start: float, end: float, width: float) -> np.ndarray:
    total = np.zeros(_A.shape)
    for angle in np.deg2rad(angles):
        direction = np.array([np.cos(angle), np.sin(angle)])
        first, last = centre + start * direction, centre + end * direction
        total += _fold([tuple(first), tuple(last)], width, start=0.3, end=0.5)
    return total


_NASOLABIAL = [(0.165, -0.42), (0.205, -0.5), (0.27, -0.6), (0.325, -0.7), (0.345, -0.79)]


def _build_reliefs() -> dict[int, np.ndarray]:
    under = 0.62 * gaussian(_A, _V, at=(EYE_U, 0), size=(0.5, 1))
    lid = np.hypot((_A - EYE_U) / 1.5, _V) - 0.062
    below = (_V < 0) * ramp(np.abs(_A - EYE_U), 0.19, 0.08)
    rng = np.random.default_rng(7)
    pebbles = sum(
        _crease(np.hypot(_U - x, _V + 0.99 - y), 0.016, 1.0)
        for x, y in zip(rng.uniform(-0.16, 0.16, 16), rng.uniform(-0.075, 0.075, 16), strict=True)
    )
    lips = 1 - ramp(np.abs(_V - MOUTH_V), 0.10, 0.16)
    reliefs = {
        1: 1.1 * _forehead(gaussian(_A, _V, at=(0, 0.46), size=(0.17, 0.14)), 0.05),
        2: 1.1 * _forehead(gaussian(_A, _V, at=(0.43, 0.44), size=(0.14, 0.13)), -0.9),
        4: 1.3 * _fold([(0.035, 0.07), (0.055, 0.17), (0.065, 0.36)], 0.013)
        + 0.6 * _crease(_V - 0.035, 0.013, gaussian(_U, _V, at=(0, 0.04), size=(0.07, 0.05))),
        6: 1.7 * _rays(np.array([0.49, -0.01]), (28, 8, -12, -32), start=0.03, end=0.2, width=0.012)
        + 1.2 * _fold([(0.2, -0.1), (0.33, -0.145), (0.47, -0.11)], 0.014),
        7: 1.2 * _crease(lid - 0.028, 0.014, under * below)
        + 0.5 * _rays(np.array([0.48, 0.0]), (-14,), start=0.0, end=0.1, width=0.008),
        9: 1.1 * _fold([(0.03, -0.1), (0.12, -0.02)], 0.011) + 1.0 * _fold([(0.035, -0.16), (0.13, -0.08)], 0.011)
        + 0.9 * _fold([(0.04, -0.22), (0.13, -0.14)], 0.011) + 1.0 * _fold([(0.12, -0.30), (0.2, -0.42), (0.24, -0.52)], 0.014)
        + 1.2 * _crease(_V - 0.01, 0.012, gaussian(_U, _V, at=(0, 0.01), size=(0.06, 0.05))),
        10: 1.4 * _fold([(0.15, -0.37), *_NASOLABIAL[1:4]], 0.017),
        12: 1.3 * _fold(_NASOLABIAL, 0.017) + 0.6 * _fold([(0.36, -0.62), (0.4, -0.74), (0.38, -0.86)], 0.014),
        14: 2.2 * _fold([(0.285, -0.63), (0.315, -0.72), (0.29, -0.81)], 0.019, start=0.3, end=0.3),
        15: 1.4 * _fold([(0.27, -0.73), (0.305, -0.82), (0.32, -0.95)], 0.016, start=0.1),
        17: 1.5 * pebbles * gaussian(_U, _V, at=(0, -0.99), size=(0.13, 0.07))
        + 1.2 * _crease(_V + 0.885 - 0.9 * _U**2, 0.016, gaussian(_U, _V, at=(0, -0.88), size=(0.12, 0.06))),
        20: 1.2 * _fold([(0.36, -0.6), (0.4, -0.72), (0.38, -0.86)], 0.014)
        + 0.9 * _fold([(0.44, -0.62), (0.48, -0.74), (0.45, -0.88)], 0.014),
        23: 0.45 * sum(_crease(_U - x, 0.009, lips * np.exp(-((x / 0.16) ** 2))) for x in np.linspace(-0.18, 0.18, 9)),
        24: 1.3 * _crease(_V - MOUTH_V - 0.085, 0.014, ramp(_A, 0.26, 0.16))
        + 1.3 * _crease(_V - MOUTH_V + 0.105, 0.014, ramp(_A, 0.26, 0.16)),
    }  # fmt: skip
    return {unit: relief.astype(np.float32) for unit, relief in reliefs.items()}


def _build_age() -> np.ndarray:
    """Lines of old skin, whatever the face does."""
    reliefs = RELIEF_BY_UNIT
    lines = (
        0.35 * reliefs[1]
        + 0.3 * reliefs[2]
        + 0.25 * reliefs[4]
        + 0.35 * reliefs[6]
        + 0.3 * reliefs[7]
    )
    return (lines + 0.5 * reliefs[12] + 0.4 * reliefs[15]).astype(np.float32)


RELIEF_BY_UNIT = _build_reliefs()
RELIEFS = np.stack([*RELIEF_BY_UNIT.values(), _build_age()])
"(R, 320, 256) float32: one relief a unit that has one; the last is age."
RELIEF_UNITS = np.array([UNITS.index(unit) for unit in RELIEF_BY_UNIT])
"(R - 1,): position in UNITS of each relief but the last."
RELIEF_BOXES = np.array(
    [
        [there.any(1).nonzero()[0][0], there.any(1).nonzero()[0][-1] + 1,
         there.any(0).nonzero()[0][0], there.any(0).nonzero()[0][-1] + 1]
        for there in np.abs(RELIEFS) > 0.004
    ]
)  # fmt: skip
"(R, 4): rows and columns in which each relief is not flat."
