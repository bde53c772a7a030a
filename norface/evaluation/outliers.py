"""Folds and targets that stand apart, said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from norface.evaluation.statistics import PersonSums, bootstrap

FAR = 2.0
"Standard deviations that are far from the mean."
CHANCE = 0.05
"Chance of a false alarm over all folds and targets of a setting together."


def point_at_outliers(
    name: str,
    sums: Mapping[str, Sequence[PersonSums]],
    metric: str,
    targets: Sequence[str],
) -> list[str]:
    """Sentences about a setting: folds, and targets of a fold, that differ from the other folds by
    more than the persons drawn into them explain (`CHANCE` in all); folds and targets more than
    `FAR` standard deviations from the mean.

    With five folds or fewer no fold can be `FAR` deviations off: the mean and the deviation hold it
    too. The first rule has no such limit.
    """
    drawn = {fold: bootstrap([runs], metric) for fold, runs in sums.items()}
    points = np.array([point for point, _ in drawn.values()])
    if len(points) < 2:
        return _far_targets(name, points, targets)
    return [
        *_apart_from_others(name, drawn, targets),
        *_far_folds(name, list(sums), points),
        *_far_targets(name, points, targets),
    ]


def _apart_from_others(
    name: str, drawn: Mapping[str, tuple[np.ndarray, np.ndarray]], targets: Sequence[str]
) -> list[str]:
    from scipy.stats import norm

    columns = [("mean", slice(None))]
    columns += [(target, slice(i, i + 1)) for i, target in enumerate(targets)]
    # A single target is its own mean.
    columns = columns[:1] if len(targets) == 1 else columns
    limit = norm.ppf(1 - CHANCE / 2 / (len(columns) * len(drawn)))
    remarks = []
    for target, column in columns:
        found = []
        for fold, (point, draws) in drawn.items():
            others = [pair for other, pair in drawn.items() if other != fold]
            value = np.nanmean(point[column])
            rest = np.nanmean([each[column] for each, _ in others])
            sample = np.nanmean(draws[:, column], axis=1) - np.nanmean(
                [np.nanmean(each[:, column], axis=1) for _, each in others], axis=0
            )
            found.append((abs(value - rest) / (np.nanstd(sample) or np.inf), fold, value, rest))
        # One fold that is off makes the others look off too: only the furthest is named.
        apart = [one for one in found if one[0] > limit]
        if apart:
            far, fold, value, rest = max(apart, key=lambda one: abs(one[2] - one[3]))
            what = "its mean" if target == "mean" else target
            side = "above" if value > rest else "below"
            spread = abs(value - rest) / far
            low, high = 100 * (value - rest + np.array([-limit, limit]) * spread)
            remarks.append(
                f"{name}, {fold}: {what} is {100 * value:.1f}, {side} the {100 * rest:.1f} of the"
                f" other folds by more than its persons explain ({low:+.1f} to {high:+.1f} points)"
            )
    return remarks


def _far_folds(name: str, folds: Sequence[str], points: np.ndarray) -> list[str]:
    return [
        f"{name}, {fold}: {text} the folds"
        for fold, text in zip(folds, _far(np.nanmean(points, axis=1)), strict=True)
        if text
    ]


def _far_targets(name: str, points: np.ndarray, targets: Sequence[str]) -> list[str]:
    return [
        f"{name}, {target}: {text} the targets"
        for target, text in zip(targets, _far(np.nanmean(points, axis=0)), strict=True)
        if text
    ]


def _far(values: np.ndarray) -> list[str]:
    """For each value '' or how far it is from the mean of all, in words."""
    if len(values) < 3 or np.isnan(values).any():
        return [""] * len(values)
    mean, spread = values.mean(), values.std(ddof=1)
    return [
        f"{100 * value:.1f} is {abs(value - mean) / spread:.1f} standard deviations"
        f" {'above' if value > mean else 'below'} the mean {100 * mean:.1f} of"
        if spread > 0 and abs(value - mean) > FAR * spread
        else ""
        for value in values
    ]
