"""Cross-validation: settings x seeds x subject-exclusive folds of the classifier.

    ROOT/NAME/
        config.yaml  run.json      the whole, MLflow's parent run
        crossval.json              figures of every setting with intervals, and their differences
        SETTING/seedS/FOLD/        one run of stage `cla` with predictions.parquet, a child run

A fold whose predictions are there is not trained again, so folds can also be jobs of their own
(`only=["test=part2"]`), and the last one, or a run over all, summarizes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field, field_validator

from norface.config import Config
from norface.errors import ConfigError, LaunchError
from norface.evaluation.predictions import read_predictions, write_predictions
from norface.evaluation.statistics import MAIN_METRIC, compare_settings
from norface.evaluation.summary import Folds, align_columns, format_summary, sum_folds, summarize
from norface.progress import Progress
from norface.tracking import Run, TrackingConfig, open_run
from norface.training.backends.base import Backend
from norface.training.stages.cla_config import ClaConfig

PREDICTIONS_FILE, RESULT_FILE, LOG_FILE = "predictions.parquet", "crossval.json", "log.txt"


class Setting(Config):
    """What one setting gives the classifier beside the originals."""

    normalized: list[Path] = []
    "Normalized sets; {fold} stands for the fold's name."
    features: Path | None = None
    "Features in the place of normalized pictures."


class CrossvalConfig(Config):
    """Settings of `norface crossval`."""

    name: str = "crossval"
    "Name of the cross-validation: its folder is ROOT/NAME."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    cla: ClaConfig = ClaConfig()
    "The classifier; name, root, seed, data.fold, data.normalized and data.features are set here."
    settings: dict[str, Setting] = Field({"without": Setting()}, min_length=1)
    "Name => what is compared; null = originals only, a folder = a set, a file = features."
    seeds: list[int] = Field([0], min_length=1)
    "Seeds of training; figures are means over them."
    only: list[str] | None = None
    "Folds to train now; null = all. The summary is written once all are there."
    processes: int = Field(1, ge=1)
    "Folds that train at once on this machine, each in a process of its own with one thread."
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("settings", mode="before")
    @classmethod
    def _read_short_forms(cls, settings: Any) -> Any:
        if not isinstance(settings, Mapping):
            return settings
        return {name: _read_setting(value) for name, value in settings.items()}

    @property
    def folder(self) -> Path:
        """ROOT/NAME."""
        return self.root / self.name


def _read_setting(value: Any) -> Any:
    if value is None:
        return {}
    if isinstance(value, str | Path):
        is_file = str(value).endswith((".npz", ".parquet"))
        return {"features": value} if is_file else {"normalized": [value]}
    return {"normalized": value} if isinstance(value, list) else value


def fold_config(config: CrossvalConfig, setting: str, seed: int, fold: str) -> ClaConfig:
    """The stage's config of one fold."""
    chosen = config.settings[setting]
    data = {"fold": fold, "normalized": chosen.normalized, "features": chosen.features}
    return config.cla.model_copy(
        update={
            "name": str(Path(config.name) / setting / f"seed{seed}" / fold),
            "root": config.root,
            "seed": seed,
            "data": config.cla.data.model_copy(update=data),
        }
    )


def list_folds(config: CrossvalConfig) -> list[str]:
    """Names of all folds. Raises ConfigError where `only` names another."""
    from norface.data.shards import ShardIndex
    from norface.training.stages.cla_folds import open_folds

    data = config.cla.data
    index = ShardIndex.open(data.shards, cache=data.cache_folder)
    names = [fold.name for fold in open_folds(data, index)]
    for wanted in config.only or []:
        if wanted not in names:
            raise ConfigError(f"only: found '{wanted}'; there are: {', '.join(names)}")
    return names


def cross_validate(config: CrossvalConfig) -> dict[str, Any]:
    """Train what is missing and summarize. Returns the contents of crossval.json.

    One process; several ranks are for single folds (`norface train cla`). Raises LaunchError.

    {"settings": {name: summary}, "differences": {"b - a": interval}, "seconds": {name: mean of a
    fold}, ...}; without "settings" while other jobs' folds are still missing.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise LaunchError(
            "crossval runs in one process; give folds to several jobs with only=[...], or train"
            " single folds on several ranks with norface train cla"
        )
    names = list_folds(config)
    with open_run(
        config.folder, kind="crossval", tracking=config.tracking, root=config.root, config=config
    ) as run:
        tasks = [
            FoldTask(config, run.child_tracking(), setting, seed, fold)
            for seed in config.seeds
            for setting in config.settings
            for fold in config.only or names
        ]
        if config.processes == 1:
            for task in tasks:
                train_fold(task)
        else:
            train_folds_at_once(tasks, config.processes)
        result = collect(config, names)
        if "settings" in result:
            log_result(run, config, result)
    return result


class FoldTask(NamedTuple):
    """One fold to train and predict."""

    config: CrossvalConfig
    tracking: TrackingConfig
    "That of a child of the cross-validation's run."
    setting: str
    seed: int
    fold: str


def train_fold(task: FoldTask) -> Path:
    """Train and predict one fold, unless its predictions are there. Returns the predictions."""
    from norface.training.run import run_stage
    from norface.training.stages.cla import ClaStage

    one = fold_config(task.config, task.setting, task.seed, task.fold)
    tags = {"setting": task.setting, "fold": task.fold, "seed": str(task.seed)}
    one = one.model_copy(update={"tracking": task.tracking})
    started = time.monotonic()
    folder = run_stage(ClaStage, one, tags=tags)
    path = folder / PREDICTIONS_FILE
    if not path.exists():
        predict_fold(one, folder)
        about = {"seconds": round(time.monotonic() - started, 2)}
        (folder / "fold.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    return path


def train_folds_at_once(tasks: Sequence[FoldTask], processes: int) -> None:
    """`train_fold` for all tasks, several at a time; what they print goes to log.txt of each fold.

    The first error ends the others' waiting, and is raised.
    """
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, initializer=use_one_thread)
    try:
        with Progress("crossval", len(tasks), "fold") as progress:
            futures = [pool.submit(train_fold_quietly, task) for task in tasks]
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.advance()
    finally:
        pool.shutdown(cancel_futures=True)


def use_one_thread() -> None:
    """Processes that share a machine get a core each."""
    import torch

    torch.set_num_threads(1)


def train_fold_quietly(task: FoldTask) -> None:
    """`train_fold`, its output in the fold's folder."""
    one = fold_config(task.config, task.setting, task.seed, task.fold)
    path = one.root / one.name / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        train_fold(task)


def predict_fold(config: ClaConfig, folder: Path, backend: Backend | None = None) -> Path:
    """Predictions of a finished `cla` run for its fold's test subjects; returns their file."""
    from norface.training.backends.base import build_backend
    from norface.training.stages.cla import ClaStage

    own = build_backend(config.backend) if backend is None else backend
    try:
        stage = ClaStage(config, own)
        stage.load_exported(folder)
        table = stage.predict("test")
        if own.is_main:
            write_predictions(table, folder / PREDICTIONS_FILE, task=config.task)
        own.barrier()
    finally:
        if backend is None:
            own.close()
    return folder / PREDICTIONS_FILE


def collect(config: CrossvalConfig, names: list[str]) -> dict[str, Any]:
    """Read every fold's predictions and write crossval.json once all are there."""
    tables: dict[str, dict[str, list[pd.DataFrame]]] = {}
    seconds: dict[str, list[float]] = {}
    missing = []
    for setting in config.settings:
        folds = tables.setdefault(setting, {})
        for fold in names:
            for seed in config.seeds:
                folder = config.folder / setting / f"seed{seed}" / fold
                if not (folder / PREDICTIONS_FILE).exists():
                    missing.append(f"{setting}/seed{seed}/{fold}")
                    continue
                folds.setdefault(fold, []).append(read_predictions(folder / PREDICTIONS_FILE)[0])
                about = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
                seconds.setdefault(setting, []).append(about["seconds"])
    if missing:
        return {"missing": missing}
    result = summarize_settings(tables, config.cla.task)
    result["seconds"] = {name: sum(each) / len(each) for name, each in seconds.items()}
    path = config.folder / RESULT_FILE
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)
    return result


def summarize_settings(tables: Mapping[str, Folds], task: str) -> dict[str, Any]:
    """Settings with their folds' predictions => summaries, and each setting against the first."""
    first, *others = tables
    metric = MAIN_METRIC[task]
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
    run.log(values, step=0)
    run.log_artifact(config.folder / RESULT_FILE)


def format_result(result: Mapping[str, Any]) -> str:
    """Tables of all settings and their differences, for the terminal."""
    if "missing" in result:
        return f"{len(result['missing'])} folds are not trained yet, first {result['missing'][0]}"
    parts = [format_summary(name, summary) for name, summary in result["settings"].items()]
    if result["differences"]:
        rows = [["difference", result["metric"] + " in points", "95 % interval"]]
        for name, found in result["differences"].items():
            low, value, high = (100 * found[part] for part in ("low", "value", "high"))
            rows.append([name, f"{value:+.1f}", f"{low:+.1f} to {high:+.1f}"])
        parts.append("\n".join(align_columns(rows)))
    return "\n\n".join(parts)
