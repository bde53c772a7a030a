"""Metrics from predictions alone, ours or somebody else's.

Each PREDICTIONS is a parquet file with the columns key, subject, fold, target, truth, score, or the
folder of a finished `norface train cla`, whose test subjects are then predicted first. Files of
different folds are averaged; files of the same fold count as seeds of one setting.

Example:
    norface evaluate runs/crossval/without/seed0/*/predictions.parquet
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("predictions", nargs="+", type=Path, metavar="PREDICTIONS")
    parser.add_argument(
        "--task",
        choices=("au", "intensity", "emotion"),
        help="of files that do not say it (default: guessed from their targets and truths)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")


def run(args: argparse.Namespace) -> None:
    """Print one table over all files."""
    from norface.errors import CorpusError
    from norface.evaluation.predictions import read_predictions
    from norface.evaluation.summary import format_summary, summarize

    folds: dict[str, list[pd.DataFrame]] = {}
    tasks = set()
    for path in args.predictions:
        table, task = read_predictions(
            predict_if_needed(path) if path.is_dir() else path, args.task
        )
        tasks.add(task)
        for fold, part in table.groupby("fold", sort=False):
            folds.setdefault(str(fold), []).append(part)
    if len(tasks) > 1:
        raise CorpusError(f"files of different tasks: {', '.join(sorted(tasks))}; evaluate apart")
    if len({len(tables) for tables in folds.values()}) > 1:
        counts = ", ".join(f"{fold} {len(tables)}" for fold, tables in folds.items())
        raise CorpusError(f"the folds have different numbers of files ({counts}); give all seeds")
    summary = summarize(folds, tasks.pop())
    print(format_summary("predictions", summary))
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def predict_if_needed(folder: Path) -> Path:
    """The predictions of a run folder of stage `cla`, made now where they are not there."""
    from norface.config import load_config
    from norface.evaluation.collecting import PREDICTIONS_FILE
    from norface.evaluation.protocols import predict_fold
    from norface.training.stages.cla_config import ClaConfig

    if (folder / PREDICTIONS_FILE).exists():
        return folder / PREDICTIONS_FILE
    return predict_fold(load_config(ClaConfig, folder / "config.yaml"), folder)
