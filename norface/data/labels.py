"""The one table of label names and orders: action units (FACS) and emotions."""

from __future__ import annotations

ACTION_UNITS: dict[int, str] = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser",
    6: "cheek raiser", 7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser",
    12: "lip corner puller", 14: "dimpler", 15: "lip corner depressor", 17: "chin raiser",
    20: "lip stretcher", 23: "lip tightener", 24: "lip pressor", 25: "lips part", 26: "jaw drop",
}  # fmt: skip
"FACS numbers and names of every unit that a supported corpus codes."

EMOTIONS = (
    "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt",
)  # fmt: skip
"Class order of emotion recognition; a corpus of seven classes leaves out the last."

PRESENT_FROM = 2
"An action unit counts as present from this intensity (0..5) upwards."

DETECTION_UNITS: dict[str, tuple[int, ...]] = {
    "bp4d": (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
    "bp4dplus": (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
    "disfa": (1, 2, 4, 6, 9, 12, 25, 26),
    "disfaplus": (1, 2, 4, 6, 9, 12, 25, 26),
    "synthetic": (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 25, 26),
}
"Units that AU detection is reported on, a corpus at a time (sources: docs/datasets)."

INTENSITY_UNITS: dict[str, tuple[int, ...]] = {
    "bp4d": (6, 10, 12, 14, 17),
    "bp4dplus": (6, 10, 12, 14, 17),
    "disfa": (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26),
    "disfaplus": (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26),
    "synthetic": (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 25, 26),
}
"Units that AU intensity estimation is reported on."


def unit_name(unit: int) -> str:
    """12 => 'AU12', the name used in predictions, tables and metrics."""
    return f"AU{unit}"


def is_present(intensity: float) -> bool:
    """Whether an intensity (0..5) counts as an active unit."""
    return intensity >= PRESENT_FROM
