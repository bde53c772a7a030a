"""How well the source person can still be recognised from a normalized picture.

Not by similarity to the originals, which a generator can hide from, but by a probe that is trained
on normalized pictures themselves: half of each person's pictures enrol, the other half is asked,
and the other way round. What it finds at chance, no linear reader of these features recognises.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHRINKAGE = 0.1
"Share of the mean variance that is added to the covariance within persons."


class ProbeResult(NamedTuple):
    """A row a picture; NaN for pictures of persons with a single one."""

    rank1: np.ndarray
    "(N): 1 where the right person comes first, else 0; 1 / n where n of them tie for that."
    auc: np.ndarray
    "(N): share of the other persons that score below the right one, ties counting half."
    chance: float
    "Of rank1: 1 / persons. That of auc is 0.5."


def probe_identity(features: np.ndarray, person: np.ndarray) -> ProbeResult:
    """Features (N, F) and numbers of persons (N) => who is recognised.

    A linear discriminant: class means, one covariance within persons, shrunk.
    """
    rank1, auc = np.full(len(person), np.nan), np.full(len(person), np.nan)
    position = np.zeros(len(person), int)
    for one in np.unique(person):
        rows = np.flatnonzero(person == one)
        position[rows] = np.arange(len(rows)) if len(rows) > 1 else -1
    used = np.flatnonzero(position >= 0)
    persons = np.unique(person[used])
    if len(persons) < 2:
        return ProbeResult(rank1, auc, float("nan"))
    scaled = features - features[used].mean(axis=0)
    for half in (0, 1):
        enrolled = used[position[used] % 2 == half]
        asked = used[position[used] % 2 != half]
        scores = _discriminate(scaled[enrolled], person[enrolled], scaled[asked])
        own = scores[np.arange(len(asked)), np.searchsorted(persons, person[asked])][:, None]
        others = len(persons) - 1
        # The right person ties with itself; what cannot be told apart is guessed.
        tied = (scores == own).sum(axis=1)
        auc[asked] = ((scores < own).sum(axis=1) + (tied - 1) / 2) / others
        rank1[asked] = ((scores > own).sum(axis=1) == 0) / tied
    return ProbeResult(rank1, auc, 1 / len(persons))


def _discriminate(features: np.ndarray, person: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Scores (len(asked), persons) of a linear discriminant of enrolled features."""
    _, member = np.unique(person, return_inverse=True)
    sums = np.zeros((member.max() + 1, features.shape[1]))
    np.add.at(sums, member, features)
    means = sums / np.bincount(member)[:, None]
    within = features - means[member]
    covariance = within.T @ within / max(len(features) - len(means), 1)
    variance = np.trace(covariance) / len(covariance)
    covariance += np.eye(len(covariance)) * (SHRINKAGE * variance + 1e-12)
    weights = np.linalg.solve(covariance, means.T)
    return asked @ weights - 0.5 * (means * weights.T).sum(axis=1)
