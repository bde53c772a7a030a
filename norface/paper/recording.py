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
from norface.evaluation.collecting import RESULT_FILE, collect, is_predicted, log_result
from norface.evaluation.crossval_config import (
    CrossvalConfig,
    FoldTask,
    check_sources,
    fold_config,
    list_tasks,
)
from norface.evaluation.protocols import list_left, open_crossval, train_folds
from norface.paper.config import ExperimentPlace, PaperConfig
from norface.paper.settings import Twin, build_crossval, read_settings
from norface.tracking import Run


class Runs(NamedTuple):
    """The runs of one experiment."""

    crossval: CrossvalConfig | None
    "The cross-validation of all settings whose data is there; None = of none that was asked for."
    absent: dict[str, str]
    "Setting that was asked for => why there are no figures of it."
    twins: dict[str, Twin]
    "Setting that was asked for => the setting whose runs are its own."
    record: dict[str, Any]
    "The contents of crossval.json, of the settings that were asked for; {} = none is there."


def bring_runs(
    config: PaperConfig, experiment: str, place: ExperimentPlace, settings: Sequence[str]
) -> Runs:
    """Train what is missing of these settings (config.train), and record all that is there.

    Raises CheckpointError where a run that is there was trained by another config.
    """
    asked, absent, twins = build_crossval(config, experiment, place, settings)
    if asked is None:
        return Runs(None, absent, twins, {})
    everything = list(dict.fromkeys([*read_settings(config, experiment, place), *settings]))
    whole = build_crossval(config, experiment, place, everything).crossval
    assert whole is not None
    tasks = list_tasks(asked)
    for task in tasks:
        check_run(asked, task)
    if config.train:
        check_sources(asked, list_left(asked, tasks))
        with open_crossval(whole) as run:
            train_folds(whole, tasks, run)
            record = record_runs(whole, run)
    else:
        record = record_runs(whole)
    for name in asked.settings:
        lacking = [task.name for task in list_left(asked, tasks) if task.setting == name]
        if lacking:
            absent[name] = f"{len(lacking)} folds are not trained, first {lacking[0]}"
    if record:
        kept = {name: one for name, one in record["settings"].items() if name in asked.settings}
        record = {**record, "settings": kept}
    return Runs(whole, absent, twins, record)


def check_run(crossval: CrossvalConfig, task: FoldTask) -> None:
    """Raise CheckpointError where the predictions that are there come from another config."""
    from norface.training.run import check_folder

    if is_predicted(crossval, task):
        check_folder(crossval.folder / task.name, fold_config(crossval, task))


def record_runs(crossval: CrossvalConfig, run: Run | None = None) -> dict[str, Any]:
    """crossval.json of every setting that is trained in all folds and seeds by this config, and the
    same figures in the run of the whole. Returns what is written there; {} where there is none.

    `run` is that run where it is open.
    """
    by_setting: dict[str, list[FoldTask]] = {}
    for task in list_tasks(crossval):
        by_setting.setdefault(task.setting, []).append(task)
    there = {
        name: crossval.settings[name]
        for name, tasks in by_setting.items() if _is_trained(crossval, tasks)
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


def _is_trained(crossval: CrossvalConfig, tasks: Sequence[FoldTask]) -> bool:
    if list_left(crossval, tasks):
        return False
    try:
        for task in tasks:
            check_run(crossval, task)
    except CheckpointError:
        return False
    return True
