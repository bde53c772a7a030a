"""Paired comparison of two normalizers: do persons' means differ?

The paper asked 100 volunteers for marks and compared them with a paired t-test; here the marks are
measures, and a person's mean is a pair's one half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from norface.evaluation.resampling import mean_terms, ratio, sum_by_person


def compare_pairs(
    samples: dict[str, dict[str, np.ndarray]], person: np.ndarray, names: list[str]
) -> list[dict[str, Any]]:
    """Paired t-tests over persons' means between every two sets, for every measure of both.

    [{"measure", "first", "second", "difference" (second - first), "t", "df", "p"}]; p is not
    corrected for the number of tests.
    """
    tests = []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            for measure in samples[first]:
                if measure in samples[second]:
                    one, two = (_means(samples[name][measure], person) for name in (first, second))
                    tests.append(
                        {"measure": measure, "first": first, "second": second}
                        | paired_test(one, two)
                    )
    return tests


def _means(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    sums = sum_by_person(mean_terms(values), person)
    return ratio(sums)


def paired_test(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Means of persons (P) twice => difference, t, degrees of freedom, two-sided p.

    NaN where fewer than two persons have both.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    if both.sum() < 2:
        return {"difference": float("nan"), "t": float("nan"), "df": 0, "p": float("nan")}
    difference = second[both] - first[both]
    if difference.std() == 0:
        t, p = (0.0, 1.0) if difference[0] == 0 else (float(np.sign(difference[0]) * np.inf), 0.0)
    else:
        found = stats.ttest_rel(second[both], first[both])
        t, p = float(found.statistic), float(found.pvalue)
    return {"difference": float(difference.mean()), "t": t, "df": int(both.sum()) - 1, "p": p}
