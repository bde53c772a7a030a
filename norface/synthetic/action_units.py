"""What each action unit does to the skin: displacement fields at intensity 5.

The fields follow the muscles of the FACS manual: where the skin is pulled, and from where. Opening
of the mouth uses the displacement of an opening crack, Im sqrt(w^2 - a^2) - Im w with w = u + iv:
it parts the two lips' edges elliptically, meets at the corners and dies away in the cheeks.
"""

from __future__ import annotations

import numpy as np

from norface.data.labels import ACTION_UNITS
from norface.synthetic.fields import SPOTS, Field, Spots, evaluate, pack
from norface.synthetic.head import MOUTH_HALF_WIDTH, MOUTH_V, gaussian, ramp

UNITS = tuple(ACTION_UNITS)
"Order of the units in every array of this package."
_CORNER = MOUTH_HALF_WIDTH + 0.01


def _crack(s: Spots) -> np.ndarray:
    """-1 .. 1: +1 at the middle of the upper lip's edge, -1 at the lower's, 0 far away."""
    v = s.v - MOUTH_V
    w = s.u + 1j * np.where(v == 0, np.where(s.lower, -1e-9, 1e-9), v)
    root = w * np.sqrt(1 - (MOUTH_HALF_WIDTH / w) ** 2)
    opening = (root.imag - w.imag) / MOUTH_HALF_WIDTH
    return opening * np.exp(-((v / 0.3) ** 2)) * np.exp(-((s.u / 0.45) ** 4))


def _above_the_eye(s: Spots) -> np.ndarray:
    """0 at the lids, 1 at the brows, so that the eye's opening keeps its place."""
    return ramp(s.v, 0.085, 0.185)


def _lips(s: Spots) -> np.ndarray:
    """1 on the lips, 0 a lip's height away."""
    size = np.where(s.lower, 0.13, 0.11)
    inside = 1 - ramp(np.abs(s.v - MOUTH_V), size * 0.7, size * 1.3)
    return inside * (1 - ramp(s.a, 0.22, 0.3))


def _au1(s: Spots):
    lift = gaussian(s.a, s.v, at=(0.12, 0.23), size=(0.13, 0.13)) * _above_the_eye(s)
    return -0.02 * lift, 0.165 * lift, 0.01 * lift


def _au2(s: Spots):
    lift = gaussian(s.a, s.v, at=(0.45, 0.22), size=(0.16, 0.13)) * _above_the_eye(s)
    return 0.0, 0.165 * lift, 0.01 * lift


def _au4(s: Spots):
    drop = gaussian(s.a, s.v, at=(0.25, 0.22), size=(0.25, 0.11)) * ramp(s.v, 0.04, 0.12)
    gather = gaussian(s.a, s.v, at=(0.17, 0.2), size=(0.12, 0.1))
    bulge = gaussian(s.a, s.v, at=(0.09, 0.17), size=(0.07, 0.07))
    return -0.12 * gather * ramp(s.a, 0.0, 0.1), -0.16 * drop, 0.04 * bulge


def _au5(s: Spots):
    lift = gaussian(s.a, s.v, at=(0.315, 0.13), size=(0.12, 0.05))
    return 0.0, 0.015 * lift, -0.012 * lift


def _au6(s: Spots):
    cheek = gaussian(s.a, s.v, at=(0.37, -0.27), size=(0.13, 0.11)) * (1 - ramp(s.v, -0.12, -0.04))
    return 0.02 * cheek, 0.095 * cheek, 0.095 * cheek


def _au7(s: Spots):
    bulge = gaussian(s.a, s.v, at=(0.315, -0.075), size=(0.12, 0.03))
    return 0.0, 0.012 * bulge, 0.018 * bulge


def _au9(s: Spots):
    wing = gaussian(s.a, s.v, at=(0.13, -0.43), size=(0.08, 0.12))
    lip = gaussian(s.a, s.v, at=(0.08, -0.62), size=(0.13, 0.07)) * ~s.lower
    brow = gaussian(s.a, s.v, at=(0.1, 0.2), size=(0.11, 0.09)) * ramp(s.v, 0.04, 0.12)
    root = gaussian(s.a, s.v, at=(0.09, -0.1), size=(0.05, 0.1))
    cheek = gaussian(s.a, s.v, at=(0.26, -0.24), size=(0.1, 0.09))
    up = 0.09 * wing + 0.035 * lip - 0.065 * brow + 0.025 * cheek
    return 0.02 * wing - 0.02 * brow, up, 0.03 * root + 0.03 * cheek + 0.015 * wing


def _au10(s: Spots):
    crack = np.maximum(_crack(s), 0)
    lip = gaussian(s.a, s.v, at=(0.13, -0.63), size=(0.12, 0.09)) * np.where(s.lower, 0, 1)
    lip = lip * (1 - ramp(s.v, MOUTH_V + 0.03, MOUTH_V)) + 0.9 * crack * ramp(s.a, -0.16, 0.08)
    cheek = gaussian(s.a, s.v, at=(0.26, -0.42), size=(0.09, 0.1))
    return 0.0, 0.13 * lip + 0.04 * cheek, 0.03 * lip + 0.05 * cheek


def _au12(s: Spots):
    corner = gaussian(s.a, s.v, at=(0.28, -0.70), size=(0.14, 0.12))
    cheek = gaussian(s.a, s.v, at=(0.4, -0.42), size=(0.12, 0.12))
    thin = _lips(s) * (s.v - MOUTH_V)
    middle = gaussian(s.a, s.v, at=(0.0, MOUTH_V), size=(0.12, 0.1))
    up = 0.155 * corner * ramp(s.a, 0.0, 0.27) + 0.035 * cheek - 0.35 * thin + 0.01 * middle
    return 0.10 * corner * ramp(s.a, 0.0, 0.25), up, 0.07 * cheek - 0.045 * corner


def _au14(s: Spots):
    pit = gaussian(s.a, s.v, at=(0.29, MOUTH_V), size=(0.05, 0.06))
    corner = gaussian(s.a, s.v, at=(0.26, MOUTH_V), size=(0.09, 0.07))
    ring = gaussian(s.a, s.v, at=(0.39, MOUTH_V), size=(0.05, 0.1))
    return 0.036 * corner * ramp(s.a, 0, 0.25), 0.015 * corner, -0.115 * pit + 0.058 * ring


def _au15(s: Spots):
    corner = gaussian(s.a, s.v, at=(0.27, MOUTH_V - 0.02), size=(0.12, 0.1)) * ramp(s.a, 0.05, 0.25)
    pouch = gaussian(s.a, s.v, at=(0.3, -0.87), size=(0.07, 0.06))
    return 0.125 * corner, -0.09 * corner - 0.02 * pouch, -0.02 * corner + 0.04 * pouch


def _au17(s: Spots):
    chin = gaussian(s.u, s.v, at=(0, -0.98), size=(0.19, 0.11))
    lip = gaussian(s.u, s.v, at=(0, -0.78), size=(0.15, 0.1))
    above = gaussian(s.u, s.v, at=(0, -0.68), size=(0.14, 0.06))
    up = 0.10 * chin + 0.09 * lip + 0.03 * above * ~s.lower
    edge = np.where(s.v >= MOUTH_V, 0.02, 0.06)
    return -0.02 * _lips(s) * ramp(s.a, 0, 0.2), up, 0.06 * chin + edge * lip


def _au20(s: Spots):
    corner = gaussian(s.a, s.v, at=(0.29, MOUTH_V - 0.01), size=(0.17, 0.12)) * ramp(s.a, 0, 0.24)
    thin = _lips(s) * (s.v - MOUTH_V)
    below = gaussian(s.a, s.v, at=(0.3, -0.9), size=(0.12, 0.1))
    return 0.19 * corner + 0.035 * below, 0.035 * corner - 0.335 * thin, -0.04 * corner


def _au23(s: Spots):
    narrow = gaussian(s.a, s.v, at=(0.25, MOUTH_V), size=(0.12, 0.1)) * ramp(s.a, 0.0, 0.22)
    thin = _lips(s) * (s.v - MOUTH_V)
    around = gaussian(s.a, s.v, at=(0.0, MOUTH_V), size=(0.2, 0.12))
    return -0.06 * narrow, -0.45 * thin, 0.045 * around


def _au24(s: Spots):
    thin = _lips(s) * (s.v - MOUTH_V)
    bulge = gaussian(s.a, s.v, at=(0.0, MOUTH_V + 0.12), size=(0.17, 0.035))
    bulge = bulge + gaussian(s.a, s.v, at=(0.0, MOUTH_V - 0.14), size=(0.17, 0.035))
    press = _lips(s) * (1 - ramp(s.a, 0.1, 0.28))
    return -0.015 * press * ramp(s.a, 0, 0.2), -0.8 * thin, 0.045 * bulge - 0.06 * press


def _au25(s: Spots):
    crack = _crack(s)
    open_ = np.where(crack > 0, 0.014, 0.155) * crack
    return 0.0, open_, 0.023 * np.abs(crack)


def _au26(s: Spots):
    crack = _crack(s)
    below = ramp(s.v, -0.45, -1.0)
    weight = below - 0.40 * np.maximum(crack, 0) + 0.52 * np.maximum(-crack, 0)
    reach = np.clip(s.z / 0.8, 0, 1) * (1 - ramp(s.a, 0.75, 1.15))
    narrow = gaussian(s.a, s.v, at=(0.25, MOUTH_V), size=(0.12, 0.13)) * ramp(s.a, 0, 0.25)
    hollow = gaussian(s.a, s.v, at=(0.48, -0.6), size=(0.12, 0.16))
    drop = weight * reach
    return -0.04 * narrow - 0.03 * hollow, -0.33 * drop, -0.09 * drop - 0.03 * hollow


FIELDS: dict[int, Field] = {
    1: _au1, 2: _au2, 4: _au4, 5: _au5, 6: _au6, 7: _au7, 9: _au9, 10: _au10, 12: _au12,
    14: _au14, 15: _au15, 17: _au17, 20: _au20, 23: _au23, 24: _au24, 25: _au25, 26: _au26,
}  # fmt: skip


def _au1_and_4(s: Spots):
    lift = gaussian(s.a, s.v, at=(0.11, 0.22), size=(0.13, 0.12)) * _above_the_eye(s)
    return 0.0, 0.14 * lift, 0.0


def _au2_and_4(s: Spots):
    outer = gaussian(s.a, s.v, at=(0.45, 0.22), size=(0.15, 0.12)) * _above_the_eye(s)
    inner = gaussian(s.a, s.v, at=(0.18, 0.21), size=(0.13, 0.1)) * ramp(s.v, 0.04, 0.12)
    return 0.0, -0.07 * outer - 0.02 * inner, 0.0


def _held_corner(s: Spots):
    corner = gaussian(s.a, s.v, at=(0.29, MOUTH_V - 0.01), size=(0.16, 0.12)) * ramp(s.a, 0, 0.24)
    return -0.09 * corner, 0.0, 0.0


TOGETHER: dict[tuple[int, int], Field] = {
    (1, 4): _au1_and_4, (2, 4): _au2_and_4,
    (12, 15): _held_corner, (12, 20): _held_corner, (15, 20): _held_corner,
}  # fmt: skip
"""What two units at 5 do beyond their sum: the frontalis overcomes the corrugator's pull downwards,
so that inner brows are drawn together and up (FACS 1+4); outer ones rise less against a frown (2+4);
a mouth that is stretched already is not stretched as far again."""


def build_basis():
    """Two fields a unit, then a pair: the half with u < 0, then the other; order of `weigh`."""
    right = ramp(SPOTS.u, -0.07, 0.07)[..., None]
    halves = []
    for source in [FIELDS[unit] for unit in UNITS] + list(TOGETHER.values()):
        field = evaluate(source)
        halves += [field * (1 - right), field * right]
    return pack(halves)


BASIS = build_basis()


def weigh(total: np.ndarray) -> np.ndarray:
    """Weights of BASIS' fields for intensities total (2, len(UNITS)), u < 0 then u > 0."""
    share = total.T / 5
    pairs = [
        np.prod(np.clip(share[[UNITS.index(unit) for unit in pair]], 0, None), axis=0)
        for pair in TOGETHER
    ]
    return np.concatenate([share, pairs]).ravel()


def lid_heights(
    total: np.ndarray, upper: float, lower: float, closed: float = 0.0
) -> tuple[float, float]:
    """Heights of one eye's upper and lower lid edge over its axis, in head units.

    total (len(UNITS),): intensities of that half of the face, resting ones included.
    upper, lower: the edges of the relaxed eye, both positive. closed: 0 open .. 1 shut, when the
    upper edge passes below the lower one, so that no curve of theirs leaves a slit.
    """
    at = dict(zip(UNITS, total / 5, strict=True))
    squint = 0.22 * at[6] + 1.1 * at[7] + 0.12 * at[9] + 0.1 * at[12]
    raised = upper * (1 - 0.46 * at[7] - 0.04 * at[4] - 0.06 * at[6]) + 0.07 * at[5]
    dropped = lower * (1 + 0.3 * at[5]) - 0.055 * squint
    raised = max(raised, 0.012)
    dropped = max(dropped, 0.022 - raised)
    return raised - closed * (raised + 1.15 * dropped + 0.004), dropped
