"""Metrics from predictions alone, ours or somebody else's; or of normalized sets.

Each PREDICTIONS is a parquet file with the columns key, subject, fold, target, truth, score, or the
folder of a finished `norface train cla`, whose test subjects are then predicted first. Files of
different folds are averaged; files of the same fold count as seeds of one setting.

`normalization key=value ...` measures normalized sets beside the originals that they were made
from: identity, expression, pose and background, realism, and on synthetic faces the error against
the true ones, with intervals and paired t-tests between sets. Pictures that another normalizer made
join as a set by `norface prepare normalized`.

Example:
  norface evaluate runs/crossval/without/seed0/*/predictions.parquet
  norface evaluate normalization shards=shards/folds sets.ours=normalized/TARGET/GENERATOR \\
      truth=normalized/TARGET/truth --out table.md --out figures.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from norface.cli.evaluate_normalization import NORMALIZATION, run_normalization

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "predictions", nargs="+", metavar="PREDICTIONS", help=f"files; or {NORMALIZATION} key=value"
    )
    parser.add_argument(
        "--task",
        choices=("au", "intensity", "emotion"),
        help="of files that do not say it (default: guessed from their targets and truths)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help=f"{NORMALIZATION}: yaml with the settings"
    )
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"{NORMALIZATION}: also write the tables, as .md, .csv or .json; may come twice",
    )


def run(args: argparse.Namespace) -> None:
    """Print one table over all files, or the figures of sets."""
    if args.predictions[0] == NORMALIZATION:
        run_normalization(args.predictions[1:], args)
        return
    from norface.errors import ConfigError, CorpusError
    from norface.evaluation.predictions import read_predictions
    from norface.evaluation.summary import format_summary, summarize
    from norface.tracking import replacing

    folds: dict[str, list[pd.DataFrame]] = {}
    tasks = set()
    if args.config or args.out:
        raise ConfigError(f"--config and --out are for `norface evaluate {NORMALIZATION}`")
    for path in map(Path, args.predictions):
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
        with replacing(args.json) as aside:
            aside.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def predict_if_needed(folder: Path) -> Path:
    """The predictions of a run folder of stage `cla`, made now where they are not there."""
    from norface.config import load_config
    from norface.evaluation.collecting import PREDICTIONS_FILE
    from norface.evaluation.protocols import predict_fold
    from norface.training.stages.cla_config import ClaConfig

    if (folder / PREDICTIONS_FILE).exists():
        return folder / PREDICTIONS_FILE
    return predict_fold(load_config(ClaConfig, folder / "config.yaml"), folder)
