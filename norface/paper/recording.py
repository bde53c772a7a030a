"""The runs behind a table: trained where they are missing, checked, and recorded in one place.

    runs = bring_runs(config, "bp4d", place, ["without", "norface"])
    runs.record["settings"]["norface"]["mean"]     # as in crossval.json and MLflow's parent run

All tables share the cross-validation ROOT/NAME/EXPERIMENT. Its crossval.json has every setting that
is trained there, whichever table asked for it, and tables show what is recorded, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from norface.errors import CheckpointError
from norface.evaluation.collecting import PREDICTIONS_FILE, RESULT_FILE, collect, log_result
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config, list_folds
from norface.evaluation.protocols import open_crossval, train_fold, train_folds_at_once
from norface.paper.config import ExperimentPlace, PaperConfig
from norface.paper.settings import build_crossval, read_settings
from norface.tracking import Run


class Runs(NamedTuple):
    """The runs of one experiment."""

    crossval: CrossvalConfig | None
    "The cross-validation of all settings whose data is there; None = of none that was asked for."
    absent: dict[str, str]
    "Setting that was asked for => why there are no figures of it."
    record: dict[str, Any]
    "The contents of crossval.json, of the settings that were asked for; {} = none is there."


def bring_runs(
    config: PaperConfig, experiment: str, place: ExperimentPlace, settings: Sequence[str]
) -> Runs:
    """Train what is missing of these settings (config.train), and record all that is there.

    Raises CheckpointError where a run that is there was trained by another config.
    """
    asked, absent = build_crossval(config, experiment, place, settings)
    if asked is None:
        return Runs(None, absent, {})
    everything = list(dict.fromkeys([*read_settings(config, place), *settings]))
    whole, _ = build_crossval(config, experiment, place, everything)
    assert whole is not None
    tasks = list_tasks(asked)
    for task in tasks:
        check_run(asked, task)
    if config.train:
        check_sets(asked, tasks)
        with open_crossval(whole) as run:
            if config.processes == 1:
                for task in tasks:
                    train_fold(whole, task, run.child_tracking())
            else:
                train_folds_at_once(whole, tasks, run.child_tracking())
            record = record_runs(whole, run)
    else:
        record = record_runs(whole)
    for name in asked.settings:
        lacking = [
            task.name for task in tasks if task.setting == name and not _is_there(asked, task)
        ]
        if lacking:
            absent[name] = f"{len(lacking)} folds are not trained, first {lacking[0]}"
    if record:
        kept = {name: one for name, one in record["settings"].items() if name in asked.settings}
        record = {**record, "settings": kept}
    return Runs(whole, absent, record)


def list_tasks(crossval: CrossvalConfig, setting: str | None = None) -> list[FoldTask]:
    """Every seed and fold of the settings, or of one."""
    folds = list_folds(crossval)
    return [
        FoldTask(name, seed, fold)
        for seed in crossval.seeds
        for name in ([setting] if setting else crossval.settings)
        for fold in folds
    ]


def _is_there(crossval: CrossvalConfig, task: FoldTask) -> bool:
    return (crossval.folder / task.name / PREDICTIONS_FILE).is_file()


def check_run(crossval: CrossvalConfig, task: FoldTask) -> None:
    """Raise CheckpointError where the predictions that are there come from another config."""
    from norface.training.run import check_folder

    if _is_there(crossval, task):
        check_folder(crossval.folder / task.name, fold_config(crossval, task))


def check_sets(crossval: CrossvalConfig, tasks: Sequence[FoldTask]) -> None:
    """Raise ConfigError before anything trains where a set that is needed is not there."""
    from norface.training.stages.cla_folds import find_sets

    for task in tasks:
        if not _is_there(crossval, task):
            find_sets(crossval.settings[task.setting].normalized, task.fold)


def record_runs(crossval: CrossvalConfig, run: Run | None = None) -> dict[str, Any]:
    """crossval.json of every setting that is trained in all folds and seeds by this config, and the
    same figures in the run of the whole. Returns what is written there; {} where there is none.

    `run` is that run where it is open.
    """
    there = {
        name: one for name, one in crossval.settings.items() if _is_trained(crossval, name)
    }  # fmt: skip
    if not there:
        return {}
    path = crossval.folder / RESULT_FILE
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    result = collect(crossval.model_copy(update={"settings": there}))
    text = path.read_text(encoding="utf-8")
    if run is not None:
        log_result(run, crossval, result)
    elif text != before:
        with open_crossval(crossval) as opened:
            log_result(opened, crossval, result)
    return dict(json.loads(text))


def _is_trained(crossval: CrossvalConfig, setting: str) -> bool:
    tasks = list_tasks(crossval, setting)
    if not all(_is_there(crossval, task) for task in tasks):
        return False
    try:
        for task in tasks:
            check_run(crossval, task)
    except CheckpointError:
        return False
    return True
