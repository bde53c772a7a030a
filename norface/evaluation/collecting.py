"""What comes out of a cross-validation: every fold's predictions read, summarized, compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from norface.data.indexing import find_rehearsal
from norface.data.rehearsal import SAID
from norface.evaluation.confusion import draw_confusions
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, list_folds
from norface.evaluation.predictions import read_predictions, require_keys
from norface.evaluation.statistics import MAIN_METRIC, compare_settings, persons_of
from norface.evaluation.summary import (
    Folds,
    align_columns,
    format_summary,
    score_table,
    sum_folds,
    summarize,
)
from norface.tracking import Run, TrackingConfig, read_metrics, replacing

PREDICTIONS_FILE, RESULT_FILE = "predictions.parquet", "crossval.json"
FOLD_FILE = "fold.json"
'What a fold took: {"seconds"}.'


def is_predicted(config: CrossvalConfig, task: FoldTask) -> bool:
    """Whether a fold's predictions are there: it is trained and tested."""
    return (config.folder / task.name / PREDICTIONS_FILE).is_file()


def read_folds(
    config: CrossvalConfig,
) -> tuple[dict[str, dict[str, list[pd.DataFrame]]], dict[str, list[float]], list[str]]:
    """Setting => fold => its predictions, one table a seed; setting => seconds of each fold; and
    the names of the folds that are not there."""
    tables: dict[str, dict[str, list[pd.DataFrame]]] = {}
    seconds: dict[str, list[float]] = {}
    missing = []
    names = list_folds(config)
    for setting in config.settings:
        folds = tables.setdefault(setting, {})
        for fold in names:
            for seed in config.seeds:
                task = FoldTask(setting, seed, fold)
                folder = config.folder / task.name
                if not is_predicted(config, task):
                    missing.append(task.name)
                    continue
                folds.setdefault(fold, []).append(read_predictions(folder / PREDICTIONS_FILE)[0])
                about = json.loads((folder / FOLD_FILE).read_text(encoding="utf-8"))
                seconds.setdefault(setting, []).append(about.get("seconds", float("nan")))
    return tables, seconds, missing


def collect(config: CrossvalConfig) -> dict[str, Any]:
    """Read every fold's predictions and write crossval.json once all are there.

    Returns its contents, or {"missing": [folds]}.
    """
    from norface.training.stages.cla_folds import open_index

    tables, seconds, missing = read_folds(config)
    if missing:
        return {"missing": missing}
    result = summarize_settings(tables, config.cla.task)
    result["seconds"] = {name: sum(each) / len(each) for name, each in seconds.items()}
    result["subjects"] = list_subjects(next(iter(tables.values())))
    folders = open_index(config.cla.data).folders
    if rehearsals := [str(one) for one in folders if find_rehearsal(one) is not None]:
        result["rehearsals"] = rehearsals
    with replacing(config.folder / RESULT_FILE) as aside:
        aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def record_fold(folder: Path, tracking: TrackingConfig) -> None:
    """What a fold's test gave into its run and MLflow: metrics as test/NAME and test/NAME/TARGET,
    confusions as a picture, and the predictions themselves, so that folds can be compared from
    there. Nothing where that was done already."""
    run = Run(folder, tracking, None)
    if PREDICTIONS_FILE in run.facts.get("files", []):
        return
    table, task = read_predictions(folder / PREDICTIONS_FILE)
    step = int(run.facts.get("step", 0))
    values = {}
    for metric, found in score_table(table, task).items():
        for target, value in found.items():
            values[f"test/{metric}" + ("" if target == "mean" else f"/{target}")] = value
    if not any("test/" + MAIN_METRIC[task] in line for line in read_metrics(folder)):
        run.log(values, step)
    run.log_image("confusion_test", draw_confusions(table, task), step)
    run.note(files=[PREDICTIONS_FILE])
    run.start_feeding(watch=False)
    run.finish(run.facts.get("status", "finished"))


def list_subjects(folds: Folds) -> dict[str, list[str]]:
    """Fold => the persons that it tests, where the corpus names its persons."""
    found = {}
    for fold, tables in folds.items():
        named = tables[0][tables[0]["subject"].fillna("") != ""]
        found[fold] = sorted(persons_of(named).unique())
    return found


def summarize_settings(tables: Mapping[str, Folds], task: str) -> dict[str, Any]:
    """Settings with their folds' predictions => summaries, and each setting against the first.

    Raises CorpusError for settings that were tested on different samples: shards that were written
    again between their trainings.
    """
    first, *others = tables
    metric = MAIN_METRIC[task]
    for fold, (table, *_) in tables[first].items():
        keys = list(table["key"].unique())
        for name in others:
            where = f"{name}, {fold}: not tested on what {first} was; train it again"
            require_keys(tables[name][fold][0], keys, where)
    base = sum_folds(tables[first], task)
    return {
        "task": task,
        "metric": metric,
        "settings": {name: summarize(folds, task) for name, folds in tables.items()},
        "differences": {
            f"{name} - {first}": compare_settings(
                base, sum_folds(tables[name], task), metric
            ).as_dict()
            for name in others
        },
    }


def log_result(run: Run, config: CrossvalConfig, result: Mapping[str, Any]) -> None:
    """The figures into the parent run's metrics, crossval.json beside them."""
    values: dict[str, float] = {}
    for setting, summary in result["settings"].items():
        for name, value in summary["mean"].items():
            label = result["metric"] if name == "value" else f"{result['metric']}_{name}"
            values[f"{setting}/{label}"] = value
        for target, interval in summary["targets"].items():
            values[f"{setting}/{result['metric']}/{target}"] = interval["value"]
        for metric, value in summary["others"].items():
            values[f"{setting}/{metric}"] = value
        for metric, targets in summary["other_targets"].items():
            values |= {f"{setting}/{metric}/{name}": value for name, value in targets.items()}
        folds = [fold["mean"] for fold in summary["folds"].values()]
        if len(folds) > 1:
            values[f"{setting}/{result['metric']}_sd"] = float(np.std(folds, ddof=1))
    # A later collection, of more settings or seeds, stands beside this one and is the newest.
    run.log(values, step=int(run.facts["starts"]) - 1)
    run.log_artifact(config.folder / RESULT_FILE)
    run.note(description=describe_result(result))


def describe_result(result: Mapping[str, Any]) -> str:
    """The means of all settings in Markdown: what MLflow shows above the run."""
    folds = list(next(iter(result["settings"].values()))["folds"])
    percent = lambda value: f"{100 * value:.1f}"
    lines = [
        f"| {result['metric']}, % | {' | '.join(folds)} | mean | 95 % |",
        "|---" * (len(folds) + 3) + "|",
    ]
    for name, summary in result["settings"].items():
        cells = [percent(summary["folds"][fold]["mean"]) for fold in folds]
        low, value, high = (percent(summary["mean"][part]) for part in ("low", "value", "high"))
        lines.append(f"| {name} | {' | '.join(cells)} | {value} | {low} to {high} |")
    return "\n".join([*tell_rehearsals(result), *lines])


def tell_rehearsals(result: Mapping[str, Any]) -> list[str]:
    """A line for each folder of shards that is a rehearsal, and an empty one behind them."""
    lines = [f"{folder}: {SAID}" for folder in result.get("rehearsals", [])]
    return [*lines, ""] if lines else []


def format_result(result: Mapping[str, Any]) -> str:
    """Tables of all settings and their differences, for the terminal."""
    if "part" in result:
        return f"part {result['part']}: {', '.join(result['trained']) or 'nothing to train'}"
    if "missing" in result:
        return f"{len(result['missing'])} folds are not trained yet, first {result['missing'][0]}"
    parts = ["\n".join(told)] if (told := tell_rehearsals(result)[:-1]) else []
    parts += [format_summary(name, summary) for name, summary in result["settings"].items()]
    if result["differences"]:
        rows = [["difference", result["metric"] + " in points", "95 % interval"]]
        for name, found in result["differences"].items():
            low, value, high = (100 * found[part] for part in ("low", "value", "high"))
            rows.append([name, f"{value:+.1f}", f"{low:+.1f} to {high:+.1f}"])
        parts.append("\n".join(align_columns(rows)))
    return "\n\n".join(parts)
