"""Runs what a table needs and collects it: one cross-validation an experiment, shared by tables.

ROOT/NAME/bp4d/norface/seed0/test=part1/predictions.parquet   the same run in Tables 1, 7, 8 ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from norface.config import load_config, read_yaml
from norface.errors import ConfigError
from norface.evaluation.collecting import read_folds
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, Setting, list_folds
from norface.evaluation.protocols import open_crossval, train_fold, train_folds_at_once
from norface.evaluation.statistics import MAIN_METRIC
from norface.evaluation.summary import Folds, score_table, summarize
from norface.paper.config import STAND_IN, ExperimentPlace, PaperConfig
from norface.paper.published import MEAN, PER_CENT

TASK_OF = {"f1": "au", "icc": "intensity", "mse": "intensity", "mae": "intensity"}
"Metric of a published row => task; accuracy is that of emotions."
SUFFIX = {"au": "", "intensity": "-intensity", "emotion": "-emotion"}


class Measured(NamedTuple):
    """Our numbers of one setting in the paper's units."""

    values: dict[str, dict[str, float]]
    "Metric => column (AU1, ..., Avg.) => number."
    interval: tuple[float, float] | None
    "95 % of the main metric's mean, by persons."
    summary: dict[str, Any]


class Outcome(NamedTuple):
    """What came out of one experiment."""

    settings: dict[str, Measured]
    "Only those that are there."
    absent: dict[str, str]
    "Setting => why it is not."
    about: dict[str, str]
    "Protocol, folds, seeds ...: what exactly was compared."


def task_of(metric: str) -> str:
    """The task that a metric of the paper belongs to."""
    return TASK_OF.get(metric, "emotion")


def run_experiment(
    config: PaperConfig, experiment: str, task: str, settings: Sequence[str]
) -> Outcome:
    """Train what is missing of these settings, collect the rest. Raises NorfaceError."""
    place = find_place(config, experiment, task)
    crossval, absent = build_crossval(config, experiment, place, settings)
    if config.train and crossval is not None:
        train_settings(crossval)
    found: dict[str, Measured] = {}
    tables: Mapping[str, Folds] = {}
    if crossval is not None:
        tables, _, missing = read_folds(crossval)
        for name in crossval.settings:
            lacking = [one for one in missing if one.startswith(f"{name}/")]
            if lacking:
                absent[name] = f"{len(lacking)} folds are not trained, first {lacking[0]}"
            else:
                found[name] = measure(tables[name], crossval.cla.task)
    about = {} if crossval is None else describe_protocol(config, crossval, place, found)
    return Outcome(found, absent, about)


def find_place(config: PaperConfig, experiment: str, task: str) -> ExperimentPlace:
    """The data of an experiment; that of the stand-in is rendered. Raises ConfigError."""
    if experiment in config.experiments:
        return config.experiments[experiment]
    if not experiment.startswith(STAND_IN):
        raise ConfigError(f"experiments: nothing is said of '{experiment}'")
    from norface.paper.stand_in import normalize_by_small, write_stand_in

    shards, truth, features = write_stand_in(config)
    small = {"epochs": config.stand_in.epochs}
    sets = {"norface": truth}
    if config.stand_in.normalizer_images:
        sets = normalize_by_small(config, shards)
    return ExperimentPlace(
        shards=[shards],
        sets={name: [one] for name, one in sets.items()},
        features=features,
        config=config.configs / "cla" / f"synthetic-64{SUFFIX[task]}.yaml",
        cla=small,
    )


def list_places(config: PaperConfig) -> dict[str, ExperimentPlace]:
    """The experiments that are given, else the stand-in for action units and for emotions."""
    if config.experiments:
        return dict(config.experiments)
    return {
        STAND_IN + SUFFIX[task]: find_place(config, STAND_IN + SUFFIX[task], task)
        for task in ("au", "emotion")
    }


def build_crossval(
    config: PaperConfig, experiment: str, place: ExperimentPlace, settings: Sequence[str]
) -> tuple[CrossvalConfig | None, dict[str, str]]:
    """The cross-validation of the settings whose data is there, and why the others are not."""
    known = read_yaml(config.configs / "paper" / "settings.yaml")
    # A target identity is a setting of its own (Figure 4).
    targets = {f"target-{name}": one for name, one in place.targets.items()}
    known |= {name: {"set": name} for name in targets}
    sets = place.sets | targets
    chosen: dict[str, Setting] = {}
    absent: dict[str, str] = {}
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"{config.configs / 'paper'}: no setting '{name}'; settings.yaml has"
                f" {', '.join(known)}"
            )
        wanted = dict(known[name] or {})
        group, features = wanted.pop("set", None), wanted.pop("features", False)
        if group is not None and group not in sets:
            absent[name] = f"no normalized set (experiments.{experiment}.sets.{group})"
        elif features and place.features is None:
            absent[name] = f"no features (experiments.{experiment}.features)"
        else:
            values: dict[str, Any] = {"normalized": sets[group]} if group else {}
            values |= {"features": place.features} if features else {}
            chosen[name] = Setting.model_validate({**values, **wanted})
    if not chosen:
        return None, absent
    path = place.config or config.configs / "cla" / f"{experiment}.yaml"
    base = load_config(CrossvalConfig, path).model_dump(exclude_unset=True)
    cla = _merge(base["cla"], place.cla)
    cla = _merge(cla, {"data": {"shards": place.shards}})
    crossval = CrossvalConfig.model_validate(
        {
            "name": f"{config.name}/{experiment}",
            "root": config.root,
            "cla": cla,
            "settings": {name: one.model_dump() for name, one in chosen.items()},
            "seeds": config.seeds,
            "processes": config.processes,
            "tracking": config.tracking,
        }
    )
    return crossval, absent


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, Mapping)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def train_settings(crossval: CrossvalConfig) -> None:
    """Train the folds that are missing, as children of the experiment's run."""
    tasks = [
        FoldTask(setting, seed, fold)
        for seed in crossval.seeds
        for setting in crossval.settings
        for fold in list_folds(crossval)
    ]
    with open_crossval(crossval) as run:
        if crossval.processes == 1:
            for task in tasks:
                train_fold(crossval, task, run.child_tracking())
        else:
            train_folds_at_once(crossval, tasks, run.child_tracking())


def measure(folds: Folds, task: str) -> Measured:
    """Every metric in the paper's units: per unit pooled over a fold, then the mean over folds."""
    summary = summarize(folds, task)
    runs = [score_table(table, task) for tables in folds.values() for table in tables]
    values = {}
    for metric in runs[0]:
        scale = 100.0 if metric in PER_CENT else 1.0
        columns = dict.fromkeys(name for run in runs for name in run[metric])
        values[metric] = {
            MEAN if name == "mean" else name: scale
            * float(np.nanmean([run[metric].get(name, np.nan) for run in runs]))
            for name in columns
        }
    scale = 100.0 if MAIN_METRIC[task] in PER_CENT else 1.0
    mean = summary["mean"]
    return Measured(values, (scale * mean["low"], scale * mean["high"]), summary)


def describe_protocol(
    config: PaperConfig,
    crossval: CrossvalConfig,
    place: ExperimentPlace,
    found: Mapping[str, Measured],
) -> dict[str, str]:
    """What exactly was measured, in words, for the notes below a table."""
    from norface.data.normalized import TRUTH, read_set

    cla = crossval.cla
    any_one = next(iter(found.values())).summary if found else None
    about = {
        "shards": ", ".join(map(str, place.shards)),
        "protocol": f"{cla.data.protocol} ("
        + ("last epoch" if cla.data.protocol == "paper" else "epoch chosen on validation subjects")
        + ")",
        "folds": ", ".join(list_folds(crossval)),
        "fold list": cla.data.folds or f"drawn, seed {cla.data.seed}",
        "seeds": ", ".join(map(str, config.seeds)),
        "epochs": str(cla.epochs),
        "E_f": f"{cla.model.extractor}, starting from {cla.model.extractor_weights or 'nothing'}",
        "runs": str(crossval.folder),
    }
    if any_one is not None:
        about["tested"] = f"{any_one['frames']} pictures of {any_one['persons']} persons"
    for name, sets in place.sets.items():
        first = sets[0][0] if isinstance(sets[0], list) else sets[0]
        path = Path(str(first).replace("{fold}", list_folds(crossval)[0]))
        card = read_set(path)
        truth = " (rendered true faces: a ceiling, no F_nor)" if card.generator == TRUTH else ""
        about[f"set {name}"] = f"K = {len(sets)}, generator {card.generator}{truth}"
    return about
