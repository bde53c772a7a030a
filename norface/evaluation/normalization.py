"""How good is a normalization? Plain measures on arrays; no network is imported here.

On synthetic faces the true normalized face is known; it is used here to measure, never to train.
"""

from __future__ import annotations

import numpy as np

BROWS = slice(17, 27)
"The brows among the 68 landmarks."
MOUTH = slice(48, 68)
"The mouth among the 68 landmarks."


def nearer_to_target(normalized: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Share of normalized faces that look more like the target than like their own person.

    normalized (N, D): unit-length identity embeddings of the normalized faces; source (N, D): of
    the original's person (unit length, from the originals); target (D,). 0..1.
    """
    to_target = normalized @ target
    to_source = (normalized * source).sum(axis=1)
    return float((to_target > to_source).mean())


def average_persons(embedding: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(N, D) embeddings => for each sample the unit-length mean embedding of its person (N, D)."""
    persons, member = np.unique(person, return_inverse=True)
    sums = np.zeros((len(persons), embedding.shape[1]), embedding.dtype)
    np.add.at(sums, member, embedding)
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True))[member]


def spread_cut(original: np.ndarray, normalized: np.ndarray) -> float:
    """1 - sd(normalized) / sd(original) of an angle (N,): 1 = all alike, 0 = as before."""
    return float(1 - np.std(normalized) / np.std(original))


def intensity_correlation(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Pearson r of each action unit: truth and found (N, A) => (A,); NaN truths are left out.

    A unit whose truth or reading does not vary carries no information: r is 0.
    """
    values = np.zeros(truth.shape[1])
    for column, (true, read) in enumerate(zip(truth.T, found.T, strict=True)):
        known = ~np.isnan(true)
        if known.sum() > 1 and true[known].std() > 0 and read[known].std() > 0:
            values[column] = np.corrcoef(true[known], read[known])[0, 1]
    return values


def region_box(landmarks: np.ndarray, side: int, margin: float = 0.1) -> tuple[slice, slice]:
    """Rows and columns of the box around landmarks (P, 2; 0..1), each edge moved out by `margin`
    of the box's size and cut at the picture's edge."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    grow = margin * (high - low)
    left, top = np.floor(np.clip(low - grow, 0, 1) * side).astype(int)
    right, bottom = np.ceil(np.clip(high + grow, 0, 1) * side).astype(int)
    return slice(top, bottom), slice(left, right)


def region_error(pixels: np.ndarray, truth: np.ndarray, landmarks: np.ndarray) -> float:
    """Sum of |pixels - truth| over the boxes around mouth and brows of the truth's 68 landmarks.

    pixels and truth (S, S, 3) uint8; landmarks (68, 2), 0..1. A pixel in both boxes counts once.
    """
    inside = np.zeros(truth.shape[:2], bool)
    for region in (MOUTH, BROWS):
        inside[region_box(landmarks[region], len(truth))] = True
    return float(np.abs(pixels[inside].astype(np.float64) - truth[inside]).sum())
