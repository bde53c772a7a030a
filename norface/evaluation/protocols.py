"""Cross-validation: settings x seeds x subject-exclusive folds of the classifier.

    ROOT/NAME/
        config.yaml  run.json      the whole, MLflow's parent run
        crossval.json              figures of every setting with intervals, and their differences
        SETTING/seedS/FOLD/        one run of stage `cla` with predictions.parquet, a child run

A fold whose predictions are there is not trained again. So folds can also be jobs of their own
(part=2/9), on several ranks each; `collect_crossval` summarizes once all are there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from norface.errors import ConfigError, LaunchError, TrackingError
from norface.evaluation.collecting import (
    FOLD_FILE,
    PREDICTIONS_FILE,
    collect,
    is_predicted,
    log_result,
    record_fold,
)
from norface.evaluation.crossval_config import (
    CrossvalConfig,
    FoldTask,
    check_sources,
    fold_config,
    list_tasks,
)
from norface.evaluation.fold_sources import ORDER_TAG
from norface.evaluation.predictions import write_predictions
from norface.progress import Progress
from norface.tracking import Run, TrackingConfig, open_run, read_facts, replacing
from norface.training.agreement import on_main
from norface.training.backends.base import Backend
from norface.training.stages.cla_config import ClaConfig

LOG_FILE = "log.txt"
CLAIM_FILE = ".claimed"
"Made by the first of several jobs: that one writes run.json."


def cross_validate(config: CrossvalConfig) -> dict[str, Any]:
    """Train what is missing and summarize. Returns the contents of crossval.json.

    {"settings": {name: summary}, "differences": {"b - a": interval}, "seconds": {name: mean of a
    fold}, "subjects": {fold: [tested persons]}, ...}; {"missing": [folds]} while some are missing.
    With `part`, nothing is summarized, and several ranks may share each fold. Raises LaunchError
    for several ranks without it.
    """
    if config.part is not None:
        return train_part(config)
    if count_ranks() > 1:
        raise LaunchError(
            "crossval runs in one process; give folds to several jobs, on several ranks each, with"
            " part=I/N, and summarize with norface crossval --collect"
        )
    tasks = list_tasks(config)
    check_sources(config, list_left(config, tasks))
    with open_crossval(config) as run:
        train_folds(config, tasks, run)
        result = collect(config)
        if "settings" in result:
            log_result(run, config, result)
    return result


def open_crossval(config: CrossvalConfig) -> Run:
    """The run of the whole, which the folds are children of."""
    about = config.cla.describe_run()
    # Which test part and which normalized set differ from fold to fold.
    tags = {ORDER_TAG: ", ".join(config.settings), "stage": "crossval"}
    return open_run(
        config.folder,
        kind="crossval",
        tracking=config.tracking,
        root=config.root,
        config=config,
        **{**about, "tags": tags},
    )


def train_part(config: CrossvalConfig) -> dict[str, Any]:
    """Train this job's share. MLflow is fed by `collect_crossval`, except through a server.

    Returns {"part": "2/9", "trained": [folds]}.
    """
    tasks = list_tasks(config)
    check_sources(config, list_left(config, tasks))
    claim_run(config)
    tracking = Run(config.folder, config.tracking, None).child_tracking()
    if tracking.uri is None and "MLFLOW_TRACKING_URI" not in os.environ:
        # Jobs on several machines must not write one sqlite file at once.
        tracking = tracking.model_copy(update={"mlflow": False})
    for task in tasks:
        train_fold(config, task, tracking)
    return {"part": config.part, "trained": [task.name for task in tasks]}


def collect_crossval(config: CrossvalConfig) -> dict[str, Any]:
    """Summarize folds that other jobs have trained, and bring MLflow up to date.

    Raises ConfigError naming the folds that are missing.
    """
    result = collect(config)
    if "missing" in result:
        raise ConfigError(
            f"{config.folder}: {len(result['missing'])} folds are not trained yet:"
            f" {', '.join(result['missing'])}; start their jobs again"
        )
    with open_crossval(config) as run:
        log_result(run, config, result)
    if config.tracking.mlflow:
        feed_children(config)
    return result


def feed_children(config: CrossvalConfig) -> None:
    """Feed MLflow with all folds, below their parent; a store that is away costs nothing."""
    from norface.mlflow_feed import sync

    tasks = list_tasks(config.model_copy(update={"part": None, "only": None}))
    try:
        sync([config.folder / task.name for task in tasks])
    except TrackingError as error:
        print(f"MLflow is not up to date: {error}", file=sys.stderr)


def claim_run(config: CrossvalConfig, patience_s: float = 60) -> str:
    """The id of the cross-validation's run, which the first of several jobs makes.

    Raises LaunchError where a job made the claim and died before it wrote run.json.
    """
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / CLAIM_FILE).touch(exist_ok=False)
        if not read_facts(folder):
            open_crossval(config)
    deadline = time.monotonic() + patience_s
    while not (facts := read_facts(folder)):
        if time.monotonic() > deadline:
            raise LaunchError(
                f"{folder}: another job began and wrote no run.json; remove {CLAIM_FILE} there and"
                " start again"
            )
        time.sleep(0.2)
    return str(facts["id"])


def list_left(config: CrossvalConfig, tasks: Sequence[FoldTask]) -> list[FoldTask]:
    """Those that are not predicted yet: only they still need their sets."""
    return [task for task in tasks if not is_predicted(config, task)]


def count_ranks() -> int:
    """Ranks of this job."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def train_folds(config: CrossvalConfig, tasks: Sequence[FoldTask], run: Run) -> None:
    """`train_fold` for all tasks, `config.processes` at once. `run` is that of the whole."""
    tracking = run.child_tracking()
    if config.processes > 1:
        train_folds_at_once(config, tasks, tracking)
        return
    for task in tasks:
        train_fold(config, task, tracking)


def train_fold(config: CrossvalConfig, task: FoldTask, tracking: TrackingConfig) -> Path:
    """Train and predict one fold, unless its predictions are there. Returns the predictions.

    All ranks call it. `tracking` is that of a child of the cross-validation's run.
    """
    from norface.training.run import run_stage
    from norface.training.stages.cla import ClaStage

    one = fold_config(config, task).model_copy(update={"tracking": tracking})
    tags = {"setting": task.setting, "fold": task.fold, "seed": str(task.seed)}
    started = time.monotonic()
    folder = run_stage(ClaStage, one, tags=tags)
    path = folder / PREDICTIONS_FILE
    # Ranks on other nodes may see a file later than rank 0: there predict_fold asks that one.
    if count_ranks() > 1 or not path.exists():
        predict_fold(one, folder, started=started)
    else:
        record_fold(folder, tracking)
    return path


def train_folds_at_once(
    config: CrossvalConfig, tasks: Sequence[FoldTask], tracking: TrackingConfig
) -> None:
    """`train_fold` for all tasks, several at a time; what they print goes to log.txt of each fold.

    The first error ends the others' waiting, and is raised.
    """
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        config.processes, context, initializer=use_one_thread
    )
    try:
        with Progress("crossval", len(tasks), "fold") as progress:
            futures = [pool.submit(train_fold_quietly, config, task, tracking) for task in tasks]
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.advance()
    finally:
        pool.shutdown(cancel_futures=True)


def use_one_thread() -> None:
    """Processes that share a machine get a core each."""
    import torch

    torch.set_num_threads(1)


def train_fold_quietly(config: CrossvalConfig, task: FoldTask, tracking: TrackingConfig) -> None:
    """`train_fold`, its output in the fold's folder."""
    path = config.folder / task.name / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        train_fold(config, task, tracking)


def predict_fold(
    config: ClaConfig,
    folder: Path,
    backend: Backend | None = None,
    *,
    started: float | None = None,
) -> Path:
    """Predictions of a finished `cla` run for its fold's test subjects, unless they are there.

    Returns their file. `started`, on the clock of time.monotonic, is when the fold began.
    """
    from norface.training.run import running_backend
    from norface.training.stages.cla import ClaStage

    if backend is None:
        with running_backend(config.backend) as own:
            return predict_fold(config, folder, own, started=started)
    path = folder / PREDICTIONS_FILE
    if not on_main(backend, path.exists):
        stage = ClaStage(config, backend)
        stage.load_exported(folder)
        table = stage.predict("test")

        def write() -> None:
            # The time first: a fold counts as done once its predictions are there.
            took = {"seconds": round(time.monotonic() - started, 2)} if started else {}
            with replacing(folder / FOLD_FILE) as aside:
                aside.write_text(json.dumps(took) + "\n", encoding="utf-8")
            write_predictions(table, path, task=config.task)

        on_main(backend, write)
    on_main(backend, lambda: record_fold(folder, config.tracking))
    return path
