"""What a table needs of one experiment, measured: settings of one cross-validation.

ROOT/NAME/bp4d/norface/seed0/test=part1/predictions.parquet   the same run in Tables 1, 7, 8 ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from norface.errors import ConfigError
from norface.paper.config import STAND_IN, ExperimentPlace, PaperConfig
from norface.paper.protocol import describe_runs
from norface.paper.published import MEAN, PER_CENT
from norface.paper.recording import bring_runs

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
    runs = bring_runs(config, experiment, place, settings)
    if runs.crossval is None:
        return Outcome({}, runs.absent, {})
    found = {name: measure(one) for name, one in runs.record.get("settings", {}).items()}
    return Outcome(found, runs.absent, describe_runs(runs.crossval, runs.record))


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


def measure(summary: Mapping[str, Any]) -> Measured:
    """A recorded setting in the paper's units: per unit pooled over a fold, then the mean over
    folds and seeds."""
    metric, mean = summary["metric"], summary["mean"]
    # The one "unit" of emotions is the accuracy itself.
    units = {name: one["value"] for name, one in summary["targets"].items() if name != metric}
    columns = {metric: {**units, MEAN: mean["value"]}}
    for name, value in summary["others"].items():
        columns[name] = {**summary["other_targets"][name], MEAN: value}
    values = {
        name: {column: scale_of(name) * value for column, value in found.items()}
        for name, found in columns.items()
    }
    scale = scale_of(metric)
    return Measured(values, (scale * mean["low"], scale * mean["high"]), dict(summary))


def scale_of(metric: str) -> float:
    """From 0..1 to what the paper prints."""
    return 100.0 if metric in PER_CENT else 1.0
