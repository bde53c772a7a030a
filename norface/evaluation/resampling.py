"""Intervals of figures that are functions of sums over faces, by drawing persons.

    sums = sum_by_person(terms, person)                      # (P, ...) of terms (N, ...)
    interval = bootstrap_sums(sums, ratio, draw_counts(len(sums), draws=2000, seed=0))

Frames of one person resemble each other, so persons are drawn with replacement, as many as there
are. The draws depend on their number and the seed only, so two sets are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from norface.evaluation.statistics import Interval, make_interval

PERSONS_AT_ONCE = 32
"Of `draw_moments`."

Value = Callable[[np.ndarray], np.ndarray]
"Sums (..., terms) => the figure of each."


def draw_counts(persons: int, *, draws: int, seed: int) -> np.ndarray:
    """How often each person is drawn: float (draws, persons), each row summing to `persons`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(persons, np.full(persons, 1 / persons), size=draws).astype(float)


def sum_by_person(terms: np.ndarray, person: np.ndarray) -> np.ndarray:
    """terms (N, ...) of faces, person (N) numbered from 0 => sums (P, ...)."""
    sums = np.zeros((int(person.max()) + 1, *terms.shape[1:]))
    np.add.at(sums, person, terms)
    return sums


def bootstrap_sums(sums: np.ndarray, value: Value, counts: np.ndarray) -> Interval:
    """The figure `value` of all persons' sums (P, ...), with the interval of its draws."""
    drawn = value(np.tensordot(counts, sums, axes=1))
    drawn = drawn[np.isfinite(drawn)]
    point = float(value(sums.sum(axis=0)))
    return make_interval(point, drawn) if len(drawn) else Interval(point, np.nan, np.nan)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) => first over second: a mean where the second counts."""
    return _divide(sums[..., 0], sums[..., 1])


def mean_terms(values: np.ndarray) -> np.ndarray:
    """Values (N) => terms (N, 2) for `ratio`; NaN values are left out."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0), known], axis=1)


def pearson_terms(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, T) twice => terms (N, T, 6) of Pearson's r a column; a pair with a NaN is left out."""
    known = ~(np.isnan(first) | np.isnan(second))
    x, y = np.where(known, first, 0), np.where(known, second, 0)
    return np.stack([known, x, y, x * x, y * y, x * y], axis=-1).astype(np.float64)


def mean_pearson(sums: np.ndarray) -> np.ndarray:
    """Sums (..., T, 6) => mean over the columns of r; r of a column that does not vary is 0."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.clip(count * xx - x * x, 0, None) * np.clip(count * yy - y * y, 0, None))
    below = np.where(spread > 1e-9 * np.maximum(count, 1) ** 2, spread, np.inf)
    return ((count * xy - x * y) / below).mean(axis=-1)


def spread_terms(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(N, B) twice => terms (N, 1 + 4 B) for `spread_cut`."""
    ones = np.ones((len(before), 1))
    return np.concatenate([ones, before, before**2, after, after**2], axis=1).astype(np.float64)


def spread_cut(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 1 + 4 B) => 1 - sd(after) / sd(before), the standard deviations averaged over the
    B numbers: 1 = all alike, 0 = as before."""
    count = sums[..., :1]
    x, xx, y, yy = np.split(sums[..., 1:] / count, 4, axis=-1)
    before = np.sqrt(np.clip(xx - x * x, 0, None)).mean(axis=-1)
    after = np.sqrt(np.clip(yy - y * y, 0, None)).mean(axis=-1)
    return 1 - _divide(after, before)


def sum_moments(features: np.ndarray) -> np.ndarray:
    """features (N, F) => (1 + F + F F): their number, sum and sum of products, for `frechet`."""
    features = features.astype(np.float64)
    products = features.T @ features
    return np.concatenate([[len(features)], features.sum(axis=0), products.ravel()])


def draw_moments(
    features: np.ndarray, person: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`sum_moments` of all faces (M), and of every draw of persons (draws, M).

    features (N, F), person (N) numbered from 0, counts (draws, persons). Persons are added up a few
    at a time: F F numbers for each face, or for each person, would not fit in memory.
    """
    persons, size = counts.shape[1], 1 + features.shape[1] + features.shape[1] ** 2
    order = np.argsort(person, kind="stable")
    starts = np.searchsorted(person[order], np.arange(persons + 1))
    total, drawn = np.zeros(size), np.zeros((len(counts), size))
    for first in range(0, persons, PERSONS_AT_ONCE):
        numbers = range(first, min(first + PERSONS_AT_ONCE, persons))
        sums = np.stack(
            [sum_moments(features[order[starts[one] : starts[one + 1]]]) for one in numbers]
        )
        total += sums.sum(axis=0)
        drawn += counts[:, first : first + len(sums)] @ sums
    return total, drawn


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two Gaussians, from the sums (1 + F + F F) of `sum_moments`.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2): FID of Heusel et al. 2017 for the features
    of whatever network made them.
    """
    mean_one, covariance_one = _moments(first)
    mean_two, covariance_two = _moments(second)
    values, vectors = np.linalg.eigh(covariance_one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariance_two @ root)
    apart = float(((mean_one - mean_two) ** 2).sum())
    spread = float(np.trace(covariance_one) + np.trace(covariance_two))
    return apart + spread - 2 * float(np.sqrt(shared.clip(min=0)).sum())


def _moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = sums[0]
    width = round((np.sqrt(4 * len(sums) - 3) - 1) / 2)
    mean = sums[1 : 1 + width] / count
    second = sums[1 + width :].reshape(width, width) / count
    return mean, second - np.outer(mean, mean)


def bootstrap_frechet(
    first: np.ndarray, second: np.ndarray, person: np.ndarray, counts: np.ndarray
) -> Interval:
    """`frechet` of features (N, F) twice, of the same persons (N), with an interval.

    Drawing with replacement takes diversity away and moves every draw up, so the draws are moved
    back onto the figure; only their spread is used.
    """
    (one, drawn_ones), (two, drawn_twos) = (
        draw_moments(features, person, counts) for features in (first, second)
    )
    point = frechet(one, two)
    drawn = np.array([frechet(*pair) for pair in zip(drawn_ones, drawn_twos, strict=True)])
    return make_interval(point, (drawn - drawn.mean() + point).clip(min=0))


def _divide(above: Any, below: Any) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)
