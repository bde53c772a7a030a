"""Who a face belongs to: everything about it that no expression changes, drawn from one seed."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from norface.synthetic.action_units import UNITS
from norface.synthetic.shape import SHAPE_NAMES, SHAPE_SPREAD


class Look(NamedTuple):
    """Numbers that the shading reads. Colours are linear RGB; lengths are head units (100 mm)."""

    skin_r: float
    skin_g: float
    skin_b: float
    blotch: float
    redness: float
    freckles: float
    oil: float
    lip_r: float
    lip_g: float
    lip_b: float
    lip_upper: float
    lip_lower: float
    lip_gloss: float
    hair_r: float
    hair_g: float
    hair_b: float
    hair_curl: float
    hair_wave: float
    brow_r: float
    brow_g: float
    brow_b: float
    brow_density: float
    brow_thickness: float
    brow_arch: float
    brow_start: float
    brow_end: float
    brow_tilt: float
    brow_height: float
    eye_half_width: float
    lid_upper: float
    lid_lower: float
    eye_tilt: float
    fold: float
    iris_r: float
    iris_g: float
    iris_b: float
    iris_size: float
    lash: float
    eye_shadow: float
    eye_bag: float
    stubble: float
    beard: float
    moustache: float
    goatee: float
    scalp: float
    noise_u: float
    noise_v: float
    shirt_r: float
    shirt_g: float
    shirt_b: float
    frame_r: float
    frame_g: float
    frame_b: float


@dataclasses.dataclass(frozen=True)
class Identity:
    """One person."""

    seed: int
    look: Look
    shape: np.ndarray
    "(len(SHAPE_NAMES),): weights of the shape fields; see shape.SHAPE_SPREAD."
    resting: np.ndarray
    "(2, len(UNITS)): what the relaxed face looks like, as intensities, for u < 0 and u > 0."
    moles: np.ndarray
    "(M, 3): u, v, radius."
    hairline: np.ndarray
    "(6,): heights of the hair's edge at HAIRLINE_U."
    hair_thickness: float
    parting: float
    hairstyle: str
    "bald, buzz, short, full, bob or long."
    glasses: float
    "0 = none, else the rim's thickness in head units."
    glasses_shape: tuple[float, float, float]
    "Half width, half height, roundness of a lens."
    age: float
    "0 young .. 1 old: how deep the lines are without any action."


SKIN_TONES = np.array(
    [
        [243, 214, 196], [236, 199, 176], [224, 181, 153], [211, 163, 131], [190, 140, 108],
        [164, 115, 86], [134, 89, 65], [103, 67, 49], [76, 49, 38],
    ]
)  # fmt: skip
HAIR_TONES = np.array(
    [
        [20, 17, 16], [38, 27, 22], [66, 44, 31], [98, 66, 42], [136, 94, 58], [176, 134, 86],
        [205, 170, 118], [142, 68, 34], [120, 116, 112], [205, 202, 198],
    ]
)  # fmt: skip
IRIS_TONES = np.array(
    [
        [58, 36, 22],
        [84, 54, 30],
        [112, 78, 40],
        [98, 106, 62],
        [86, 118, 132],
        [98, 138, 170],
        [120, 130, 136],
    ]
)
HAIRLINE_U = np.array([0.0, 0.3, 0.55, 0.8, 1.02, 1.3])


def to_linear(colour) -> np.ndarray:
    """sRGB 0..255 => linear 0..1 (gamma 2.2, the inverse of the picture's)."""
    return (np.asarray(colour, float) / 255) ** 2.2


def _between(tones: np.ndarray, position: float) -> np.ndarray:
    place = np.clip(position, 0, 1) * (len(tones) - 1)
    low = min(int(place), len(tones) - 2)
    return tones[low] + (place - low) * (tones[low + 1] - tones[low])


def _draw_resting(rng: np.random.Generator, age: float) -> np.ndarray:
    """Resting offsets: most small, some as large as an intensity of 2 (the confusion to undo)."""
    mean = np.zeros(len(UNITS))
    spread = {1: 0.57, 2: 0.57, 4: 0.44, 5: 0.35, 6: 0.53, 7: 0.7, 9: 0.35, 10: 0.53, 12: 0.48,
              14: 0.53, 15: 0.48, 17: 0.44, 20: 0.35, 23: 0.35, 24: 0.53, 25: 0.0, 26: 0.0}  # fmt: skip
    values = rng.normal(mean, [spread[unit] for unit in UNITS])
    # Brows rise or fall as a whole, and corners go up or down, rather than both.
    brow, corner = rng.normal(0, 0.48), rng.normal(0.26, 0.44)
    index = {unit: i for i, unit in enumerate(UNITS)}
    values[index[1]] += brow
    values[index[2]] += brow
    values[index[4]] -= 0.5 * brow
    values[index[12]] += corner
    values[index[15]] -= corner
    values[index[25]] = max(rng.normal(-0.8, 0.5), 0)
    values[index[10]] *= 0.5
    values += np.where(np.isin(UNITS, [6, 10, 15, 4]), 0.5 * age, 0)
    low = np.where(np.isin(UNITS, [1, 2, 4, 12, 15, 7, 5]), -1.2, -0.3)
    values = np.clip(values, low, 2.0)
    values[index[26]] = 0.0
    return values + rng.normal(0, 0.12, (2, len(UNITS))) * (np.array(UNITS) != 26)


@functools.lru_cache(maxsize=4096)
def draw_identity(seed: int) -> Identity:
    """The person of this seed; the same on every machine."""
    rng = np.random.default_rng([0x1D, seed])
    age = float(rng.beta(1.2, 2.0))
    masculine = rng.random() < 0.5
    tone = float(rng.random())
    skin = _between(SKIN_TONES, tone) * np.exp(rng.normal(0, 0.025, 3))
    dark_hair = np.clip(0.06 * rng.exponential(1), 0, 0.25)
    fair_hair = rng.random() * 0.72
    grey = rng.random() < max(age - 0.35, 0) * 1.3
    place = (
        0.86 + 0.14 * rng.random()
        if grey
        else (fair_hair if rng.random() > tone * 1.4 else dark_hair)
    )
    hair = _between(HAIR_TONES, place)
    brow = hair * (0.45 + 0.4 * rng.random())
    if grey and rng.random() < 0.6:
        brow = _between(HAIR_TONES, dark_hair + 0.1)
    iris = _between(IRIS_TONES, rng.random() * (0.25 if tone > 0.5 else 1.0))
    made_up = (not masculine) and rng.random() < 0.55
    lip_tint = (
        np.array([168, 74, 74])
        if not made_up
        else np.array([[170, 40, 58], [190, 70, 88], [140, 36, 70], [196, 92, 84]])[rng.integers(4)]
    )
    lip = (
        0.55 * skin * [0.95, 0.68, 0.66] + 0.45 * lip_tint
        if not made_up
        else 0.3 * skin + 0.7 * lip_tint
    )
    lip = lip * (1 - 0.35 * tone * (not made_up))
    styles = ["bald", "buzz", "short", "full", "bob", "long"]
    chance = (
        [0.1 + 0.2 * age, 0.2, 0.45, 0.12, 0.03, 0.05]
        if masculine
        else [0.01, 0.04, 0.15, 0.2, 0.25, 0.35]
    )
    style = styles[rng.choice(6, p=np.array(chance) / sum(chance))]
    height = rng.normal(0.60, 0.045) + 0.05 * age * masculine
    recede = max(rng.normal(0.02, 0.06), 0) + (0.12 * age * rng.random() if masculine else 0)
    if style in ("full", "bob", "long") and rng.random() < 0.4:
        height -= rng.uniform(0.1, 0.22)
        recede = 0.0
    hairline = np.array([
        height, height - 0.02 + 0.6 * recede, height - 0.10 + recede,
        rng.normal(0.24, 0.03) + 0.5 * recede, rng.normal(0.02, 0.05), -0.45,
    ])  # fmt: skip
    if style == "bald":
        hairline = np.array([1.6, 1.5, 1.2, 0.6 + 0.4 * rng.random(), 0.1, -0.4]) + (
            1.0 if rng.random() < 0.6 else 0
        )
    thickness = {"bald": 0.015, "buzz": 0.02, "short": rng.uniform(0.05, 0.13), "full": rng.uniform(0.14, 0.34),
                 "bob": rng.uniform(0.08, 0.18), "long": rng.uniform(0.06, 0.16)}[style]  # fmt: skip
    hairy = rng.random() if masculine else 1.0
    beard = rng.uniform(0.5, 1.0) if hairy < 0.16 else 0.0
    frames = to_linear(
        [[22, 20, 22], [60, 36, 24], [120, 96, 70], [40, 44, 80], [130, 30, 34], [150, 150, 155]][
            rng.integers(6)
        ]
    )
    shirt = to_linear(rng.uniform(20, 235, 3) * rng.uniform(0.4, 1) + 10)
    skin, hair, brow, iris, lip = map(
        to_linear, (np.clip(skin, 8, 252), hair, brow, iris, np.clip(lip, 8, 250))
    )
    look = Look(
        *skin, blotch=rng.uniform(0.03, 0.13), redness=rng.uniform(0.1, 1.0) * (1 - 0.6 * tone),
        freckles=max(rng.normal(-0.4, 0.7), 0) * (1 - 0.8 * tone), oil=rng.uniform(0.15, 0.8),
        lip_r=lip[0], lip_g=lip[1], lip_b=lip[2],
        lip_upper=float(np.clip(rng.normal(0.068, 0.025), 0.03, 0.115)),
        lip_lower=float(np.clip(rng.normal(0.092, 0.028), 0.045, 0.15)),
        lip_gloss=0.9 if made_up else rng.uniform(0.1, 0.5),
        hair_r=hair[0], hair_g=hair[1], hair_b=hair[2],
        hair_curl=rng.random() if tone < 0.5 else 0.5 + 0.5 * rng.random(), hair_wave=rng.uniform(0.2, 1.0),
        brow_r=brow[0], brow_g=brow[1], brow_b=brow[2],
        brow_density=rng.uniform(0.5, 1.0), brow_thickness=float(np.clip(rng.normal(0.040 + 0.010 * masculine, 0.011), 0.02, 0.075)),
        brow_arch=float(np.clip(rng.normal(0.045, 0.022), 0.0, 0.1)), brow_start=rng.normal(0.125, 0.025), brow_end=rng.normal(0.50, 0.03),
        brow_tilt=rng.normal(0.0, 0.045), brow_height=float(np.clip(rng.normal(0.205 + 0.012 * (not masculine), 0.02), 0.165, 0.255)),
        eye_half_width=float(np.clip(rng.normal(0.148, 0.012), 0.118, 0.176)), lid_upper=float(np.clip(rng.normal(0.052, 0.008), 0.037, 0.072)),
        lid_lower=float(np.clip(rng.normal(0.042, 0.008), 0.024, 0.062)), eye_tilt=float(np.clip(rng.normal(0.012, 0.021), -0.035, 0.06)), fold=float(np.clip(rng.normal(0.04, 0.02), 0.007, 0.09)),
        iris_r=iris[0], iris_g=iris[1], iris_b=iris[2], iris_size=rng.normal(0.062, 0.003),
        lash=rng.uniform(0.5, 1.0) if not masculine else rng.uniform(0.1, 0.6), eye_shadow=rng.uniform(0, 0.7) if made_up else 0.0,
        eye_bag=float(np.clip(rng.normal(0.2 + 0.5 * age, 0.25), 0, 1)),
        stubble=(rng.uniform(0.2, 1.0) if 0.16 < hairy < 0.5 else 0.0) if masculine else 0.0, beard=beard,
        moustache=max(beard, rng.uniform(0.5, 1.0) if 0.12 < hairy < 0.22 else 0.0), goatee=max(beard, rng.uniform(0.5, 1.0) if 0.2 < hairy < 0.27 else 0.0),
        scalp=0.55 if style == "buzz" else 1.0, noise_u=rng.uniform(0, 8), noise_v=rng.uniform(0, 8),
        shirt_r=shirt[0], shirt_g=shirt[1], shirt_b=shirt[2], frame_r=frames[0], frame_g=frames[1], frame_b=frames[2],
    )  # fmt: skip
    look = Look(*(float(value) for value in look))
    moles = np.stack(
        [rng.uniform(-0.55, 0.55, 4), rng.uniform(-1.0, 0.45, 4), rng.uniform(0.007, 0.016, 4)], 1
    )
    moles = moles[: max(rng.integers(-2, 5), 0)]
    shape = SHAPE_SPREAD * np.clip(rng.normal(0, 1, len(SHAPE_NAMES)), -1.7, 1.7)
    shape[SHAPE_NAMES.index("jaw width")] += 0.5 if masculine else -0.5
    shape[SHAPE_NAMES.index("brow ridge")] += 0.7 if masculine else -0.5
    return Identity(
        seed=seed, look=look, shape=shape, resting=_draw_resting(rng, age), moles=moles.astype(np.float64),
        hairline=hairline, hair_thickness=float(thickness), parting=float(rng.normal(0, 0.05)), hairstyle=style,
        glasses=float(rng.uniform(0.012, 0.034)) if rng.random() < 0.16 else 0.0,
        glasses_shape=(float(rng.uniform(0.21, 0.26)), float(rng.uniform(0.14, 0.2)), float(rng.uniform(2, 5))),
        age=age,
    )  # fmt: skip
