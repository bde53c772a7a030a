"""Metrics from predictions alone, ours or somebody else's.

Each PREDICTIONS is a parquet file with the columns key, subject, fold, target, truth, score. Files
of different folds are averaged; files of the same fold count as seeds of one setting.

Example:
    norface evaluate runs/crossval/without/seed0/*/predictions.parquet
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("predictions", nargs="+", type=Path, metavar="PREDICTIONS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")


def run(args: argparse.Namespace) -> None:
    """Print one table over all files."""
    from norface.errors import CorpusError
    from norface.evaluation.predictions import read_predictions
    from norface.evaluation.summary import format_summary, summarize

    folds: dict[str, list] = {}
    tasks = set()
    for path in args.predictions:
        table, task = read_predictions(path)
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
