"""Shape of heads: displacement fields of one standard deviation each, and their sum with hair."""

from __future__ import annotations

import numpy as np

from norface.synthetic.fields import SPOTS, Field, evaluate, pack
from norface.synthetic.head import MOUTH_V, POSITIONS, gaussian, ramp

_X = np.abs(POSITIONS[..., 0])


def _jaw(s):
    return gaussian(s.a, s.v, at=(0.75, -0.95), size=(0.35, 0.22))


FIELDS: dict[str, Field] = {
    "head width": lambda s: (0.055 * _X, 0.0, 0.0),
    "lower face length": lambda s: (0.0, -0.055 * np.clip((-0.35 - s.y) / 0.6, 0, 1.4), 0.0),
    "forehead height": lambda s: (0.0, 0.06 * ramp(s.v, 0.25, 0.9), 0.0),
    "jaw width": lambda s: (0.045 * _jaw(s), 0.0, 0.0),
    "jaw corner": lambda s: (0.0, -0.05 * gaussian(s.a, s.v, at=(0.8, -1.05), size=(0.3, 0.2)), 0.0),
    "chin width": lambda s: (0.045 * gaussian(s.a, s.v, at=(0.26, -1.06), size=(0.14, 0.12)), 0.0, 0.0),
    "chin forward": lambda s: (0.0, 0.0, 0.05 * gaussian(s.u, s.v, at=(0, -1.05), size=(0.25, 0.16))),
    "chin length": lambda s: (0.0, -0.055 * gaussian(s.u, s.v, at=(0, -1.12), size=(0.32, 0.16)), 0.0),
    "cheekbones": lambda s: (
        0.035 * gaussian(s.a, s.v, at=(0.62, -0.2), size=(0.25, 0.14)), 0.0,
        0.03 * gaussian(s.a, s.v, at=(0.45, -0.2), size=(0.15, 0.12)),
    ),
    "fullness": lambda s: (
        0.055 * gaussian(s.a, s.v, at=(0.62, -0.6), size=(0.25, 0.26)), 0.0,
        0.045 * gaussian(s.a, s.v, at=(0.45, -0.58), size=(0.17, 0.2)),
    ),
    "eye spacing": lambda s: (0.018 * gaussian(s.a, s.v, at=(0.32, 0.02), size=(0.2, 0.14)), 0.0, 0.0),
    "eye depth": lambda s: (0.0, 0.0, 0.03 * gaussian(s.a, s.v, at=(0.31, 0.0), size=(0.15, 0.1))),
    "brow ridge": lambda s: (0.0, 0.0, 0.028 * gaussian(s.a, s.v, at=(0.24, 0.17), size=(0.22, 0.07))),
    "brow height": lambda s: (
        0.0, 0.018 * gaussian(s.a, s.v, at=(0.3, 0.24), size=(0.3, 0.13)) * ramp(s.v, 0.06, 0.16), 0.0
    ),
    "nose length": lambda s: (0.0, -0.04 * gaussian(s.a, s.v, at=(0, -0.5), size=(0.2, 0.13)), 0.0),
    "nose width": lambda s: (
        0.028 * gaussian(s.a, s.v, at=(0.14, -0.47), size=(0.08, 0.09)), 0.0, 0.0
    ),
    "bridge height": lambda s: (0.0, 0.0, 0.035 * gaussian(s.u, s.v, at=(0, -0.12), size=(0.08, 0.17))),
    "bridge width": lambda s: (0.016 * gaussian(s.a, s.v, at=(0.08, -0.2), size=(0.05, 0.2)), 0.0, 0.0),
    "tip forward": lambda s: (0.0, 0.0, 0.05 * gaussian(s.u, s.v, at=(0, -0.43), size=(0.12, 0.11))),
    "tip up": lambda s: (0.0, 0.03 * gaussian(s.u, s.v, at=(0, -0.46), size=(0.1, 0.07)), 0.0),
    "nose hump": lambda s: (0.0, 0.0, 0.024 * gaussian(s.u, s.v, at=(0, -0.24), size=(0.07, 0.07))),
    "mouth width": lambda s: (
        0.03 * gaussian(s.a, s.v, at=(0.26, MOUTH_V), size=(0.13, 0.12)), 0.0, 0.0
    ),
    "mouth height": lambda s: (0.0, 0.025 * gaussian(s.a, s.v, at=(0, MOUTH_V), size=(0.36, 0.16)), 0.0),
    "lips forward": lambda s: (0.0, 0.0, 0.035 * gaussian(s.a, s.v, at=(0, MOUTH_V), size=(0.19, 0.1))),
    "lower lip forward": lambda s: (
        0.0, 0.0, 0.02 * gaussian(s.a, s.v, at=(0, -0.78), size=(0.17, 0.06)) * s.lower
    ),
    "temples": lambda s: (0.03 * gaussian(s.a, s.v, at=(0.75, 0.3), size=(0.22, 0.2)), 0.0, 0.0),
    "crown width": lambda s: (0.05 * ramp(s.v, 0.3, 0.9) * _X, 0.0, 0.0),
    "forehead slope": lambda s: (0.0, 0.0, -0.06 * ramp(s.v, 0.2, 0.9) * ramp(s.z, 0.0, 0.6)),
    "cheek hollow": lambda s: (
        -0.02 * gaussian(s.a, s.v, at=(0.58, -0.52), size=(0.15, 0.15)), 0.0,
        -0.03 * gaussian(s.a, s.v, at=(0.48, -0.5), size=(0.12, 0.14)),
    ),
    "socket": lambda s: (0.0, 0.0, -0.02 * gaussian(s.a, s.v, at=(0.22, 0.05), size=(0.1, 0.06))),
}  # fmt: skip
_CROOKED: dict[str, Field] = {
    "crooked nose": lambda s: (0.018 * gaussian(s.u, s.v, at=(0, -0.42), size=(0.14, 0.13)), 0.0, 0.0),
    "crooked mouth": lambda s: (
        0.016 * gaussian(s.u, s.v, at=(0, MOUTH_V), size=(0.26, 0.13)),
        0.014 * gaussian(s.u, s.v, at=(0, MOUTH_V), size=(0.26, 0.13)) * s.u / 0.25, 0.0,
    ),
    "crooked jaw": lambda s: (0.018 * ramp(s.v, -0.6, -1.05) * ramp(s.z, 0, 0.5), 0.0, 0.0),
    "crooked brows": lambda s: (
        0.0, 0.014 * np.sign(s.u) * gaussian(s.a, s.v, at=(0.32, 0.23), size=(0.16, 0.09)), 0.0
    ),
}  # fmt: skip
SHAPE_NAMES = [*FIELDS, *_CROOKED]
_SPREAD = dict.fromkeys(
    ["nose width", "bridge height", "bridge width", "tip forward", "tip up", "nose hump"], 2.1
)
_SPREAD |= {"cheekbones": 1.7, "eye spacing": 1.7, "nose length": 1.5}
_SPREAD |= {"mouth width": 1.3, "mouth height": 1.3, "lips forward": 1.3, "lower lip forward": 1.3}
SHAPE_SPREAD = np.array([_SPREAD.get(name, 1.05) for name in SHAPE_NAMES])
"""Standard deviation of each field's weight. People differ by their features: at 1 a network trained
on people takes several of them for one, while heads of twice the spread are caricatures, and mouths
and brows of such places hide what they do."""
BASIS = pack(
    [evaluate(field) for field in FIELDS.values()]
    + [evaluate(field, mirror=False) for field in _CROOKED.values()]
)
_S = SPOTS
