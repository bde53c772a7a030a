"""From predictions to what is reported: metrics a target and fold, means, intervals, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from norface.errors import CorpusError
from norface.evaluation import metrics
from norface.evaluation.confusion import count_confusions
from norface.evaluation.predictions import check_folds
from norface.evaluation.statistics import (
    MAIN_METRIC,
    PersonSums,
    bootstrap,
    make_interval,
    persons_of,
    sum_by_person,
)

Folds = Mapping[str, Sequence[pd.DataFrame]]
"Fold => its predictions, one table a seed."


def score_table(table: pd.DataFrame, task: str) -> dict[str, dict[str, float]]:
    """Metric => {target: value, "mean": value} of one fold's predictions, labelled samples only.

    au: f1 (threshold 0.5), accuracy, auc, and f1_micro over all units at once; intensity: icc, mse,
    mae, pcc; emotion: accuracy, and the recall of every class that occurs. The mean leaves out
    undefined values (an auc of one class). Raises CorpusError when no sample has a label.
    """
    known = table[table["truth"].notna()]
    if not len(known):
        raise CorpusError("predictions: no sample has a label; nothing can be measured")
    if task == "emotion":
        return _score_emotion(table)
    found: dict[str, dict[str, float]] = {}
    for target, rows in known.groupby("target", sort=False):
        truth, score = rows["truth"].to_numpy(), rows["score"].to_numpy()
        for name, value in _score_target(truth, score, task).items():
            found.setdefault(name, {})[str(target)] = value
    for values in found.values():
        defined = [value for value in values.values() if not np.isnan(value)]
        values["mean"] = float(np.mean(defined)) if defined else float("nan")
    if task == "au":
        predicted = (known["score"] >= 0.5).to_numpy(float)
        found["f1_micro"] = {"mean": metrics.binary_f1(known["truth"].to_numpy(), predicted)}
    return found


def _score_target(truth: np.ndarray, score: np.ndarray, task: str) -> dict[str, float]:
    if task == "au":
        predicted = (score >= 0.5).astype(float)
        return {
            "f1": metrics.binary_f1(truth, predicted),
            "accuracy": metrics.accuracy(truth, predicted),
            "auc": metrics.roc_auc(truth, score),
        }
    return {
        "icc": metrics.icc_consistency(truth, score),
        "mse": metrics.mean_squared_error(truth, score),
        "mae": metrics.mean_absolute_error(truth, score),
        "pcc": metrics.pearson(truth, score),
    }


def _score_emotion(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    counts = sum_confusions([table])
    matrix = np.array(counts["counts"])
    recall = {
        name: float(row[number] / row.sum())
        for number, (name, row) in enumerate(zip(counts["classes"], matrix, strict=True))
        if row.sum()
    }
    recall["mean"] = float(np.mean(list(recall.values())))
    return {"accuracy": {"mean": float(np.trace(matrix) / matrix.sum())}, "recall": recall}


def sum_confusions(tables: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """{"classes": [names], "counts": rows of the true class, columns of the chosen one}, summed."""
    found = [count_confusions(table, "emotion")["emotion"] for table in tables]
    return {
        "classes": found[0][0],
        "counts": np.sum([counts for _, counts in found], axis=0).tolist(),
    }


def sum_folds(folds: Folds, task: str) -> list[list[PersonSums]]:
    """The sums that statistics.py works on, folds in the order of their names."""
    return [[sum_by_person(table, task) for table in folds[name]] for name in sorted(folds)]


def summarize(folds: Folds, task: str) -> dict[str, Any]:
    """What crossval.json and `norface evaluate` report of one setting.

    {"metric", "mean": interval, "targets": {target: interval}, "folds": {fold: {target: value,
    "mean": value}} (mean over seeds), "others": {metric: mean}, "other_targets": {metric: {target:
    value}} (mean over folds and seeds, where there is a value), "never_present": {fold: [targets]},
    "frames" (with a label), "persons", "seeds", "seed_means": [mean of a seed], "confusion"
    (emotion; all folds and seeds)}. Raises CorpusError for samples that are tested twice.
    """
    check_folds(folds)
    metric = MAIN_METRIC[task]
    sums = sum_folds(folds, task)
    point, draws = bootstrap(sums, metric)
    scores = {name: [score_table(table, task) for table in folds[name]] for name in sorted(folds)}
    first = [folds[name][0] for name in sorted(folds)]
    every_run = [run for runs in scores.values() for run in runs]
    # An area under the curve of one class alone is no number, and has no place in a json.
    defined = [
        name for name in every_run[0]
        if name != metric and not all(np.isnan(run[name]["mean"]) for run in every_run)
    ]  # fmt: skip
    return {
        "metric": metric,
        "mean": make_interval(point.mean(), draws.mean(axis=1)).as_dict(),
        "targets": {
            target: make_interval(point[i], draws[:, i]).as_dict()
            for i, target in enumerate(sums[0][0].targets)
        },
        "folds": {
            name: {
                target: round(float(np.mean([run[metric][target] for run in runs])), 6)
                for target in runs[0][metric]
            }
            for name, runs in scores.items()
        },
        "others": {name: _round_mean(run[name]["mean"] for run in every_run) for name in defined},
        "other_targets": {
            name: {
                target: _round_mean(run[name][target] for run in every_run)
                for target in every_run[0][name]
                if target != "mean"
                and all(target in run[name] for run in every_run)
                and not all(np.isnan(run[name][target]) for run in every_run)
            }
            for name in defined
        },
        "never_present": {
            name: absent
            for name, table in zip(sorted(folds), first, strict=True)
            if task == "au" and (absent := _absent_units(table))
        },
        "frames": sum(table["key"][table["truth"].notna()].nunique() for table in first),
        "persons": len(set().union(*(set(persons_of(table)) for table in first))),
        "seeds": len(next(iter(folds.values()))),
        "seed_means": [
            round(float(np.mean([run[metric]["mean"] for run in runs])), 6)
            for runs in zip(*scores.values(), strict=True)
        ],
        **(
            {
                "confusion": sum_confusions(
                    [table for name in sorted(folds) for table in folds[name]]
                )
            }
            if task == "emotion"
            else {}
        ),
    }


def _round_mean(values: Iterable[float]) -> float:
    """Mean of those that are defined."""
    return round(float(np.nanmean(list(values))), 6)


def _absent_units(table: pd.DataFrame) -> list[str]:
    known = table[table["truth"].notna()]
    return [
        str(target)
        for target, rows in known.groupby("target", sort=False)
        if metrics.never_present(rows["truth"].to_numpy())
    ]


def format_summary(title: str, summary: Mapping[str, Any]) -> str:
    """A setting as a table for the terminal: target x fold, mean and interval, in per cent."""
    folds = list(summary["folds"])
    percent = lambda value: f"{100 * value:.1f}"
    rows = [["", *folds, "mean", "95 % interval"]]
    for target, interval in [*summary["targets"].items(), ("mean", summary["mean"])]:
        cells = [percent(summary["folds"][fold].get(target, float("nan"))) for fold in folds]
        if target == "accuracy":
            continue
        between = f"{percent(interval['low'])} to {percent(interval['high'])}"
        rows.append([target, *cells, percent(interval["value"]), between])
    others = ", ".join(f"{name} {value:.3f}" for name, value in summary["others"].items())
    seeds = f", {summary['seeds']} seeds" if summary["seeds"] > 1 else ""
    head = (
        f"{title}: {summary['metric']} in %, {summary['frames']} frames of"
        f" {summary['persons']} persons{seeds}"
    )
    lines = [head, *align_columns(rows)] + ([f"also: {others}"] if others else [])
    if "confusion" in summary:
        lines += ["", *_format_confusion(summary["confusion"])]
    for fold, units in summary["never_present"].items():
        lines.append(f"{fold}: {', '.join(units)} never present; F1 can only be 0 there")
    return "\n".join(lines)


def _format_confusion(confusion: Mapping[str, Any]) -> list[str]:
    """Rows = true classes, with the share of each that was recalled."""
    rows = [["true \\ chosen", *(name[:9] for name in confusion["classes"]), "recall %"]]
    for number, (name, counts) in enumerate(
        zip(confusion["classes"], confusion["counts"], strict=True)
    ):
        recall = f"{100 * counts[number] / sum(counts):.1f}" if sum(counts) else "none"
        rows.append([name, *map(str, counts), recall])
    return align_columns(rows)


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells => lines, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
