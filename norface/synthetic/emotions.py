"""Emotions as combinations of action units, after EMFACS (Friesen and Ekman 1983)."""

from __future__ import annotations

import numpy as np

PROTOTYPES: dict[str, tuple[tuple[dict[int, float], float], ...]] = {
    "neutral": (({}, 1.0),),
    "happiness": (
        ({6: 0.8, 12: 1.0, 25: 0.7}, 0.6), ({6: 0.7, 12: 0.9}, 0.25), ({6: 0.9, 12: 1.0, 25: 0.9, 26: 0.6}, 0.15),
    ),
    "sadness": (
        ({1: 0.9, 4: 0.7, 15: 0.9, 17: 0.5}, 0.5), ({1: 1.0, 4: 0.6, 15: 0.8}, 0.3), ({1: 0.6, 4: 0.8, 6: 0.5, 15: 0.9, 17: 0.8}, 0.2),
    ),
    "surprise": (({1: 0.9, 2: 0.9, 5: 0.8, 25: 0.7, 26: 0.9}, 0.8), ({1: 1.0, 2: 1.0, 5: 0.7}, 0.2)),
    "fear": (
        ({1: 0.9, 2: 0.7, 4: 0.7, 5: 0.9, 20: 0.8, 25: 0.7}, 0.6), ({1: 0.9, 2: 0.7, 4: 0.7, 5: 0.9, 7: 0.4, 20: 0.8, 25: 0.8, 26: 0.6}, 0.4),
    ),
    "disgust": (
        ({9: 1.0, 4: 0.4, 15: 0.6, 17: 0.6}, 0.4), ({9: 0.8, 10: 0.9, 25: 0.5}, 0.35), ({10: 1.0, 17: 0.6, 7: 0.5}, 0.25),
    ),
    "anger": (
        ({4: 1.0, 5: 0.6, 7: 0.8, 23: 0.9}, 0.35), ({4: 1.0, 7: 0.8, 24: 0.9, 17: 0.5}, 0.35), ({4: 0.9, 7: 0.8, 10: 0.7, 25: 0.7, 26: 0.4}, 0.3),
    ),
    "contempt": (({12: 0.45, 14: 0.9}, 0.5), ({14: 1.0}, 0.3), ({14: 0.8, 10: 0.4, 7: 0.3}, 0.2)),
}  # fmt: skip
"Emotion => (unit => share of the emotion's strength, chance of that variant)."

ONE_SIDED = {"contempt": 0.3}
"Largest difference between the halves of a face, beyond what every action shows."

EXCLUDES = {12: (15,), 15: (12,), 23: (25, 26), 24: (25, 26), 25: (23, 24), 26: (23, 24), 17: (26,)}
"Units that a random combination does not add to one another: opposite muscles."


def draw_emotion(rng: np.random.Generator, emotion: str) -> dict[int, float]:
    """Intensities 0..5 of one showing of an emotion, in two decimals."""
    variants = PROTOTYPES[emotion]
    units = variants[rng.choice(len(variants), p=[chance for _, chance in variants])][0]
    strength = rng.uniform(2.0, 5.0)
    shown = {unit: strength * share * rng.uniform(0.75, 1.25) for unit, share in units.items()}
    return {unit: round(float(min(value, 5.0)), 2) for unit, value in shown.items()}


def draw_combination(rng: np.random.Generator, units: tuple[int, ...]) -> dict[int, float]:
    """Intensities of three to eight units that need not mean anything, so that units decorrelate."""
    shown: dict[int, float] = {}
    for unit in rng.permutation(units)[: rng.integers(3, 9)]:
        unit = int(unit)
        if not any(unit in EXCLUDES.get(other, ()) for other in shown):
            shown[unit] = round(float(rng.uniform(0.8, 5.0)), 2)
    return shown
