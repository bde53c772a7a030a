"""Folds side by side: mean, spread and interval of every target, paired tests, outliers.

    found = compare([without, norface])        # settings on the same folds, the first = baseline
    found["metrics"]["f1"]["settings"]["norface"]["AU12"]  # {"folds", "mean", "sd", "low", "high"}

Intervals draw persons within each fold (statistics.py), and settings are compared on the same
draws. The paired t takes folds as its samples; folds share most of their training data and are few,
so its p is a rough guide and the bootstrap beside it the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from norface.errors import CorpusError
from norface.evaluation.fold_sources import FoldSet
from norface.evaluation.outliers import point_at_outliers
from norface.evaluation.predictions import check_folds, require_keys
from norface.evaluation.statistics import (
    TASK_METRICS,
    PersonSums,
    bootstrap,
    make_interval,
    persons_of,
    sum_by_person,
)

MEAN = "mean"
"Name of the row over all targets."
Sums = dict[str, list[PersonSums]]
"Fold => sums, one a seed."


def compare(sets: Sequence[FoldSet], metrics: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything that `norface compare` shows, as plain data; figures in 0..1.

    {"task", "folds": {fold: {"frames", "persons"}}, "targets", "settings": {name: {"seeds",
    "facts"}}, "metrics": {metric: {"settings": {name: {target: row, "mean": row}}, "tests",
    "remarks"}}}. Raises CorpusError unless all settings test the same samples in the same folds.
    """
    check_alike(sets)
    first = sets[0]
    names = name_sets(sets)
    measured = {
        metric: compare_metric(dict(zip(names, sets, strict=True)), first.task, metric)
        for metric in metrics or TASK_METRICS[first.task]
    }
    rows = next(iter(next(iter(measured.values()))["settings"].values()))
    return {
        "task": first.task,
        "corpus": ", ".join(sorted(_corpora(first))),
        "folds": {fold: _count(tables[0]) for fold, tables in first.folds.items()},
        "targets": [target for target in rows if target != MEAN],
        "settings": {
            name: {"seeds": len(next(iter(one.folds.values()))), "facts": one.facts}
            for name, one in zip(names, sets, strict=True)
        },
        "metrics": measured,
    }


def _corpora(one: FoldSet) -> set[str]:
    keys = (table["key"] for tables in one.folds.values() for table in tables[:1])
    return {str(name) for column in keys for name in column.str.partition("_")[0].unique()}


def _count(table: Any) -> dict[str, int]:
    known = table[table["truth"].notna()]
    return {"frames": int(known["key"].nunique()), "persons": int(persons_of(table).nunique())}


def name_sets(sets: Sequence[FoldSet]) -> list[str]:
    """Names of the settings; where two are the same, with the cross-validation before them."""
    names = [one.name for one in sets]
    if len(set(names)) == len(names):
        return names
    longer = [f"{one.owner}/{one.name}" for one in sets]
    if len(set(longer)) < len(longer):
        double = next(name for name in longer if longer.count(name) > 1)
        raise CorpusError(f"{double} is given twice; compare it with another")
    return longer


def check_alike(sets: Sequence[FoldSet]) -> None:
    """Raise CorpusError unless the settings can be compared: one task, one set of targets, the same
    samples in the same folds, every fold with the same number of seeds."""
    if not sets:
        raise CorpusError("nothing to compare")
    first = sets[0]
    for one in sets:
        where = f"{one.owner}/{one.name}" if one.owner else one.name
        check_folds(one.folds)
        counts = {fold: len(tables) for fold, tables in one.folds.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{fold} {count}" for fold, count in counts.items())
            raise CorpusError(f"{where}: folds have different numbers of seeds ({told})")
        if one.task != first.task:
            raise CorpusError(f"{where}: task {one.task}, but {first.name} has {first.task}")
        if one.folds.keys() != first.folds.keys():
            raise CorpusError(
                f"{where}: folds {', '.join(one.folds)}, but {first.name} has"
                f" {', '.join(first.folds)}; only the same folds can be compared"
            )
        for fold, tables in one.folds.items():
            keys = list(first.folds[fold][0]["key"].unique())
            require_keys(tables[0], keys, f"{where}, {fold}: not the fold of {first.name}")
            found, wanted = (
                sorted(table["target"].unique()) for table in (tables[0], first.folds[fold][0])
            )
            if found != wanted:
                raise CorpusError(
                    f"{where}, {fold}: targets {', '.join(found)}, but {first.name} has"
                    f" {', '.join(wanted)}"
                )


def compare_metric(sets: Mapping[str, FoldSet], task: str, metric: str) -> dict[str, Any]:
    """One metric of all settings: rows, tests of each setting against the first, remarks."""
    sums: dict[str, Sums] = {
        name: {
            fold: [sum_by_person(table, task, metric) for table in tables]
            for fold, tables in one.folds.items()
        }
        for name, one in sets.items()
    }
    targets = next(iter(next(iter(sums.values())).values()))[0].targets
    sums = align(sums, targets)
    drawn = {name: bootstrap(list(one.values()), metric) for name, one in sums.items()}
    settings = {name: make_rows(one, targets, metric, drawn[name][1]) for name, one in sums.items()}
    first, *others = sets
    tests = [test_pair(first, other, targets, settings=settings, drawn=drawn) for other in others]
    remarks = [
        text for name, one in sums.items() for text in point_at_outliers(name, one, metric, targets)
    ]
    return {"settings": settings, "tests": tests, "remarks": remarks + remark_on(tests)}


def align(sums: Mapping[str, Sums], targets: Sequence[str]) -> dict[str, Sums]:
    """All settings with their targets in one order. Raises CorpusError where they would not be
    drawn by the same persons."""
    first = next(iter(sums.values()))
    aligned: dict[str, Sums] = {}
    for name, folds in sums.items():
        for fold, runs in folds.items():
            if any(sorted(run.targets) != sorted(targets) for run in runs):
                raise CorpusError(f"{name}, {fold}: has labels of other targets than the others")
            if any(run.persons != first[fold][0].persons for run in runs):
                raise CorpusError(f"{name}, {fold}: its labelled persons are not the others'")
            ordered = [run.ordered(targets) for run in runs]
            aligned.setdefault(name, {})[fold] = ordered
    return aligned


def make_rows(
    sums: Sums, targets: Sequence[str], metric: str, draws: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Target => {"folds": {fold: value}, "mean", "sd" (over folds), "low", "high"}; and "mean"."""
    by_fold = {fold: bootstrap([runs], metric, draws=1)[0] for fold, runs in sums.items()}
    rows = {}
    for number, target in enumerate([*targets, MEAN]):
        if target == MEAN:
            values = {fold: float(np.nanmean(each)) for fold, each in by_fold.items()}
            sample = np.nanmean(draws, axis=1)
        else:
            values = {fold: float(each[number]) for fold, each in by_fold.items()}
            sample = draws[:, number]
        known = [value for value in values.values() if not np.isnan(value)]
        interval = make_interval(float(np.mean(known)) if known else np.nan, sample)
        rows[target] = {
            "folds": {fold: _plain(value) for fold, value in values.items()},
            "mean": _plain(interval.value),
            "sd": _plain(float(np.std(known, ddof=1))) if len(known) > 1 else None,
            "low": _plain(interval.low),
            "high": _plain(interval.high),
        }
    return rows


def _plain(value: float) -> float | None:
    """Rounded to six decimals; None where it is not defined."""
    return None if np.isnan(value) else round(float(value), 6)


def test_pair(
    first: str,
    second: str,
    targets: Sequence[str],
    *,
    settings: Mapping[str, Mapping[str, Any]],
    drawn: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """second - first on the same folds and draws: {"first", "second", "differences": {target:
    {"value", "low", "high", "p"}}, "t": {"t", "df", "p"} over folds, or None for one fold}."""
    difference = drawn[second][1] - drawn[first][1]
    found = {}
    for number, target in enumerate([*targets, MEAN]):
        one, two = settings[first][target]["mean"], settings[second][target]["mean"]
        sample = np.nanmean(difference, axis=1) if target == MEAN else difference[:, number]
        value = np.nan if one is None or two is None else two - one
        interval = make_interval(value, sample)
        found[target] = {
            **{part: _plain(getattr(interval, part)) for part in ("value", "low", "high")},
            "p": two_sided(sample),
        }
    ours, theirs = (list(settings[name][MEAN]["folds"].values()) for name in (second, first))
    return {"first": first, "second": second, "differences": found, "t": paired_t(ours, theirs)}


def two_sided(sample: np.ndarray) -> float | None:
    """Twice the smaller share of draws on one side of 0, each side one draw more, at most 1."""
    known = sample[~np.isnan(sample)]
    if not len(known):
        return None
    tail = min((known <= 0).sum(), (known >= 0).sum()) + 1
    return round(min(1.0, 2 * float(tail) / (len(known) + 1)), 6)


def paired_t(ours: Sequence[float | None], theirs: Sequence[float | None]) -> dict | None:
    """{"t", "df", "p" (two-sided)} of the folds' differences; None where folds do not differ in
    how much they differ, or are fewer than two."""
    from scipy import stats

    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    differences = np.array([a - b for a, b in pairs])
    if len(pairs) < 2 or np.ptp(differences) < 1e-12:
        return None
    found = stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs])
    return {
        "t": round(float(found.statistic), 6),
        "df": len(pairs) - 1,
        "p": round(float(found.pvalue), 6),
    }


def remark_on(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Targets that got surely worse though the whole did not, in words."""
    remarks = []
    for test in tests:
        whole = test["differences"][MEAN]
        for target, one in test["differences"].items():
            worse = one["high"] is not None and one["high"] < 0
            if target != MEAN and worse and whole["value"] is not None and whole["value"] >= 0:
                remarks.append(
                    f"{target} is worse with {test['second']} than with {test['first']}"
                    f" ({100 * one['value']:+.1f} points, 95 % {100 * one['low']:+.1f} to"
                    f" {100 * one['high']:+.1f}), though the mean is not"
                )
    return remarks
